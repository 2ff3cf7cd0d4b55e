# SPDX-License-Identifier: Apache-2.0
"""The critical path: the chain of tasks, each started by the end of the one before, that ends last."""


from commbench.arrays import IntArray
from commbench.program.flat import FlatProgram

__all__ = ["critical_path"]


def critical_path(program: FlatProgram, end_ps: IntArray) -> list[int]:
    """Task numbers from the first to the last; of several that end together, the lowest number.

    Args:
        program: the tasks.
        end_ps: when each was done, shape (num_tasks,), from an engine's trace.
    """
    if program.num_tasks == 0:
        return []
    first, needs, ends = program.first.tolist(), program.needs.tolist(), end_ps.tolist()
    path = [int(end_ps.argmax())]
    while True:
        before = needs[first[path[-1]] : first[path[-1] + 1]]
        if not before:
            return path[::-1]
        path.append(max(before, key=ends.__getitem__))  # of equal ones the first, which is the lowest
