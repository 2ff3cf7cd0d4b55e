# SPDX-License-Identifier: Apache-2.0
"""Simulated training steps on a page: pipeline chart, where the time goes, memory, links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commbench.report.identity import labels
from commbench.report.pipeline_chart import PassBar, PassKey, PassPanel, pass_keys, pipeline_chart
from commbench.report.stacked import BarPart, StackedBar, stacked_bars
from commbench.report.style import Picture
from commbench.report.svg import colour
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    filled_table,
    identity_fields,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import percent, plural, time_text
from commbench.results.records import Record
from commbench.results.steps import SimulatedStep
from commbench.units import format_bytes

__all__ = ["StepSection", "step_names", "training_section"]

_KIND_COLOUR: Mapping[str, tuple[str, float]] = {  # colour and opacity
    "forward": (colour(0), 1.0),
    "recompute": (colour(0), 0.5),
    "backward": (colour(1), 1.0),
    "optimizer": (colour(7), 1.0),
    "tensor": (colour(2), 1.0),
    "context": (colour(6), 1.0),
    "expert": (colour(3), 1.0),
    "pipeline": (colour(5), 1.0),
    "data": (colour(4), 1.0),
    "zero": (colour(4), 0.5),
    "offload": (colour(6), 0.5),
}
_PLAIN_KINDS = ("forward", "recompute", "backward", "optimizer")  # the others are exposed communication


@dataclass(frozen=True, slots=True)
class KindKey:
    """A word and its colour in the bars, as CSS, and an opacity."""

    word: str
    colour: str
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
    passes: tuple[PassKey, ...]
    bars: Picture
    kinds: tuple[KindKey, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def training_section(records: Sequence[Record]) -> StepSection | None:
    """The section for all steps among the records; None if there are none."""
    steps = [record for record in records if isinstance(record, SimulatedStep)]
    if not steps:
        return None
    named = list(zip(step_names(steps), steps, strict=True))
    drawn = [(name, step, _panel(step)) for name, step in named if step.spans]
    charts = tuple(_chart(name, step, panel, f"pipeline{i}") for i, (name, step, panel) in enumerate(drawn))
    tables = (_steps_table(named), _exposed_table(named), *_memory_tables(named), *_link_tables(named))
    notes = tuple(f"{name}: {note}." for name, step in named for note in (step.folded, *step.notes))
    return StepSection(charts, pass_keys([panel for *_, panel in drawn]), _bars(named), _key(steps), tables, notes)


def step_names(steps: Sequence[SimulatedStep]) -> list[str]:
    """What each step is: model, degrees, schedule, and whatever else tells it from the others."""
    known = ("model", "tp", "cp", "ep", "dp", "pp", "ranks", "schedule", "zero", "topology")
    told = labels(steps, known, brief=True)
    return [", ".join((_name(step), *label)) for step, label in zip(steps, told, strict=True)]


def _name(step: SimulatedStep) -> str:
    sizes = ((axis, getattr(step, axis)) for axis in ("tp", "cp", "ep", "dp", "pp"))
    degrees = " ".join(f"{axis} {size}" for axis, size in sizes if size > 1) or "one rank"
    zero = f", ZeRO {step.zero}" if step.zero else ""
    return f"{step.model}, {degrees}, {step.schedule}{zero}"


# -- the pipeline, rank by time


def _panel(step: SimulatedStep) -> PassPanel:
    """One lane per pipeline position, that of its first unit."""
    unit_of = {position: unit for unit, position in reversed(list(enumerate(step.positions)))}
    lane_of = {unit_of[position]: lane for lane, position in enumerate(sorted(unit_of))}
    bars = tuple(
        PassBar(lane_of[unit], begin, end, kind, str(microbatch), chunk=stage // step.pp)
        for unit, stage, kind, microbatch, begin, end in step.spans
        if unit in lane_of
    )
    return PassPanel("", tuple(f"position {position}" for position in sorted(unit_of)), bars)


def _chart(name: str, step: SimulatedStep, panel: PassPanel, place: str) -> Picture:
    bubbles = f"bubble {percent(step.bubble_of_ideal)} of ideal, {percent(step.bubble_of_total)} of total"
    bubbles = bubbles if step.pp > 1 else "one pipeline stage, so no bubble"
    detail = f"{time_text(step.iteration_s)} a step; {bubbles}"
    title = f"{name} on {step.topology}"
    return pipeline_chart([panel], place, title=title, detail=detail, until_s=step.iteration_s)


# -- where the time goes


def _bars(steps: Sequence[tuple[str, SimulatedStep]]) -> Picture:
    """One stacked bar per step, as shares of it, its parts in the order of the record; idle time hatched."""
    bars = [
        StackedBar(f"{name}: {time_text(step.iteration_s)}", tuple(_part(kind, s) for kind, s in step.time_s.items()))
        for name, step in steps
    ]
    title = "share of the step (%), mean over ranks"
    return stacked_bars("steptime", bars, title, label="Where the time of a step goes")


def _part(kind: str, time_s: float) -> BarPart:
    own, opacity = _KIND_COLOUR.get(kind, ("", 1.0))
    return BarPart(_word(kind), time_s, own, opacity)


def _word(kind: str) -> str:
    plain = kind in _PLAIN_KINDS or kind not in _KIND_COLOUR
    return kind if plain else f"{kind}, exposed"


def _key(steps: Sequence[SimulatedStep]) -> tuple[KindKey, ...]:
    """Colours of the stacked bars in their order."""
    there = {kind for step in steps for kind in step.time_s}
    return tuple(
        KindKey(_word(kind), own, opacity)
        for kind, (own, opacity) in _KIND_COLOUR.items()
        if kind in there
    )


# -- tables


def _bubble(step: SimulatedStep, share: float) -> Cell:
    return share_cell(share) if step.pp > 1 else Cell("none", share, tone="muted")


def _steps_table(named: Sequence[tuple[str, SimulatedStep]]) -> Table:
    """What was asked for and what came out; what all steps share is told above the table."""
    names = {id(step): name for name, step in named}
    fields: list[Field] = [
        (Column("step", numeric=False), lambda s: word_cell(names[id(s)])),
        *identity_fields(SimulatedStep),
        (Column("iteration"), lambda s: time_cell(s.iteration_s)),
        (Column("tokens/s", "per GPU"), lambda s: Cell(f"{s.tokens_per_s_per_gpu:,.1f}", s.tokens_per_s_per_gpu)),
        (Column("MFU"), lambda s: share_cell(s.mfu)),
        (Column("HFU"), lambda s: share_cell(s.hfu)),
        (Column("bubble", "of ideal"), lambda s: _bubble(s, s.bubble_of_ideal)),
        (Column("bubble", "of total"), lambda s: _bubble(s, s.bubble_of_total)),
        (Column("memory", "fullest rank"), lambda s: bytes_cell(sum(s.memory_bytes.values()))),
        (Column("operations", "simulated"), lambda s: count_cell(s.operations)),
        (Column("run time", "of the engine"), lambda s: time_cell(s.wall_s)),
        (
            Column("fits", numeric=False),
            lambda s: Cell("yes" if s.fits else "no", str(s.fits), tone="" if s.fits else "bad"),
        ),
    ]
    return filled_table("steps", "Training steps", [step for _, step in named], fields)


def _exposed_table(steps: Sequence[tuple[str, SimulatedStep]]) -> Table:
    columns = (
        Column("step", numeric=False),
        Column("communication", numeric=False),
        Column("exposed", "mean over ranks"),
        Column("of the step"),
        Column("on the critical path"),
    )
    rows = tuple(
        (
            word_cell(name),
            word_cell(kind),
            time_cell(time_s),
            share_cell(time_s / s.iteration_s),
            time_cell(s.critical_s.get(kind, 0.0)),
        )
        for name, s in steps
        for kind, time_s in s.exposed_s.items()
    )
    return Table("exposed", "Exposed communication: under way on a rank that does not compute", (), columns, rows)


def _memory_tables(steps: Sequence[tuple[str, SimulatedStep]]) -> list[Table]:
    tables = []
    for number, (name, step) in enumerate(steps):
        kinds = tuple(step.memory_bytes)
        columns = tuple(Column(title) for title in ("position", *kinds, "margin", "total", "of the device"))
        rows = tuple(
            (
                count_cell(position),
                *(bytes_cell(use[kind]) for kind in kinds),
                bytes_cell(step.margin_bytes),
                bytes_cell(total := sum(use.values()) + step.margin_bytes),
                share_cell(total / step.capacity_bytes, tone="" if total <= step.capacity_bytes else "bad"),
            )
            for position, use in enumerate(step.memory_by_position)
        )
        common = (("device", f"{step.device}, {format_bytes(step.capacity_bytes)}"), ("step", name))
        tables.append(Table(f"memory{number}", "Memory of a rank, by pipeline position", common, columns, rows))
    return tables


def _link_tables(steps: Sequence[tuple[str, SimulatedStep]]) -> list[Table]:
    fields: list[Field] = [
        (Column("links", numeric=False), lambda one: word_cell(str(one["joins"]))),
        (Column("number", "that carry anything"), lambda one: count_cell(one["links"])),
        (Column("busiest", numeric=False), lambda one: word_cell(str(one["link"]))),
        (Column("carries", "in the step"), lambda one: bytes_cell(one["bytes"])),
        (Column("in use", "busiest"), lambda one: share_cell(one["utilisation"])),
        (Column("in use", "mean"), lambda one: share_cell(one["mean_utilisation"])),
    ]
    return [
        filled_table(f"links{number}", _title(step), step.busiest_links, fields, (("step", name),))
        for number, (name, step) in enumerate(steps)
        if step.busiest_links
    ]


def _title(step: SimulatedStep) -> str:
    return f"Links, by what they join ({plural(len(step.busiest_links), 'kind')})"
