# SPDX-License-Identifier: Apache-2.0
"""What an engine reports: start and end of every task, and how many events it took."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from commbench.network.base import Counted

__all__ = ["Trace"]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Result of running a program.

    Attributes:
        start_ps, end_ps: int64 arrays of shape (num_tasks,): when the task became ready, and when it was done; empty
            where an engine was asked for the finish only.
        num_shares: how often the network was asked anew; exact, so that tests can pin it.
        counted: what the network model has counted on every link; empty where it counts nothing.
        finish_ps: when the last task was done; 0 for an empty program.
    """

    start_ps: npt.NDArray[np.int64]
    end_ps: npt.NDArray[np.int64]
    num_shares: int
    finish_ps: int
    counted: Counted = field(default_factory=dict)
