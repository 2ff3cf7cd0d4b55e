# SPDX-License-Identifier: Apache-2.0
"""A plan as text; every line fits 80 columns."""

import textwrap

from commbench.cli.tables import heading
from commbench.results.plans import TERMS, Planned
from commbench.tables import Column, head_text, row_text
from commbench.units import format_bytes, format_time

__all__ = ["does_not_fit", "plan_table"]


def plan_table(record: Planned) -> str:
    """What was searched, what it proves, and tables of the best, why, memory and what if."""
    head = heading(
        f"plan: {record.model} on {record.topology}, {record.ranks:,} x {record.device} ({record.dtype})",
        f"global batch {record.global_batch} x {record.sequence} tokens; objective {record.objective}"
        + (f", {record.price:g} a GPU-hour" if record.price is not None else ""),
        *([f"kept: {', '.join(f'{key} {value}' for key, value in record.fixed.items())}"] if record.fixed else []),
        _searched(record),
        *record.notes,
    )
    if not record.best:
        return "\n".join([head, does_not_fit(record)])
    parts = [head, _headline(record), _best(record), _why(record), _pareto(record)]
    return "\n".join([*parts, *([_sensitivity(record)] if record.sensitivity else [])])


def does_not_fit(r: Planned) -> str:
    """Which strategy is nearest, and what it lacks."""
    if r.nearest is None:
        return "NOTHING FITS"
    words = (
        f"NO STRATEGY FITS. Nearest: {r.nearest.words} ({r.nearest.command}) needs "
        f"{format_bytes(r.nearest.memory_bytes)} with the margin of {format_bytes(r.margin_bytes)}, "
        f"{format_bytes(r.lacks_bytes)} more than the {format_bytes(r.capacity_bytes)} of {r.device}. "
        f"What helps: {r.remedy}"
    )
    return textwrap.fill(words, 80, subsequent_indent="  ", break_on_hyphens=False)


def _searched(r: Planned) -> str:
    return (
        f"{r.strategies:,} strategies: {r.slow:,} cannot come near the best (bound by their passes alone), "
        f"{r.large:,} do not fit, {r.estimated:,} by closed form, {r.simulated} simulated exactly; "
        f"{r.search_s:.1f} s of search, {r.wall_s:.1f} s in all"
    )


def _headline(r: Planned) -> str:
    best = r.best[0]
    rows = [
        ("best", f"{format_time(best.time_s)}, {'by closed form' if best.simulated_s is None else 'simulated'}"),
        ("", f"sim train {r.asked} {best.command}"),
        ("tokens/s/GPU", f"{best.tokens_per_s_per_gpu:,.1f} on {best.ranks:,} of {r.ranks:,} GPUs"),
    ]
    if best.cost is not None:
        rows.append(("cost", f"{best.cost:.4g} for a million tokens"))
    rows.append(("proven", proven(r)))
    filled = (
        textwrap.fill(text, 80, initial_indent=f" {name:<13} ", subsequent_indent=" " * 15, break_on_hyphens=False)
        for name, text in rows
    )
    return "\n".join(filled)


def proven(r: Planned) -> str:
    """What the search proves, and what only the closed form says."""
    if r.proven_gap is None:
        return "nothing: none of the candidates could be simulated"
    others = f"closed form missed the simulated ones by {r.worst_error:.1%} at most, which is no bound"
    if r.proven_gap == 0:
        return f"no other strategy has a lower bound below it; {others}"
    asked = "" if r.proven_gap <= r.gap else f" (asked: {r.gap:.1%}; --seconds for more)"
    return (
        f"no strategy is more than {r.proven_gap:.1%} faster{asked}: {r.open} that were not simulated have a lower "
        f"bound below it; {others}"
    )


_BEST = (
    Column("", width=2),
    Column("time", width=10),
    Column("vs best", width=7, form="+.1%"),
    Column("memory", width=10),
    Column("strategy", numeric=False, width=22),
    Column("how", numeric=False, width=22),
)


def _best(r: Planned) -> str:
    lines = [head_text(_BEST)]
    for number, one in enumerate(r.best, start=1):
        time = format_time(one.time_s) + (" " if one.simulated_s is not None else "~")
        rest = r.best[0]
        change = one.time_s * one.ranks / (rest.time_s * rest.ranks) - 1
        if r.objective == "time":
            change = one.time_s / rest.time_s - 1
        lines.append(row_text(_BEST, (str(number), time, change, format_bytes(one.memory_bytes), one.words, one.how)))
    told = "# ~ by closed form; the others are simulated. How: schedule x stages per rank,"
    return "\n".join([*lines, told, "#   recomputation, ZeRO stage (z), sequence parallelism (sp)"])


_WHY = (
    Column("", width=2),
    Column("compute", width=10),
    Column("host", width=10),
    Column("exposed", width=10),
    Column("bubble", width=10),
    Column("optimizer", width=10),
)


def _why(r: Planned) -> str:
    lines = ["# why: the closed form of the busiest rank, exposed communication among it", head_text(_WHY)]
    for number, one in enumerate(r.best[:5], start=1):
        lines.append(row_text(_WHY, (str(number), *(_term(one.terms[key]) for key in TERMS))))
    return "\n".join(lines)


def _term(time_s: float) -> str:
    return format_time(time_s) if time_s > 1e-6 else "-"


_PARETO = (
    Column("memory", width=10),
    Column("time", width=10),
    Column("strategy", numeric=False, width=24),
    Column("how", numeric=False, width=28),
)


def _pareto(r: Planned) -> str:
    lines = [f"# least {r.scarce} for the memory (of {format_bytes(r.capacity_bytes)})", head_text(_PARETO)]
    for one in r.pareto:
        lines.append(row_text(_PARETO, (format_bytes(one.memory_bytes), format_time(one.time_s), one.words, one.how)))
    return "\n".join(lines)


_IF = (
    Column("what if (closed form)", numeric=False, width=26),
    Column("change", width=7, form="+.1%"),
    Column("best then", numeric=False, width=44),
)


def _sensitivity(r: Planned) -> str:
    rows = [row_text(_IF, (one.what, one.change, one.words)) for one in r.sensitivity]
    return "\n".join([head_text(_IF), *rows])
