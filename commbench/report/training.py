# SPDX-License-Identifier: Apache-2.0
"""Simulated training steps on a page: pipeline chart, where the time goes, memory, links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commbench.report.style import (
    MUTED,
    PAPER,
    WIDTH,
    Picture,
    bare_axes,
    css_variable,
    drawing,
    new_figure,
    series_colour,
    to_picture,
)
from commbench.report.tables import Cell, Column, Table
from commbench.report.text import percent, plural, time_parts, time_text
from commbench.results.records import Record
from commbench.results.steps import SimulatedStep
from commbench.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StepSection", "training_section"]

_MOST_ROWS = 32
_MOST_BARS = 6000
_ROW, _GAP = 26, 4
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_PASS_COLOUR = {"F": series_colour(0), "B": series_colour(1), "I": series_colour(1), "W": series_colour(2)}
_PASS_WORD = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
_KIND_COLOUR: Mapping[str, tuple[str, float]] = {  # colour and opacity
    "forward": (series_colour(0), 1.0),
    "recompute": (series_colour(0), 0.5),
    "backward": (series_colour(1), 1.0),
    "optimizer": (series_colour(7), 1.0),
    "tensor": (series_colour(2), 1.0),
    "context": (series_colour(6), 1.0),
    "expert": (series_colour(3), 1.0),
    "pipeline": (series_colour(5), 1.0),
    "data": (series_colour(4), 1.0),
    "zero": (series_colour(4), 0.5),
}
_HATCH, _HATCH_OPACITY = "////", 0.45


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A word and its colour: a CSS variable and an opacity."""

    word: str
    variable: str
    opacity: float


