# SPDX-License-Identifier: Apache-2.0
"""Does a schedule run every pass once, in an order that can end? And how many activations does it hold?

:func:`lockstep` runs a schedule with every step one tick long. It finds deadlocks, its ticks are the rows of the grid,
and row by row it is an order in which everything stands behind what it needs.
"""

from collections.abc import Sequence

import numpy as np

from commbench.errors import ScheduleError
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, Result, Step, gives, needs

__all__ = ["check_pipeline", "grid", "lockstep", "peak_activations"]

Row = tuple[Step | None, ...]
"""What each rank does in a tick; None where it waits or has ended."""


def check_pipeline(schedule: PipelineSchedule) -> None:
    """Raise unless every stage runs every microbatch forward once and backward once, in an order that ends.

    Raises:
        ScheduleError: a pass that is missing, twice or out of range, I without W, or a deadlock; names rank, place
            and action, and carries the step-by-rank grid.
    """
    head = f"pipeline schedule {schedule.name}:"
    seen: dict[Action, tuple[int, int]] = {}
    for rank, position, action in schedule.actions():
        place = f"rank {rank}, step {position}"
        if not 0 <= action.microbatch < schedule.num_microbatches:
            raise ScheduleError(f"{head} {place}: {action} is outside microbatches 0..{schedule.num_microbatches - 1}")
        if action in seen:
            first = "rank {}, step {}".format(*seen[action])
            raise ScheduleError(f"{head} {place}: {action} is there twice, first on {first}")
        seen[action] = (rank, position)
    for stage in range(schedule.num_stages):
        for microbatch in range(schedule.num_microbatches):
            kinds = {kind for kind in Pass if Action(stage, kind, microbatch) in seen}
            if Pass.FORWARD not in kinds:
                raise ScheduleError(
                    f"{head} stage {stage} skips microbatch {microbatch}: {stage}F{microbatch} is missing"
                )
            if kinds - {Pass.FORWARD} not in ({Pass.BACKWARD}, {Pass.INPUT, Pass.WEIGHT}):
                found = "".join(sorted(kinds - {Pass.FORWARD})) or "nothing"
                raise ScheduleError(
                    f"{head} stage {stage}, microbatch {microbatch}: backward must be B once, or I and W once each; "
                    f"found {found}"
                )
    lockstep(schedule)


def lockstep(schedule: PipelineSchedule) -> list[Row]:
    """Run the schedule with steps of one tick: a step starts one tick after its last input was made, or later.

    Raises:
        ScheduleError: a deadlock; names what every stuck rank waits for and carries the grid up to there.
    """
    there: set[Result] = set()
    done = [0] * schedule.num_ranks
    rows: list[Row] = []
    while any(at < len(order) for at, order in zip(done, schedule.orders, strict=True)):
        row = tuple(
            order[at] if at < len(order) and not _missing(order[at], schedule.num_stages, there) else None
            for at, order in zip(done, schedule.orders, strict=True)
        )
        if not any(row):
            raise _deadlock(schedule, done, there, rows)
        rows.append(row)
        for rank, step in enumerate(row):
            if step is not None:
                done[rank] += 1
                there.update(result for action in step.parts if (result := gives(action)))
    return rows


def _missing(step: Step, num_stages: int, there: set[Result]) -> list[Result]:
    return [result for action in step.parts for result in needs(action, num_stages) if result not in there]


def _deadlock(schedule: PipelineSchedule, done: list[int], there: set[Result], rows: list[Row]) -> ScheduleError:
    waiting, row = [], []
    for rank, (at, order) in enumerate(zip(done, schedule.orders, strict=True)):
        row.append(order[at] if at < len(order) else None)
        if at < len(order):
            kind, stage, microbatch = _missing(order[at], schedule.num_stages, there)[0]
            what = "F" if kind is Pass.FORWARD else "B or I"
            waiting.append(f"rank {rank} waits in {order[at]} for {what} of stage {stage}, microbatch {microbatch}")
    picture = _picture([*rows, tuple(row)], schedule.num_ranks, marked=len(rows))
    return ScheduleError(
        f"pipeline schedule {schedule.name}: deadlock after {len(rows)} ticks: {'; '.join(waiting)}", picture
    )


def grid(schedule: PipelineSchedule) -> str:
    """The step-by-rank picture: one row per tick, one column per rank, every step one tick long.

    Raises:
        ScheduleError: the schedule deadlocks.
    """
    return _picture(lockstep(schedule), schedule.num_ranks)


def _picture(rows: Sequence[Row], num_ranks: int, marked: int | None = None) -> str:
    table = [["", *(f"rank {rank}" for rank in range(num_ranks))]]
    table += [[f"step {i}", *("" if step is None else str(step) for step in row)] for i, row in enumerate(rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    if marked is not None:
        lines[marked + 1] += "  <-- stuck"
    return "\n".join(lines) + "\n"


def peak_activations(
    schedule: PipelineSchedule, stage_sizes: Sequence[int] | None = None, *, for_weights: bool = True
) -> tuple[int, ...]:
    """Per rank the most it holds at once for backward passes: an activation lives from F to the end of B or of W.

    Args:
        schedule: the orders.
        stage_sizes: what one microbatch leaves behind on each stage, for example in bytes; None counts each as 1.
        for_weights: whether W needs it; otherwise it lives to the end of I.
    """
    sizes = [1] * schedule.num_stages if stage_sizes is None else stage_sizes
    size_of, change = np.array(sizes, dtype=np.int64), {Pass.FORWARD: 1, Pass.BACKWARD: -1}
    change[Pass.WEIGHT if for_weights else Pass.INPUT] = -1
    signs = np.array([change.get(kind, 0) for kind in Pass], dtype=np.int64)
    return tuple(
        int(np.cumsum(size_of[stages] * signs[kinds]).max(initial=0)) for stages, kinds in schedule.columns
    )
