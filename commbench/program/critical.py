# SPDX-License-Identifier: Apache-2.0
"""The critical path: the chain of tasks, each started by the end of the one before, that ends last."""

import numpy as np
import numpy.typing as npt

from commbench.program.flat import FlatProgram

__all__ = ["critical_path"]

IntArray = npt.NDArray[np.int64]


def critical_path(program: FlatProgram, end_ps: IntArray) -> list[int]:
    """Task numbers from the first to the last; of several that end together, the lowest number.

    Args:
        program: the tasks.
        end_ps: when each was done, shape (num_tasks,), from an engine's trace.
    """
    if program.num_tasks == 0:
        return []
    path = [int(end_ps.argmax())]
    while True:
        needs = program.needs[program.first[path[-1]] : program.first[path[-1] + 1]]
        if len(needs) == 0:
            return path[::-1]
        path.append(int(needs[end_ps[needs].argmax()]))