@dataclass(frozen=True, slots=True)
class StepSection:
    """What the template draws.

    Attributes:
        charts: one pipeline chart per step whose passes are recorded. passes: key to them.
        bars: where the time goes. kinds: key to them.
        tables: of steps, exposed communication, memory and links.
        notes: what a reader must know.
    """

    charts: tuple[Picture, ...]
    passes: tuple[KeyEntry, ...]
    bars: Picture
    kinds: tuple[KeyEntry, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def training_section(records: Sequence[Record]) -> StepSection | None:
    """The section for all steps among the records; None if there are none."""
    steps = [record for record in records if isinstance(record, SimulatedStep)]
    if not steps:
        return None
    with drawing():
        charts = tuple(_chart(step, f"pipeline{i}") for i, step in enumerate(steps) if step.spans)
        bars = _bars(steps)
    letters = {span[2] for step in steps for span in step.spans}
    tables = (_steps_table(steps), _exposed_table(steps), *_memory_tables(steps), *_link_tables(steps))
    notes = tuple(f"{_name(step)}: {note}." for step in steps for note in (step.folded, *step.notes))
    passes = tuple(
        KeyEntry(_PASS_WORD[letter], css_variable(_PASS_COLOUR[letter]), 1.0) for letter in "FBIW" if letter in letters
    )
    return StepSection(charts, passes, bars, _key(steps), tables, notes)


def _name(step: SimulatedStep) -> str:
    sizes = ((axis, getattr(step, axis)) for axis in ("tp", "cp", "ep", "dp", "pp"))
    degrees = " ".join(f"{axis} {size}" for axis, size in sizes if size > 1) or "one rank"
    zero = f", ZeRO {step.zero}" if step.zero else ""
    return f"{step.model}, {degrees}, {step.schedule}{zero}"


# -- the pipeline, rank by time


def _chart(step: SimulatedStep, name: str) -> Picture:
    """One row per pipeline position (that of its first unit), passes coloured, bubbles hatched."""
    rows = {position: unit for unit, position in reversed(list(enumerate(step.positions)))}
    shown = sorted(rows)[:_MOST_ROWS]
    row_of = {rows[position]: row for row, position in enumerate(shown)}
    spans = sorted((span for span in step.spans if span[0] in row_of), key=lambda span: span[4])
    until = spans[_MOST_BARS][4] if len(spans) > _MOST_BARS else step.iteration_s
    spans = spans[:_MOST_BARS]
    figure = new_figure(WIDTH, 16 + _ROW * len(shown) + 44)
    axes = bare_axes(figure, left=76, right=16, top=10, bottom=44)
    factor, unit_word = next(((f, u) for f, u in _SECONDS if until >= f), _SECONDS[-1])
    axes.set_xlim(0, until / factor)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(False)
    axes.set_xlabel(f"time ({unit_word})")
    axes.set_yticks(range(len(shown)), [f"position {position}" for position in shown])
    _draw_passes(axes, spans, row_of, factor, num_positions=step.pp)
    detail = (
        f"{time_text(step.iteration_s)} a step; bubble {percent(step.bubble_of_ideal)} of ideal, "
        f"{percent(step.bubble_of_total)} of total"
    )
    if until < step.iteration_s:
        detail += f"; shown: the first {time_text(until)}"
    if len(shown) < step.pp:
        detail += f"; the first {len(shown)} of {step.pp} positions"
    return to_picture(figure, name, title=f"{_name(step)} on {step.topology}", detail=detail)


def _draw_passes(
    axes: "Axes",
    spans: Sequence[tuple[int, int, str, int, float, float]],
    row_of: Mapping[int, int],
    factor: float,
    *,
    num_positions: int,
) -> None:
    from matplotlib.patches import Rectangle

    height = 1 - _GAP / _ROW
    begin, end = min(span[4] for span in spans), max(span[5] for span in spans)
    for row in range(len(row_of)):
        bubble = (begin / factor, row - height / 2)
        axes.add_patch(Rectangle(bubble, (end - begin) / factor, height, **_look("bubble")))
    pixels = (WIDTH - 92) / axes.get_xlim()[1]
    for unit, stage, letter, microbatch, first, last in spans:
        x, width, row = first / factor, (last - first) / factor, row_of[unit]
        # Later stages of a rank are paler: an interleaved schedule shows its chunks.
        pale = max(0.45, 1 - 0.25 * (stage // num_positions))
        box = (x, row - height / 2)
        thin = min(0.8, width * pixels / 6)
        axes.add_patch(Rectangle(box, width, height, facecolor=PAPER, linewidth=0))
        axes.add_patch(
            Rectangle(box, width, height, facecolor=_PASS_COLOUR[letter], alpha=pale, edgecolor=PAPER, linewidth=thin)
        )
        text = str(microbatch)
        if width * pixels >= 7 * len(text) + 5:
            axes.text(x + width / 2, row, text, color=PAPER, fontsize=10, ha="center", va="center_baseline")


# -- where the time goes


def _bars(steps: Sequence[SimulatedStep]) -> Picture:
    """One stacked bar per step, as shares of it, its parts in the order of the record; idle time hatched."""
    figure = new_figure(WIDTH, 50 * len(steps) + 46)
    axes = bare_axes(figure, left=16, right=16, top=2, bottom=44)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlabel("share of the step (%), mean over ranks")
    for row, step in enumerate(steps):
        left = 0.0
        axes.text(0, row - 0.2, f"{_name(step)}: {time_text(step.iteration_s)}", fontsize=12, ha="left", va="bottom")
        for kind, time_s in step.time_s.items():
            width = 100 * time_s / step.iteration_s
            axes.barh(row + 0.12, width, height=0.52, left=left, **_look(kind))
            if width * (WIDTH - 32) / 100 >= 34:
                _label(axes, left + width / 2, row + 0.12, f"{width:.0f} %", on_hatch=kind not in _KIND_COLOUR)
            left += width
    return to_picture(figure, "steptime", label="Where the time of a step goes")


def _look(kind: str) -> dict[str, Any]:
    if kind not in _KIND_COLOUR:
        return {"facecolor": "none", "edgecolor": MUTED, "hatch": _HATCH, "linewidth": 0, "alpha": _HATCH_OPACITY}
    colour, opacity = _KIND_COLOUR[kind]
    return {"facecolor": colour, "alpha": opacity, "edgecolor": PAPER, "linewidth": 0.8}


def _label(axes: "Axes", x: float, y: float, text: str, *, on_hatch: bool) -> None:
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5} if on_hatch else None
    axes.text(x, y, text, color=MUTED if on_hatch else PAPER, fontsize=11, ha="center", va="center_baseline", bbox=box)


def _key(steps: Sequence[SimulatedStep]) -> tuple[KeyEntry, ...]:
    """Colours of the stacked bars in their order."""
    there = {kind for step in steps for kind in step.time_s}
    entries = []
    for kind, (colour, opacity) in _KIND_COLOUR.items():
        if kind in there:
            plain = kind in ("forward", "recompute", "backward", "optimizer")
            entries.append(KeyEntry(kind if plain else f"{kind}, exposed", css_variable(colour), opacity))
    return tuple(entries)


# -- tables


def _word(text: str) -> Cell:
    return Cell(text, text)


def _time(time_s: float) -> Cell:
    number, unit = time_parts(time_s)
    return Cell(number, time_s, unit)


def _bytes(num_bytes: float) -> Cell:
    number, unit = format_bytes(num_bytes).split(" ")
    return Cell(number, num_bytes, unit)


def _share(value: float) -> Cell:
    return Cell(percent(value), value)


def _steps_table(steps: Sequence[SimulatedStep]) -> Table:
    columns = (
        Column("step", numeric=False),
        Column("GPUs"),
        Column("batch", "sequences"),
        Column("iteration"),
        Column("tokens/s", "per GPU"),
        Column("MFU"),
        Column("HFU"),
        Column("bubble", "of ideal"),
        Column("bubble", "of total"),
        Column("memory", "fullest rank"),
        Column("fits", numeric=False),
    )
    rows = tuple(
        (
            _word(_name(s)),
            Cell(f"{s.ranks:,}", s.ranks),
            Cell(f"{s.global_batch:,}", s.global_batch),
            _time(s.iteration_s),
            Cell(f"{s.tokens_per_s_per_gpu:,.1f}", s.tokens_per_s_per_gpu),
            _share(s.mfu),
            _share(s.hfu),
            _share(s.bubble_of_ideal),
            _share(s.bubble_of_total),
            _bytes(sum(s.memory_bytes.values())),
            Cell("yes" if s.fits else "no", str(s.fits), tone="" if s.fits else "bad"),
        )
        for s in steps
    )
    return Table("steps", "Training steps", (), columns, rows)


def _exposed_table(steps: Sequence[SimulatedStep]) -> Table:
    columns = (
        Column("step", numeric=False),
        Column("communication", numeric=False),
        Column("exposed", "mean over ranks"),
        Column("of the step"),
        Column("on the critical path"),
    )
    rows = tuple(
        (
            _word(_name(s)),
            _word(kind),
            _time(time_s),
            Cell(percent(time_s / s.iteration_s), time_s / s.iteration_s),
            _time(s.critical_s.get(kind, 0.0)),
        )
        for s in steps
        for kind, time_s in s.exposed_s.items()
    )
    return Table("exposed", "Exposed communication: under way on a rank that does not compute", (), columns, rows)


def _memory_tables(steps: Sequence[SimulatedStep]) -> list[Table]:
    tables = []
    for number, step in enumerate(steps):
        kinds = tuple(step.memory_bytes)
        columns = (Column("position"), *(Column(kind) for kind in kinds), Column("total"), Column("of the device"))
        rows = tuple(
            (
                Cell(str(position), position),
                *(_bytes(use[kind]) for kind in kinds),
                _bytes(sum(use.values())),
                Cell(
                    percent(sum(use.values()) / step.capacity_bytes),
                    sum(use.values()),
                    tone="" if sum(use.values()) <= step.capacity_bytes else "bad",
                ),
            )
            for position, use in enumerate(step.memory_by_position)
        )
        common = (("device", f"{step.device}, {format_bytes(step.capacity_bytes)}"), ("step", _name(step)))
        tables.append(Table(f"memory{number}", "Memory of a rank, by pipeline position", common, columns, rows))
    return tables


def _link_tables(steps: Sequence[SimulatedStep]) -> list[Table]:
    columns = (
        Column("links", numeric=False),
        Column("number", "that carry anything"),
        Column("busiest", numeric=False),
        Column("carries", "in the step"),
        Column("in use", "busiest"),
        Column("in use", "mean"),
    )
    tables = []
    for number, step in enumerate(steps):
        rows = tuple(
            (
                _word(str(one["joins"])),
                Cell(f"{one['links']:,}", one["links"]),
                _word(str(one["link"])),
                _bytes(one["bytes"]),
                Cell(percent(one["utilisation"]), one["utilisation"]),
                Cell(percent(one["mean_utilisation"]), one["mean_utilisation"]),
            )
            for one in step.busiest_links
        )
        if rows:
            title = f"Links, by what they join ({plural(len(rows), 'kind')})"
            tables.append(Table(f"links{number}", title, (("step", _name(step)),), columns, rows))
    return tables
