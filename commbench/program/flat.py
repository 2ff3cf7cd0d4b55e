# SPDX-License-Identifier: Apache-2.0
"""What engines run: a program as flat integer arrays, one entry per task, dependencies in compressed rows."""

from dataclasses import dataclass

import numpy as np

from commbench.arrays import IntArray
from commbench.errors import InputError

__all__ = ["COLUMNS", "COMPUTE", "COUPLED", "TRANSFER", "FlatProgram", "compress"]

COMPUTE = 0
TRANSFER = 1
COUPLED = 2  # many transfers that advance together, as one flow with a weight on each link; see engine/SEMANTICS.md
COLUMNS = ("kind", "rank", "peer", "num_bytes", "duration_ps", "channel", "step", "operation")
"""What a task is, beside what it waits for."""


@dataclass(frozen=True, slots=True, eq=False)
class FlatProgram:
    """Tasks 0..num_tasks-1; all arrays have shape (num_tasks,) unless said otherwise.

    Attributes:
        num_ranks: world size.
        kind: COMPUTE, TRANSFER or COUPLED.
        rank: where a compute task runs, or the sender of a transfer.
        peer: receiver of a transfer; -1 for compute.
        num_bytes: bytes of a transfer; 0 for compute.
        duration_ps: picoseconds of a compute task; 0 for transfers. A compute task of 0 ps is a pure join.
        channel: channel of a transfer (routes may differ by it); -1 elsewhere.
        step: step in its schedule; -1 elsewhere.
        operation: number of the Program operation that the task came from.
        first: shape (num_tasks + 1,); task t waits for ``needs[first[t]:first[t + 1]]``.
        needs: task numbers, shape (number of dependencies,).
    """

    num_ranks: int
    kind: IntArray
    rank: IntArray
    peer: IntArray
    num_bytes: IntArray
    duration_ps: IntArray
    channel: IntArray
    step: IntArray
    operation: IntArray
    first: IntArray
    needs: IntArray

    @property
    def num_tasks(self) -> int:
        """Tasks, transfers and compute together."""
        return len(self.kind)

    @property
    def num_transfers(self) -> int:
        """Transfers alone."""
        return int(np.count_nonzero(self.kind == TRANSFER))

    def dependents(self) -> tuple[IntArray, IntArray]:
        """The dependencies turned round: (first, tasks), in which row t lists the tasks that wait for t, ascending."""
        waiting = np.repeat(np.arange(self.num_tasks), np.diff(self.first))
        return compress(self.needs, waiting, self.num_tasks)

    def check_acyclic(self) -> None:
        """Raise if some tasks wait for each other in a circle.

        Raises:
            InputError: names a task in the circle.
        """
        missing = np.diff(self.first).tolist()
        first, tasks = (array.tolist() for array in self.dependents())
        ready = [t for t, count in enumerate(missing) if count == 0]
        for task in ready:  # grows while it is read
            for waiting in tasks[first[task] : first[task + 1]]:
                missing[waiting] -= 1
                if missing[waiting] == 0:
                    ready.append(waiting)
        if len(ready) < self.num_tasks:
            stuck = next(t for t, count in enumerate(missing) if count)
            raise InputError(f"task {stuck} (operation {self.operation[stuck]}) waits for itself in a circle")


def compress(row: IntArray, value: IntArray, num_rows: int) -> tuple[IntArray, IntArray]:
    """Pairs (row, value) as compressed rows: (first, values), values ascending inside each row."""
    order = np.lexsort((value, row))
    first = np.zeros(num_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=num_rows), out=first[1:])
    return first, value[order].astype(np.int64)
