# SPDX-License-Identifier: Apache-2.0
"""Plans on a page: the best strategies with why, time against memory, what if."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from commbench.report.axes import even_ticks
from commbench.report.chart import Chart, mark, path_of
from commbench.report.style import WIDTH, Picture, for_both
from commbench.report.svg import colour, element, text
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    filled_table,
    time_cell,
    word_cell,
)
from commbench.report.text import percent, signed_percent, time_text
from commbench.results.plans import TERMS, Planned, PlannedStep
from commbench.results.records import Record
from commbench.units import format_bytes

__all__ = ["PlanPart", "plan_parts"]

_TICK_WIDTH, _LABEL_WIDTH = 100, 140  # pixels for a memory below the axis, and for the words of a strategy


@dataclass(frozen=True, slots=True)
class PlanPart:
    """What the template draws of one plan: its name, what it found and proves, a picture, tables and notes."""

    name: str
    verdict: str
    scarce: str
    pareto: Picture | None
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def plan_parts(records: Sequence[Record]) -> list[PlanPart]:
    """A part for each plan among the records."""
    plans = [record for record in records if isinstance(record, Planned)]
    return [_part(plan, f"plan{number}") for number, plan in enumerate(plans)]


def _part(plan: Planned, place: str) -> PlanPart:
    name = f"{plan.model} on {plan.topology}, batch {plan.global_batch} x {plan.sequence}, {plan.objective}"
    if not plan.best:
        nearest = plan.nearest
        lacks = f"; nearest: {nearest.command}, which lacks {format_bytes(plan.lacks_bytes)}" if nearest else ""
        return PlanPart(name, f"No strategy fits{lacks}. {plan.remedy}.", plan.scarce, None, (), plan.notes)
    tables = [_best(plan, place), *([_what_if(plan, place)] if plan.sensitivity else [])]
    notes = (_searched(plan), *plan.notes)
    pareto = for_both(lambda width, more: _pareto(plan, place + more, width))
    return PlanPart(name, _verdict(plan), plan.scarce, pareto, tuple(tables), notes)


def _verdict(plan: Planned) -> str:
    best = plan.best[0]
    how = "closed form" if best.simulated_s is None else "simulated"
    words = f"{best.command}: {time_text(best.time_s)} ({how}), {best.tokens_per_s_per_gpu:,.0f} tokens/s per GPU. "
    if plan.proven_gap is None:
        return words + "Nothing is proven: no candidate could be simulated."
    if plan.proven_gap == 0:
        return words + "No other strategy has a lower bound below it."
    return words + f"No strategy is more than {percent(plan.proven_gap)} faster, by their lower bounds."


def _searched(plan: Planned) -> str:
    return (
        f"{plan.strategies:,} strategies: {plan.slow:,} left out by their lower bound, {plan.large:,} do not fit, "
        f"{plan.estimated:,} by closed form, {plan.simulated:,} simulated; the closed form missed these by "
        f"{percent(plan.worst_error)} at most, which is no bound."
    )


def _best(plan: Planned, place: str) -> Table:
    fields: list[Field] = [
        (Column("strategy", numeric=False), lambda one: word_cell(one.words)),
        (Column("how", numeric=False), lambda one: word_cell(one.how)),
        (Column("step"), lambda one: time_cell(one.time_s)),
        (Column("by", numeric=False), lambda one: word_cell("closed form" if one.simulated_s is None else "simulated")),
        (Column("memory", "fullest rank"), lambda one: bytes_cell(one.memory_bytes)),
        (Column("GPUs"), lambda one: count_cell(one.ranks)),
        *((Column(term, "closed form"), partial(_term_cell, term)) for term in TERMS),
    ]
    return filled_table(f"{place}best", "The best, and where their time goes", plan.best, fields)


def _term_cell(term: str, one: PlannedStep) -> Cell:
    return time_cell(max(0.0, one.terms.get(term, 0.0)))


def _what_if(plan: Planned, place: str) -> Table:
    fields: list[Field] = [
        (Column("what if", numeric=False), lambda one: word_cell(one.what)),
        (Column("change", "closed form"), lambda one: _change(one.change)),
        (Column("best then", numeric=False), lambda one: word_cell(one.words)),
    ]
    return filled_table(f"{place}if", "What if", plan.sensitivity, fields)


def _change(change: float | None) -> Cell:
    return Cell("-", 0.0) if change is None else Cell(signed_percent(change), change)


def _pareto(plan: Planned, place: str, width: int) -> Picture:
    """Least time, or GPU-time, for the memory, as steps; labels where there is room."""
    steps = sorted(plan.pareto, key=lambda one: one.memory_bytes)
    gib, costs = [one.memory_bytes / 2**30 for one in steps], [_cost(plan, one) for one in steps]
    most = plan.capacity_bytes / 2**30
    chart = Chart(f"{place}pareto", width, 320, left=64, right=24, top=30, bottom=48)
    pad = 0.02 * (most - gib[0]) or 1.0
    x, y = chart.across(gib[0] - pad, max(most, gib[-1]) + pad), chart.upward(0, 1.15 * max(costs))
    chart.add(text(16, 12, "step (s)" if plan.objective == "time" else "GPU-seconds", class_="tick"))
    chart.left_axis(y, [(tick, f"{tick:g}") for tick in even_ticks(y.low, y.high, 7)])
    ticks = [(tick, f"{tick:g}") for tick in even_ticks(x.low, x.high, width // _TICK_WIDTH)]
    more = "with its margin (GiB); dashed: the device's" if width == WIDTH else "(GiB; dashed: device)"
    chart.bottom_axis(x, ticks, f"memory of the fullest rank {more}")
    corners = [(x.at(gib[0]), y.at(costs[0]))]
    for memory, cost in zip([*gib[1:], most], [*costs[1:], costs[-1]], strict=True):
        corners += [(x.at(memory), corners[-1][1]), (x.at(memory), y.at(cost))]
    chart.add(element("path", d=path_of(corners), class_="line", stroke=colour(0)))
    limit = f"M{x.at(most):.2f} {chart.top:g}V{chart.bottom:g}"
    chart.add(element("path", d=limit, class_="line", stroke=colour(1), stroke_dasharray="5 4"))
    last = -x.high
    for memory, cost, one in zip(gib, costs, steps, strict=True):
        words = (one.words, f"{time_text(one.time_s)} a step", format_bytes(one.memory_bytes))
        chart.add(mark(x.at(memory), y.at(cost), 0, words, time_s=one.time_s, memory_bytes=one.memory_bytes))
        if x.at(memory) - x.at(last) > _LABEL_WIDTH and x.at(memory) + _LABEL_WIDTH < chart.right:
            chart.add(text(x.at(memory) + 6, y.at(cost) - 11, one.words, font_size=10))
            last = memory
    return chart.picture(label=f"Least {plan.scarce} for the memory")


def _cost(plan: Planned, one: PlannedStep) -> float:
    return one.time_s * (1 if plan.objective == "time" else one.ranks)
