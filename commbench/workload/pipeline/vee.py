# SPDX-License-Identifier: Apache-2.0
"""Schedules in the shape of a V: rank r holds stage r on the way down and stage 2p - 1 - r on the way back.

The last rank hands a microbatch to itself, so the loss stands on rank 0. Orders equal those of
torch.distributed.pipelining 2.13 (a test compares them).
"""

from collections import Counter, deque

from commbench.workload.pipeline.schedule import Action, Overlap, Pass, Step

__all__ = ["dualpipe_v", "zbv"]

F, B, I, W = Pass.FORWARD, Pass.BACKWARD, Pass.INPUT, Pass.WEIGHT  # noqa: E741  # the field's letters


class _Rank:
    """Appends passes of a rank's two stages, counting microbatches per stage and pass."""

    def __init__(self, p: int, rank: int) -> None:
        self.stages = (rank, 2 * p - 1 - rank)
        self.steps: list[Step] = []
        self.counts: Counter[tuple[int, Pass]] = Counter()
        self.pending: deque[Action] = deque()  # weight gradients whose input gradient is done, oldest first

    def next(self, half: int, kind: Pass) -> Action:
        """The next microbatch of a pass, 0 for the way down and 1 for the way back; B counts as I."""
        key = (half, I if kind is B else kind)
        self.counts[key] += 1
        return Action(self.stages[half], kind, self.counts[key] - 1)

    def add(self, half: int, *kinds: Pass) -> None:
        for kind in kinds:
            action = self.next(half, kind)
            self.steps.append(action)
            if kind is I:
                self.pending.append(Action(action.stage, W, action.microbatch))

    def overlap(self, forward_half: int) -> None:
        self.steps.append(Overlap(self.next(forward_half, F), self.next(1 - forward_half, B)))

    def add_pending(self) -> None:
        if self.pending:
            self.steps.append(self.pending.popleft())


def zbv(p: int, m: int, v: int, rank: int) -> list[Step]:
    """ZB-V (arXiv 2401.10241, section 6), made for F = I = W: at least 2p - 1 microbatches, those above m left out."""
    made = max(2 * p - 1, m)
    order = _Rank(p, rank)
    counts = order.counts
    for _ in range(2 * (p - rank) - 1):
        order.add(0, F)
    for _ in range(rank):
        order.add(1, F)
        order.add(0, F)
    for _ in range(p - rank):
        order.add(1, F, I, W)
    while counts[1, F] < counts[0, F] or counts[0, F] < made:
        if counts[0, F] < made:
            order.add(0, F)
        order.add(0, I, W)
        order.add(1, F, I, W)
    for _ in range(rank):
        order.add(0, I)
        order.add(1, I)
    for _ in range(p - rank):
        order.add(0, I, W)
    for half in (1, 0):
        while counts[half, W] < counts[half, I]:
            order.add(half, W)
    return [step for step in order.steps if all(action.microbatch < m for action in step.parts)]


def dualpipe_v(p: int, m: int, v: int, rank: int) -> list[Step]:
    """DualPipeV (github.com/deepseek-ai/DualPipe, dualpipev.py; arXiv 2412.19437, section 3.2.1); needs m >= 2p."""
    order = _Rank(p, rank)
    for _ in range(2 * (p - rank - 1)):
        order.add(0, F)
    for _ in range(rank + 1):
        order.add(0, F)
        order.add(1, F)
    for _ in range(p - rank - 1):
        order.add(1, I)
        order.add_pending()
        order.add(1, F)
    for i in range(m - 2 * p + rank + 1):
        if i == 0 and rank == p - 1:  # not overlapped there: the bubble is smaller so
            order.add(0, F)
            order.add(1, B)
        else:
            order.overlap(0)
        order.overlap(1)
    for _ in range(p - rank - 1):
        order.add(1, B)
        order.overlap(1)
    _drain(order, p, rank)
    return order.steps


def _drain(order: _Rank, p: int, rank: int) -> None:
    """The last backwards: whole ones first, from the middle on split, and at the end the weight gradients left."""
    half = (rank + 1) // 2
    for i in range(rank + 1):
        order.add(1, I if i > half or (i == half and rank % 2 == 1) else B)
        order.add(0, I if i >= half else B)
    for _ in range(p - rank - 1):
        order.add_pending()
        order.add(0, I)  # half < rank + 1 always, so the split has begun
    for _ in range(rank + 1):
        order.add_pending()
