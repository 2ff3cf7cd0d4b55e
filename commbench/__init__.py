# SPDX-License-Identifier: Apache-2.0
"""commbench: measure, simulate and validate collective communication.

The package door is narrow on purpose: import what you need from its room, for example ``build_schedule`` from
``commbench.collectives.registry`` or ``simulate_collective`` from ``commbench.sim.collective``.
:func:`frame` alone stands here: results files as a pandas DataFrame. Importing ``commbench`` loads neither torch nor
matplotlib nor numba nor pandas.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd

__version__ = "0.1.0"
__all__ = ["__version__", "frame"]


def frame(files: "Sequence[str | PathLike[str]] | str | PathLike[str]", *, salvage: bool = False) -> "pd.DataFrame":
    """The records of results files as a DataFrame, one row a record; :mod:`commbench.results.frame` says its columns.

    Args:
        files: one or more, JSON Lines of run, sim and validate.
        salvage: skip lines that are no whole record instead of refusing the file.

    Raises:
        ResultsError: a file cannot be read, or a line is no whole record; names file, line and rule.
    """
    from pathlib import Path

    from commbench.results.frame import read_frame

    given = [files] if not isinstance(files, list | tuple) else files
    return read_frame([Path(file) for file in given], salvage=salvage)  # type: ignore[arg-type]
