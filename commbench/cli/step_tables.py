# SPDX-License-Identifier: Apache-2.0
"""A simulated training step as text; every line fits 80 columns."""

import textwrap
from collections.abc import Mapping

from commbench.cli.tables import heading
from commbench.results.steps import SimulatedStep
from commbench.tables import Column, head_text, row_text
from commbench.units import format_bytes, format_time

__all__ = ["step_table", "too_large"]


def step_table(record: SimulatedStep) -> str:
    """What is simulated, the headline figures, and tables of time, memory and links."""
    first = [] if record.fits else [too_large(record)]
    tables = [_times(record), _memory(record), _links(record)]
    parts = [*first, _header(record), _notes(record), _headline(record), *tables]
    return "\n".join(parts)


def too_large(r: SimulatedStep) -> str:
    """By how much a step does not fit, what most of it is, and what would help; every line fits 80 columns."""
    needed = sum(r.memory_bytes.values()) + r.margin_bytes
    largest = max(r.memory_bytes, key=lambda kind: r.memory_bytes[kind])
    words = (
        f"DOES NOT FIT: {format_bytes(needed - r.capacity_bytes)} more than the {format_bytes(r.capacity_bytes)} of "
        f"{r.device}; most are {largest}, {format_bytes(r.memory_bytes[largest])}; {r.remedy}"
    )
    return textwrap.fill(words, 80, subsequent_indent="  ", break_on_hyphens=False)


def _header(r: SimulatedStep) -> str:
    degrees = " ".join(f"{axis} {getattr(r, axis)}" for axis in ("tp", "cp", "ep", "dp", "pp") if getattr(r, axis) > 1)
    shares = ", ".join(f"{key} {value}" for key, value in r.efficiency.items())
    disturbed = (f", scenario {r.scenario}" if r.scenario else "") + (f", jitter {r.jitter:g}" if r.jitter else "")
    stages = f"{r.stages_per_rank} stage{'' if r.stages_per_rank == 1 else 's'} per rank"
    return heading(
        f"simulated training step: {r.model} on {r.topology}, {r.ranks:,} x {r.device} ({r.dtype})",
        f"{degrees or 'one rank'}; {r.schedule}, {stages}, {r.microbatches} "
        f"microbatches of {r.micro_batch} x {r.sequence} tokens, global batch {r.global_batch}",
        f"ZeRO {r.zero}, recompute {r.recompute}, sequence parallel {'yes' if r.sequence_parallel else 'no'}, "
        f"{r.attention} attention, precision {r.settings['precision']}",
        f"efficiency: {shares}",
        f"library {_library(r)}; slowdown of compute beside a collective {r.slowdown:g}",
        f"routing {r.routing}, placement {r.placement}, engine {r.engine}, seed {r.seed}{disturbed}",
    )


def _library(r: SimulatedStep) -> str:
    """Name, version, and what it took."""
    version = r.settings.get("version", "")
    return f"{r.library} {version}".rstrip()


def _notes(r: SimulatedStep) -> str:
    """What was folded and what else a reader must know, as comments."""
    return heading(r.folded, *r.notes)


def _headline(r: SimulatedStep) -> str:
    reached, peak = r.mfu * r.peak_flops / 1e12, r.peak_flops / 1e12
    rows = [
        ("iteration", format_time(r.iteration_s)),
        ("tokens/s/GPU", f"{r.tokens_per_s_per_gpu:,.1f}"),
        ("MFU", f"{r.mfu:.2%}   (model FLOP; {reached:.4g} of {peak:,.0f} TFLOP/s a GPU, {r.dtype} peak)"),
        ("HFU", f"{r.hfu:.2%}   (FLOP executed, recomputed ones included)"),
    ]
    if r.pp == 1:
        rows.append(("bubble", "none: one pipeline stage; waiting is exposed or idle, below"))
    else:
        of_total = f"{r.bubble_of_total:.2%} of total (/ length)"
        rows.append(("bubble", f"{r.bubble_of_ideal:.2%} of ideal (idle / busy), {of_total}"))
    if r.pp > 1 and r.bubble_of_span is not None:
        rows.append(("", f"{r.bubble_of_span:.2%} of the longest span of a stage (zero-bubble papers)"))
    return "\n".join(f" {name:<14} {text}" for name, text in rows)


_TIMES = (
    Column("a rank spends (mean)", numeric=False, width=22),
    Column("time", width=12),
    Column("share", width=7, form=".1%"),
    Column("exposed", width=12),
    Column("critical path", width=14),
)


def _times(r: SimulatedStep) -> str:
    rows = (
        (kind, format_time(time_s), time_s / r.iteration_s, _optional(r.exposed_s, kind), _optional(r.critical_s, kind))
        for kind, time_s in r.time_s.items()
    )
    return "\n".join([head_text(_TIMES), *(row_text(_TIMES, row) for row in rows)])


def _optional(times: Mapping[str, float], kind: str) -> str:
    return format_time(times[kind]) if kind in times else "-"


_MEMORY = (Column("memory of fullest rank", numeric=False, width=22), Column("bytes", width=12))


def _memory(r: SimulatedStep) -> str:
    total = sum(r.memory_bytes.values()) + r.margin_bytes
    rows = [row_text(_MEMORY, (kind, format_bytes(size))) for kind, size in r.memory_bytes.items()]
    margin = row_text(_MEMORY, ("margin", format_bytes(r.margin_bytes))) + "   context, buffers, ... (--memory-margin)"
    whole = row_text(_MEMORY, ("total", format_bytes(total)))
    left, into = r.capacity_bytes - total, f"into {format_bytes(r.capacity_bytes)}"
    verdict = f"fits {into}, {format_bytes(left)} left" if r.fits else f"DOES NOT FIT {into}"
    told = *([margin] if r.margin_bytes else []), f"{whole}   {verdict}"
    return "\n".join([head_text(_MEMORY), *rows, *told])


_LINKS = (
    Column("links, and the busiest of them", numeric=False, width=33),
    Column("bytes", width=11),
    Column("in use", width=8, form=".1%"),
    Column("mean", width=8, form=".1%"),
    Column("links", width=9, form=","),
)


def _links(r: SimulatedStep) -> str:
    lines = [head_text(_LINKS)]
    for one in r.busiest_links:
        fields = one["joins"], format_bytes(one["bytes"]), one["utilisation"], one["mean_utilisation"], one["links"]
        lines += [row_text(_LINKS, fields), f"   {one['link']}"]
    return "\n".join(lines)
