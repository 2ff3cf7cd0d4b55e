# SPDX-License-Identifier: Apache-2.0
"""The page of a campaign in labs: predicted against measured, errors by size and fabric, and every point in a table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from commbench import __version__
from commbench.report.axes import log_time_axis, size_axis
from commbench.report.facts import verdicts
from commbench.report.figures import BAND, columns_for
from commbench.report.series import base_name
from commbench.report.style import (
    GRID,
    MUTED,
    PAPER,
    WIDTH,
    Picture,
    bare_axes,
    drawing,
    new_figure,
    series_colour,
    series_marker,
    to_picture,
)
from commbench.report.tables import Cell, Column, Table, group_table
from commbench.report.text import percent, signed_percent, time_parts
from commbench.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from commbench.validate.lab_judge import Agreement, LabPoint

__all__ = ["render_agreement", "write_agreement"]

_KINDS: Mapping[bool, str] = {False: "No link shared", True: "Links shared"}


def write_agreement(found: "Agreement", path: Path, *, command: str, notes: Sequence[str] = ()) -> Path:
    """Write the page and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_agreement(found, command=command, notes=notes), encoding="utf-8")
    return path


def render_agreement(found: "Agreement", *, command: str, notes: Sequence[str] = ()) -> str:
    """The page as HTML text; it fetches nothing and is the same for the same input."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    algorithms = _numbered(base_name(p.compared) for p in found.points)
    groups = [t for c, s in found.summaries.items() if (t := group_table(s, f"groups{int(c)}"))]
    names = [_KINDS[c] for c in found.summaries]
    return environment.get_template("agreement.html.j2").render(
        version=__version__,
        css=_text("page.css"),
        verdicts=[(_KINDS[c], verdicts([s])[0]) for c, s in found.summaries.items()],
        transport=found.transport,
        latency_us=f"{found.transport.latency_ps / 1e6:.0f}",
        overhead_us=f"{found.transport.overhead_ps / 1e6:.1f}",
        scatter=_scatters(found.points, algorithms),
        errors=_errors(found.points, algorithms),
        columns=columns_for(len({p.compared.topology for p in found.points})),
        band=f"{BAND:.0%}".replace("%", " %"),
        algorithms=[(name, series_colour_variable(number)) for name, number in algorithms.items()],
        points=_point_table(found.points),
        groups=list(zip(names, groups, strict=True)),
        notes=list(notes),
        command=command,
    )


def _text(name: str) -> str:
    return files("commbench.report").joinpath(name).read_text(encoding="utf-8")


def series_colour_variable(number: int) -> str:
    """The CSS variable of a series' colour, for a legend in HTML."""
    return f"--s{number % 8}"


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


def _point_table(points: "Sequence[LabPoint]") -> Table:
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
    )
    reach = max(abs(p.compared.error) for p in points) or 1.0
    rows = tuple(_row(point, reach) for point in points)
    return Table("points", f"{len(points)} points", (), columns, rows)


def _row(point: "LabPoint", reach: float) -> tuple[Cell, ...]:
    c = point.compared
    size, unit = format_bytes(c.size_bytes).split(" ")
    shared = "shared" if point.contended else "own"
    return (
        *(Cell(text, text) for text in (c.topology, c.collective, base_name(c))),
        Cell(str(c.ranks), c.ranks),
        Cell(str(1 + point.leg.count("/")), 1 + point.leg.count("/")),
        Cell(size, c.size_bytes, unit),
        Cell(shared, shared),
        Cell(c.set, c.set, tone=f"set-{c.set}"),
        _time(c.measured_s),
        Cell(percent(c.spread_s / c.measured_s), c.spread_s / c.measured_s),
        _time(c.simulated_s),
        Cell(signed_percent(c.error), c.error, bar=c.error / reach),
    )


def _time(time_s: float) -> Cell:
    number, unit = time_parts(time_s)
    return Cell(number, time_s, unit)
