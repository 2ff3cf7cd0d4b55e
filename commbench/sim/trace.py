# SPDX-License-Identifier: Apache-2.0
"""What an engine reports: start and end of every task, and how many events it took."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Trace"]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Result of running a FlatProgram.

    Attributes:
        start_ps, end_ps: int64 arrays of shape (num_tasks,): when the task became ready, and when it was done.
        num_shares: how often the fair shares were computed; exact, so that tests can pin it.
    """

    start_ps: npt.NDArray[np.int64]
    end_ps: npt.NDArray[np.int64]
    num_shares: int

    @property
    def finish_ps(self) -> int:
        """When the last task was done; 0 for an empty program."""
        return int(self.end_ps.max(initial=0))
