# SPDX-License-Identifier: Apache-2.0
"""Plans on a page: the best strategies with why, time against memory, what if."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.report.style import WIDTH, Picture, bare_axes, drawing, new_figure, series_colour, to_picture
from commbench.report.tables import Cell, Column, Table, bytes_cell, count_cell, time_cell, word_cell
from commbench.report.text import percent, signed_percent, time_text
from commbench.results.plans import Planned, PlannedStep
from commbench.results.records import Record
from commbench.units import format_bytes

__all__ = ["PlanPart", "plan_parts"]

_TERMS = ("compute", "host", "exposed communication", "bubble", "optimizer")


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
    return PlanPart(name, _verdict(plan), plan.scarce, _pareto(plan, place), tuple(tables), notes)


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
    columns = (
        Column("strategy", numeric=False),
        Column("how", numeric=False),
        Column("step"),
        Column("by", numeric=False),
        Column("memory", "fullest rank"),
        Column("GPUs"),
        *(Column(term, "closed form") for term in _TERMS),
    )
    rows = tuple(
        (
            word_cell(one.words),
            word_cell(one.how),
            time_cell(one.time_s),
            word_cell("closed form" if one.simulated_s is None else "simulated"),
            bytes_cell(one.memory_bytes),
            count_cell(one.ranks),
            *(time_cell(max(0.0, one.terms.get(term, 0.0))) for term in _TERMS),
        )
        for one in plan.best
    )
    return Table(f"{place}best", "The best, and where their time goes", (), columns, rows)


def _what_if(plan: Planned, place: str) -> Table:
    columns = (Column("what if", numeric=False), Column("change", "closed form"), Column("best then", numeric=False))
    rows = tuple(
        (
            word_cell(one.what),
            Cell("-", 0.0) if one.change is None else Cell(signed_percent(one.change), one.change),
            word_cell(one.words),
        )
        for one in plan.sensitivity
    )
    return Table(f"{place}if", "What if", (), columns, rows)


def _pareto(plan: Planned, place: str) -> Picture:
    """Least time, or GPU-time, for the memory, as steps; labels where there is room."""
    with drawing():
        figure = new_figure(WIDTH, 300)
        axes = bare_axes(figure, left=64, right=24, top=16, bottom=48)
        steps = sorted(plan.pareto, key=lambda one: one.memory_bytes)
        gib = [one.memory_bytes / 2**30 for one in steps]
        times = [_cost(plan, one) for one in steps]
        colour = series_colour(0)
        axes.step([*gib, plan.capacity_bytes / 2**30], [*times, times[-1]], where="post", color=colour, linewidth=1.6)
        axes.plot(gib, times, "o", color=colour, markersize=5)
        axes.axvline(plan.capacity_bytes / 2**30, color=series_colour(1), linewidth=1.2, linestyle="--")
        high = max(times)
        last = -1e9
        for x, y, one in zip(gib, times, steps, strict=True):
            if x - last > (plan.capacity_bytes / 2**30 - gib[0]) / 6:
                axes.annotate(one.words, (x, y), xytext=(4, 6), textcoords="offset points", fontsize=10)
                last = x
        axes.set_ylim(0, 1.15 * high)
        axes.set_xlabel("memory of the fullest rank with its margin (GiB); dashed: the device's")
        axes.set_ylabel("step (s)" if plan.objective == "time" else "GPU-seconds")
        return to_picture(figure, f"{place}pareto", label=f"Least {plan.scarce} for the memory")


def _cost(plan: Planned, one: PlannedStep) -> float:
    return one.time_s * (1 if plan.objective == "time" else one.ranks)
