# SPDX-License-Identifier: Apache-2.0
"""The page's tables of packet networks: what they say beside the fluid model, and where packets queued."""

from collections.abc import Sequence

from commbench.report.tables import (
    Cell,
    Field,
    Table,
    bytes_cell,
    count_cell,
    error_cell,
    named_sizes,
    size_columns,
    time_cell,
    word_cell,
)
from commbench.results.records import Record
from commbench.tables import Column

__all__ = ["QUEUE_FIELDS", "packet_tables"]

def _bad(count: int) -> Cell:
    return Cell(f"{count:,}", count, tone="bad" if count else "")


QUEUE_FIELDS: Sequence[Field] = (
    (Column("queue before link", numeric=False), lambda queue: word_cell(queue["link"])),
    (Column("deepest"), lambda queue: bytes_cell(queue["deepest_queue_bytes"])),
    (Column("marks"), lambda queue: count_cell(queue["marks"])),
    (Column("drops"), lambda queue: _bad(queue["drops"])),
    (Column("trims"), lambda queue: count_cell(queue.get("trims", 0))),
    (Column("pauses", "of the link"), lambda queue: count_cell(queue["pauses"])),
    (Column("paused"), lambda queue: time_cell(queue["paused_s"])),
)
"""What a record tells of a queue."""


def packet_tables(records: Sequence[Record]) -> list[Table]:
    """Both tables; none without packet networks."""
    return [table for table in (_beside_fluid(records), _queues(records)) if table is not None]


def _beside_fluid(records: Sequence[Record]) -> Table | None:
    columns = (
        *size_columns(),
        Column("network", numeric=False),
        Column("time"),
        Column("fluid model"),
        Column("difference", "to fluid"),
        Column("deepest queue"),
        Column("marks"),
        Column("pauses"),
        Column("paused", "all links"),
        Column("drops"),
        Column("trims"),
        Column("sent again"),
        Column("out of order"),
    )
    named = [pair for pair in named_sizes(records) if pair[0].fluid_time_s is not None]
    differences = [p.time_s / p.fluid_time_s - 1 if p.fluid_time_s else 0.0 for p, _ in named]
    reach = max((abs(each) for each in differences), default=0.0) or 1.0
    rows = [
        (
            *cells,
            word_cell(point.network),
            time_cell(point.time_s),
            time_cell(point.fluid_time_s or 0.0),
            error_cell(difference, reach),
            bytes_cell(point.counted["deepest_queue_bytes"]),
            *(count_cell(int(point.counted[name])) for name in ("marks", "pauses")),
            time_cell(point.counted["paused_s"]),
            _bad(int(point.counted["drops"])),
            count_cell(int(point.counted.get("trims", 0))),
            _bad(int(point.counted["repeated"])),
            count_cell(int(point.counted.get("reordered", 0))),
        )
        for (point, cells), difference in zip(named, differences, strict=True)
    ]
    return Table("packets", "Packets beside the fluid model", (), columns, tuple(rows)) if rows else None


def _queues(records: Sequence[Record]) -> Table | None:
    columns = (*size_columns(), *(column for column, _ in QUEUE_FIELDS))
    rows = [
        (*cells, *(make(queue) for _, make in QUEUE_FIELDS))
        for point, cells in named_sizes(records)
        for queue in point.queues
    ]
    return Table("queues", "Deepest queues by simulated size", (), columns, tuple(rows)) if rows else None
