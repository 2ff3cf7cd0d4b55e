# SPDX-License-Identifier: Apache-2.0
"""The text form of a pipeline schedule: the CSV that torch.distributed.pipelining reads and writes.

One row per rank, one cell per step, empty cells where torch drew a pause::

    0F0,0F1,2F0,,2B0
    1F0,1F1,3F0,3B0,(1F1;3B0)OVERLAP_F_B

Both of torch's formats are read: in "compute_comms" the cells SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD and
REDUCE_GRAD stand between the passes. They are left out, because here communication follows from the order of the
passes, and are checked only for their form.
"""

import csv
import io
import re
import reprlib
from pathlib import Path

from commbench.errors import ScheduleError
from commbench.workload.pipeline.check import check_pipeline
from commbench.workload.pipeline.schedule import Action, Overlap, Pass, PipelineSchedule, Step

__all__ = ["from_csv", "read_pipeline", "to_csv"]

_PASS = re.compile(r"(\d+)([FBIW])(\d+)")
_COMMUNICATION = re.compile(r"\d+(SEND_F|RECV_F|SEND_B|RECV_B)\d+|\d+(UNSHARD|RESHARD|REDUCE_GRAD)\d*")
_OVERLAP = re.compile(r"\((.*);(.*)\)OVERLAP_F_B")
_LARGEST = 10**6  # stages and microbatches: a slip of the pen must not ask for terabytes
_LONGEST = 40  # characters of a pass: Python reads no number of thousands of digits


def to_csv(schedule: PipelineSchedule) -> str:
    """The schedule as torch's compute-only CSV, one row per rank."""
    return "".join(",".join(map(str, order)) + "\n" for order in schedule.orders)


def from_csv(text: str, place: str = "pipeline") -> PipelineSchedule:
    """The schedule in a CSV; ``place`` (a file name) becomes its name and opens every error message.

    The number of microbatches is the highest that is named; every stage must run all of them.

    Raises:
        ScheduleError: a cell that is no action, a microbatch that is skipped, a pass that is there twice, or a
            deadlock; names row, cell and action, and carries the grid.
    """
    orders = []
    for number, row in enumerate(_rows(text, place), 1):
        cells = ((i, cell.strip()) for i, cell in enumerate(row, 1))
        steps = (_step(cell, f"{place}, row {number}, cell {i}") for i, cell in cells if cell)
        orders.append(tuple(step for step in steps if step is not None))
    highest = max((a.microbatch for order in orders for step in order for a in step.parts), default=-1)
    if highest < 0:
        raise ScheduleError(f"{place}: holds no pass; a row per rank with cells like 0F0 is expected")
    schedule = PipelineSchedule(place, highest + 1, tuple(orders))
    check_pipeline(schedule)
    return schedule


def _rows(text: str, place: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise ScheduleError(f"{place}: is no CSV: {error}") from None


def read_pipeline(path: Path) -> PipelineSchedule:
    """The schedule in a CSV file.

    Raises:
        ScheduleError: the file cannot be read, or :func:`from_csv` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return from_csv(text, str(path))


def _step(cell: str, place: str) -> Step | None:
    """The step in a cell; None for communication."""
    if _COMMUNICATION.fullmatch(cell):
        return None
    if match := _OVERLAP.fullmatch(cell):
        first, second = (_action(part.strip(), place) for part in match.groups())
        if first.kind is not Pass.FORWARD or second.kind is not Pass.BACKWARD:
            raise ScheduleError(f"{place}: {reprlib.repr(cell)} must overlap an F with a B, in this order")
        return Overlap(first, second)
    return _action(cell, place)


def _action(text: str, place: str) -> Action:
    match = _PASS.fullmatch(text)
    if match is None:
        raise ScheduleError(
            f"{place}: {reprlib.repr(text)} is no action; an action is stage, pass (F, B, I or W) and microbatch, for "
            "example 2F0"
        )
    if len(text) > _LONGEST or max(int(match[1]), int(match[3])) > _LARGEST:
        raise ScheduleError(f"{place}: {reprlib.repr(text)} names a stage or microbatch above {_LARGEST}")
    return Action(int(match[1]), Pass(match[2]), int(match[3]))
