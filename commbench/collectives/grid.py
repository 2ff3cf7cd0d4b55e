# SPDX-License-Identifier: Apache-2.0
"""The one picture of a schedule: a grid of steps (rows) by ranks (columns), with a marker at the place of a failure."""

from commbench.collectives.schedule import Op, Schedule

__all__ = ["step_by_rank"]


def step_by_rank(schedule: Schedule, mark: Op | None = None, max_steps: int = 40, max_ranks: int = 16) -> str:
    """The grid as text.

    A cell lists operations as ``chunk>peer`` (send), ``chunk<peer`` (receive) and ``chunk+peer`` (receive and add);
    ``*`` opens the cell that holds the operation ``mark``. Grids larger than ``max_steps`` by ``max_ranks`` are cut
    around the mark (else from the start), and a last line says so.
    """
    cells: dict[tuple[int, int], list[str]] = {}
    for op in schedule:
        text = str(op) if schedule.num_channels == 1 else f"{op}/{op.channel}"
        cells.setdefault((op.step, op.rank), []).append(text)
    steps = _window(schedule.num_steps, max_steps, mark.step if mark else 0)
    members = schedule.num_ranks + schedule.num_switches
    ranks = _window(members, max_ranks, mark.rank if mark else 0)
    rows = [["step", *(f"{'rank' if r < schedule.num_ranks else 'switch'} {r}" for r in ranks)]]
    for step in steps:
        row = [str(step)]
        for rank in ranks:
            marker = "*" if mark is not None and (step, rank) == (mark.step, mark.rank) else ""
            row.append(marker + (" ".join(cells.get((step, rank), [])) or "."))
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(steps) < schedule.num_steps or len(ranks) < members:
        lines.append(f"(shown: {len(steps)} of {schedule.num_steps} steps, {len(ranks)} of {members} ranks)")
    return "\n".join(lines)


def _window(total: int, most: int, centre: int) -> range:
    """At most ``most`` consecutive numbers out of range(total) with ``centre`` among them."""
    first = max(0, min(centre - most // 2, total - most))
    return range(first, min(total, first + most))
