# SPDX-License-Identifier: Apache-2.0
"""commbench: measure, simulate and validate collective communication.

What simulates stands here, and what reads results files: :func:`frame`, a pandas DataFrame, and for notebooks ``read``
and ``plot``; everything else is imported from its room (docs/layout.md). Importing ``commbench`` loads neither torch
nor matplotlib nor numba nor pandas.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd

    from commbench.cluster import Cluster, make_cluster
    from commbench.door import Result, simulate
    from commbench.libraries.gloo import GlooLibrary
    from commbench.libraries.ideal import Ideal
    from commbench.program.of_collective import collective_program
    from commbench.program.operations import Collective, ProgramBuilder, Transfer
    from commbench.report.notebook import Results, plot, read

__version__ = "0.1.0"
__all__ = [
    "Cluster",
    "Collective",
    "GlooLibrary",
    "Ideal",
    "ProgramBuilder",
    "Result",
    "Results",
    "Transfer",
    "__version__",
    "collective_program",
    "frame",
    "load_cluster",
    "make_cluster",
    "plot",
    "read",
    "simulate",
]

_ROOMS = {
    "Cluster": "cluster",
    "Collective": "program.operations",
    "GlooLibrary": "libraries.gloo",
    "Ideal": "libraries.ideal",
    "ProgramBuilder": "program.operations",
    "Result": "door",
    "Results": "report.notebook",
    "Transfer": "program.operations",
    "collective_program": "program.of_collective",
    "make_cluster": "cluster",
    "plot": "report.notebook",
    "read": "report.notebook",
    "simulate": "door",
}


def __getattr__(name: str) -> Any:
    """A name of the door, whose room is loaded when it is first asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"commbench has no {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"commbench.{_ROOMS[name]}"), name)


def load_cluster(name_or_path: "str | PathLike[str]", **options: Any) -> "Cluster":
    """The cluster of that name in ``topologies/``, or of the file at that path.

    Args:
        name_or_path: for example "dgx-h100-x4".
        options: ``num_ranks``, ``placement``, ``ranks_per_host``, ``routing`` and ``seed`` of
            :func:`commbench.cluster.make_cluster`.

    Raises:
        TopologyError: no such file, or one that breaks a rule. InputError: ranks that cannot be placed so.
    """
    from commbench.cluster import make_cluster
    from commbench.topology.load import load_fabric

    return make_cluster(load_fabric(name_or_path), **options)  # type: ignore[arg-type]


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
