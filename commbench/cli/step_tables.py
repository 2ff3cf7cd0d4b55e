# SPDX-License-Identifier: Apache-2.0
"""A simulated training step as text; every line fits 80 columns."""

import textwrap
from collections.abc import Mapping

from commbench.cli.tables import heading
from commbench.results.steps import SimulatedStep
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
    return heading(
        f"simulated training step: {r.model} on {r.topology}, {r.ranks:,} x {r.device} ({r.dtype})",
        f"{degrees or 'one rank'}; {r.schedule}, {r.stages_per_rank} stage(s) per rank, {r.microbatches} "
        f"microbatches of {r.micro_batch} x {r.sequence} tokens, global batch {r.global_batch}",
        f"ZeRO {r.zero}, recompute {r.recompute}, sequence parallel {'yes' if r.sequence_parallel else 'no'}, "
        f"{r.attention} attention, precision {r.settings['precision']}",
        f"efficiency: {shares}; slowdown of compute beside a collective {r.slowdown:g}",
        f"routing {r.routing}, placement {r.placement}, engine {r.engine}, seed {r.seed}{disturbed}",
    )


def _notes(r: SimulatedStep) -> str:
    """What was folded and what else a reader must know, as comments."""
    return heading(r.folded, *r.notes)


def _headline(r: SimulatedStep) -> str:
    reached, peak = r.mfu * r.peak_flops / 1e12, r.peak_flops / 1e12
    rows = [
        ("iteration", format_time(r.iteration_s)),
        ("tokens/s/GPU", f"{r.tokens_per_s_per_gpu:,.1f}"),
        ("MFU", f"{r.mfu:.2%}   (model FLOP; {reached:.1f} of {peak:,.0f} TFLOP/s per GPU, {r.dtype} peak)"),
        ("HFU", f"{r.hfu:.2%}   (FLOP executed, recomputed ones included)"),
    ]
    if r.pp == 1:
        rows.append(("bubble", "none: one pipeline stage; waiting for others is exposed or idle, below"))
    else:
        of_total = f"{r.bubble_of_total:.2%} of total (/ length)"
        rows.append(("bubble", f"{r.bubble_of_ideal:.2%} of ideal (idle / busy), {of_total}"))
    if r.pp > 1 and r.bubble_of_span is not None:
        rows.append(("", f"{r.bubble_of_span:.2%} of the longest span of a stage (zero-bubble papers)"))
    return "\n".join(f" {name:<14} {text}" for name, text in rows)


def _times(r: SimulatedStep) -> str:
    lines = [f"#{'a rank spends (mean)':<22} {'time':>12} {'share':>7} {'exposed':>12} {'critical path':>14}"]
    for kind, time_s in r.time_s.items():
        lines.append(
            f" {kind:<22} {format_time(time_s):>12} {time_s / r.iteration_s:>7.1%} {_optional(r.exposed_s, kind):>12} "
            f"{_optional(r.critical_s, kind):>14}"
        )
    return "\n".join(lines)


def _optional(times: Mapping[str, float], kind: str) -> str:
    return format_time(times[kind]) if kind in times else "-"


def _memory(r: SimulatedStep) -> str:
    total = sum(r.memory_bytes.values()) + r.margin_bytes
    verdict = "fits" if r.fits else "DOES NOT FIT"
    lines = [f"#{'memory of fullest rank':<22} {'bytes':>12}"]
    lines += [f" {kind:<22} {format_bytes(size):>12}" for kind, size in r.memory_bytes.items()]
    lines.append(
        f" {'margin':<22} {format_bytes(r.margin_bytes):>12}   context, buffers, ... (--memory-margin)"
    )
    lines.append(f" {'total':<22} {format_bytes(total):>12}   {verdict} into {format_bytes(r.capacity_bytes)}")
    return "\n".join(lines)


def _links(r: SimulatedStep) -> str:
    lines = [f"#{'links, and the busiest of them':<33} {'bytes':>11} {'in use':>8} {'mean':>8} {'links':>9}"]
    for one in r.busiest_links:
        lines.append(
            f" {one['joins']:<33} {format_bytes(one['bytes']):>11} {one['utilisation']:>8.1%} "
            f"{one['mean_utilisation']:>8.1%} {one['links']:>9,}\n   {one['link']}"
        )
    return "\n".join(lines)
