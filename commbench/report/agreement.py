# SPDX-License-Identifier: Apache-2.0
"""The page of a campaign in labs: predicted against measured, errors by size and fabric, and every point in a table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.report.axes import log_time_axis, size_axis
from commbench.report.facts import Fact
from commbench.report.figures import BAND, columns_for
from commbench.report.headlines import verdicts
from commbench.report.html import fill_page, write_page
from commbench.report.identity import base_name
from commbench.report.style import (
    GRID,
    MUTED,
    PAPER,
    WIDTH,
    Picture,
    bare_axes,
    css_variable,
    drawing,
    new_figure,
    series_colour,
    series_marker,
    to_picture,
)
from commbench.report.tables import (
    Cell,
    Column,
    Table,
    bytes_cell,
    count_cell,
    error_cell,
    group_table,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from commbench.validate.lab_judge import Agreement, LabPoint

__all__ = ["render_agreement", "write_agreement"]

_KINDS: Mapping[bool, str] = {False: "No link shared", True: "Links shared"}


def write_agreement(found: "Agreement", path: Path, *, command: str, notes: Sequence[str] = ()) -> Path:
    """Write the page and return its path.

    Raises:
        InputError: the file cannot be written.
    """
    return write_page(render_agreement(found, command=command, notes=notes), path)


def render_agreement(found: "Agreement", *, command: str, notes: Sequence[str] = ()) -> str:
    """The page as HTML text; it fetches nothing and is the same for the same input."""
    algorithms = _numbered(base_name(p.compared) for p in found.used)
    groups = [t for c, s in found.summaries.items() if (t := group_table(s, f"groups{int(c)}"))]
    names = [_KINDS[c] for c in found.summaries]
    said = [(_KINDS[c], verdicts([s])[0]) for c, s in found.summaries.items()]
    return fill_page(
        "agreement.html.j2",
        {
            "over": "commbench validate --emulated",
            "title": "Simulated against emulated fabrics",
            "verdicts": [replace(verdict, word=f"{kind}: {verdict.word.lower()}") for kind, verdict in said],
            "facts": _facts(found),
            "notes": notes,
            "scatter": _scatters(found.used, algorithms),
            "errors": _errors(found.used, algorithms),
            "columns": columns_for(len({p.compared.topology for p in found.used})),
            "band": f"{BAND:.0%}".replace("%", " %"),
            "algorithms": [(name, css_variable(series_colour(number))) for name, number in algorithms.items()],
            "points": _point_table("points", found.used),
            "busy": _point_table("busy", found.busy) if found.busy else None,
            "groups": list(zip(names, groups, strict=True)),
            "command": command,
        },
    )


def _facts(found: "Agreement") -> list[Fact]:
    latency_us, overhead_us = found.transport.latency_ps / 1e6, found.transport.overhead_ps / 1e6
    return [
        Fact(
            "Measured",
            "torch.distributed on gloo over real TCP, one rank in each host of a fabric of network namespaces",
        ),
        Fact("Simulated", f'the same schedules on the same fabric and paths, over "{found.transport.name}"'),
        Fact(
            "Fitted",
            f"latency {latency_us:.0f} µs and processor time {overhead_us:.1f} µs of a message, on gloo's own "
            "all-reduce on one star alone (fit points, hollow)",
        ),
    ]


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Each name once, in the order of first appearance, with its number."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _scatters(points: "Sequence[LabPoint]", algorithms: Mapping[str, int]) -> list[Picture]:
    """Simulated by measured time, on one pair of axes for each kind of points."""
    times = [t for p in points for t in (p.compared.measured_s, p.compared.simulated_s)]
    pictures = []
    with drawing():
        for contended, title in _KINDS.items():
            figure = new_figure((WIDTH - 28) // 2, 420)
            axes = bare_axes(figure, left=64, right=12, top=10, bottom=44)
            _draw_scatter(axes, [p for p in points if p.contended is contended], algorithms, (min(times), max(times)))
            name = f"scatter{int(contended)}"
            pictures.append(
                to_picture(figure, name, title=title, detail="simulated (up) by measured (right), both logarithmic")
            )
    return pictures


def _draw_scatter(
    axes: "Axes", points: "Sequence[LabPoint]", algorithms: Mapping[str, int], ends: tuple[float, float]
) -> None:
    log_time_axis(axes, *ends)
    low, high = axes.get_ylim()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()])
    axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.fill_between(
        [low, high], [low * (1 - BAND), high * (1 - BAND)], [low * (1 + BAND), high * (1 + BAND)],
        color=GRID, alpha=0.9, linewidth=0,
    )  # fmt: skip
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1)
    for point in points:
        _dot(axes, point, point.compared.measured_s, point.compared.simulated_s, algorithms)


def _dot(axes: "Axes", point: "LabPoint", x: float, y: float, algorithms: Mapping[str, int]) -> None:
    number = algorithms[base_name(point.compared)]
    hollow = point.compared.set == "fit"
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker=series_marker(number),
        markersize=7,
        markeredgewidth=1.4 if hollow else 0.8,
        markeredgecolor=series_colour(number) if hollow else PAPER,
        markerfacecolor=PAPER if hollow else series_colour(number),
        zorder=3,
    )


def _errors(points: "Sequence[LabPoint]", algorithms: Mapping[str, int]) -> list[Picture]:
    """Signed error by size, a panel for each fabric; all share their axes."""
    fabrics = _numbered(p.compared.topology for p in points)
    sizes = [p.compared.size_bytes for p in points]
    reach = 104 * max(abs(p.compared.error) for p in points)
    columns = columns_for(len(fabrics))
    pictures = []
    with drawing():
        for fabric, number in fabrics.items():
            mine = [p for p in points if p.compared.topology == fabric]
            figure = new_figure((WIDTH - (columns - 1) * 28) // columns, 250)
            axes = bare_axes(figure, left=56, right=12, top=10, bottom=28)
            axes.set_ylim(-reach, reach)
            axes.axhspan(-100 * BAND, 100 * BAND, color=GRID, alpha=0.45, linewidth=0)
            axes.axhline(0, color=MUTED, linewidth=1)
            size_axis(axes, min(sizes), max(sizes), most=5)
            for i, point in enumerate(mine):
                beside = 0.5 * (i / max(1, len(mine) - 1) - 0.5)  # so that points of one size do not cover each other
                _dot(axes, point, math.log2(point.compared.size_bytes) + beside, 100 * point.compared.error, algorithms)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g} %".replace("-", "−") if value else "0 %")
            detail = f"{len(mine)} points"
            pictures.append(to_picture(figure, f"fabric{number}", title=fabric, detail=detail))
    return pictures


def _point_table(name: str, points: "Sequence[LabPoint]") -> Table:
    columns = (
        Column("fabric", numeric=False),
        Column("collective", numeric=False),
        Column("algorithm", numeric=False),
        Column("ranks"),
        Column("jobs"),
        Column("size"),
        Column("links", numeric=False),
        Column("set", numeric=False),
        Column("measured", "median"),
        Column("spread", "± of median"),
        Column("simulated"),
        Column("error", "signed"),
        Column("idle", "of processors"),
    )
    reach = max(abs(p.compared.error) for p in points) or 1.0
    rows = tuple(_row(point, reach) for point in points)
    return Table(name, plural(len(points), "point"), (), columns, rows)


def _row(point: "LabPoint", reach: float) -> tuple[Cell, ...]:
    c = point.compared
    return (
        *map(word_cell, (c.topology, c.collective, base_name(c))),
        count_cell(c.ranks),
        count_cell(1 + point.leg.count("/")),
        bytes_cell(c.size_bytes),
        word_cell("shared" if point.contended else "own"),
        Cell(c.set, c.set, tone=f"set-{c.set}"),
        time_cell(c.measured_s),
        share_cell(c.spread_s / c.measured_s),
        time_cell(c.simulated_s),
        error_cell(c.error, reach),
        Cell("n/a", -1, tone="muted") if point.idle is None else share_cell(point.idle),
    )
