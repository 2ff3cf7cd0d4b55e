# SPDX-License-Identifier: Apache-2.0
"""What an engine reports: start and end of every task, and how many events it took."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError

__all__ = ["LAST_PS", "Trace", "too_long"]

LAST_PS = 2**63 - 1
"""The last simulated time that int64 picoseconds can tell."""


def too_long() -> InputError:
    """The error of a simulation that passes it."""
    return InputError(f"simulated time passes {LAST_PS} ps (106 days), the end of 64 bits: give smaller sizes")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Result of running a program.

    Attributes:
        start_ps, end_ps: int64 arrays of shape (num_tasks,): when the task became ready, and when it was done; empty
            where an engine was asked for the finish only.
        num_shares: how often the fair shares were computed; exact, so that tests can pin it.
        finish_ps: when the last task was done; 0 for an empty program.
    """

    start_ps: npt.NDArray[np.int64]
    end_ps: npt.NDArray[np.int64]
    num_shares: int
    finish_ps: int
