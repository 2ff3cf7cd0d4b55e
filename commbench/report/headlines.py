# SPDX-License-Identifier: Apache-2.0
"""The first lines of a page: one headline for each kind of record, by name, comparing only like with like."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commbench.report.changes import verdict_of_changes
from commbench.report.diagnoses import verdict_of
from commbench.report.flows import verdict_of_flows
from commbench.report.identity import base_name, identity, labels, word
from commbench.report.text import percent, plural, signed_percent, time_text
from commbench.report.training import step_names
from commbench.results.changes import ChangeSummary
from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.diagnoses import HEALTHY, LOCALISED, Blamed, Diagnosed
from commbench.results.failures import FailedRun
from commbench.results.flows import SimulatedFlows
from commbench.results.grouped import (
    INCAST,
    PAIRWISE,
    by_distance,
    experiment_of,
    group_text,
    of_experiment,
    sent_bytes,
)
from commbench.results.judged import OK, UNKNOWN, Health
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured
from commbench.results.plans import Planned
from commbench.results.records import Compared, Measured, Record, Simulated, Summary
from commbench.results.reported import Reported
from commbench.results.steps import SimulatedStep
from commbench.results.tensor_parallel_records import TensorParallelCompared, TensorParallelMeasured
from commbench.units import GB, format_bandwidth, format_bytes

__all__ = ["CALIBRATION", "Verdict", "verdicts"]

CALIBRATION = "-calibration"
"""How the run of collectives ends that a live step was calibrated on, after the step's own."""
_MOST = 4
"""Groups that one headline names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence with a word in front; ``tone`` is "good", "bad" or "plain"."""

    tone: str
    word: str
    sentence: str


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Wrong values first, then every validation's end, then a headline for each other kind that there is."""
    found = [*_wrong_values(records), *(_validation(r) for r in records if isinstance(r, Summary))]
    found += _groups(records)
    found += [_health(r) for r in records if isinstance(r, Health)]
    judged = any(isinstance(r, Summary | Health) for r in records)
    for kind, make in _HEADLINES.items():
        members = [r for r in records if isinstance(r, kind)]
        if kind is Measured:
            members = _for_their_own_sake(members, records)
        if members and not (judged and kind in (Measured, Simulated, Reported, Compared)):
            found.append(make(members))
    return found or [Verdict("plain", "Records", "Nothing on this page was measured, simulated or compared.")]


def _for_their_own_sake(measured: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Without collectives that a pipeline or a transformer block was calibrated on, and pairs and incasts."""
    steps = {r.run for r in records if isinstance(r, TensorParallelMeasured | PipelineMeasured)}
    own = [r for r in measured if experiment_of(r) not in (PAIRWISE, INCAST)]
    return [r for r in own if r.run.removesuffix(CALIBRATION) not in steps]


def _groups(records: Sequence[Record]) -> Iterable[Verdict]:
    """What pairs of ranks reach, by distance, and what the receiver of an incast gets."""
    pairs, incasts = [], []
    for one in by_distance(of_experiment(records, PAIRWISE)):
        slow, fast = (format_bandwidth(GB * (end.busbw_GBps or 0.0)) for end in (one.slowest, one.fastest))
        how = "each alone" if one.alone else "at once"
        what = f"{plural(one.pairs, 'pair')} ({one.distance}), {how}, {format_bytes(one.size_bytes)}"
        pairs.append(f"{what}: {slow} (ranks {group_text(one.slowest)}) to {fast}")
    every = of_experiment(records, INCAST)
    for size in dict.fromkeys(map(sent_bytes, every)):
        found = sorted((r for r in every if sent_bytes(r) == size), key=lambda r: r.ranks)
        told = (f"{format_bandwidth(GB * (r.busbw_GBps or 0.0))} from {r.ranks - 1}" for r in (found[0], found[-1]))
        incasts.append(f"{format_bytes(size)} from each: the receiver gets {', '.join(told)}")
    for word_in_front, sentences in (("Pairs", pairs), ("Incast", incasts)):
        if sentences:
            more = f"; {len(sentences) - _MOST} more below" if len(sentences) > _MOST else ""
            yield Verdict("plain", word_in_front, "; ".join(sentences[:_MOST]) + f"{more}.")


def _health(found: Health) -> Verdict:
    tone = "good" if found.verdict == OK else "plain" if found.verdict == UNKNOWN else "bad"
    what = f"{found.collective} on {plural(found.ranks, 'rank')} against {found.topology} by {found.library}"
    word = "As it should be" if found.verdict == OK else found.verdict.capitalize()
    return Verdict(tone, word, f"{what}: {found.reason}.")


def _validation(summary: Summary) -> Verdict:
    figures = (
        f"{plural(summary.points, 'test point')}{_where(summary)}: median |error| {percent(summary.median_abs_error)}, "
        f"95th percentile {percent(summary.p95_abs_error)}"
    )
    limits = f"(at most {_round_percent(summary.max_median_abs_error)} and {_round_percent(summary.max_p95_abs_error)})"
    if summary.ok:
        return Verdict("good", "Within thresholds", f"{figures} {limits}.")
    return Verdict("bad", "Fell short", f"{figures} {limits}.")


def _where(summary: Summary) -> str:
    """Whether its points are of flows that share links, where all are or none is: two summaries of a page differ so."""
    words: Mapping[tuple[str, ...], str] = {("yes",): " on shared links", ("no",): " without shared links"}
    if kinds := summary.groups.get("packets"):
        return f" by packets, {next(iter(kinds))}"
    return words.get(tuple(summary.groups.get("contended", ())), "")


def _round_percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}\N{NO-BREAK SPACE}%"


def _wrong_values(records: Sequence[Record]) -> Iterable[Verdict]:
    bad = [r for r in records if isinstance(r, Measured | Reported) and r.wrong]
    if bad:
        total = sum(r.wrong or 0 for r in bad)
        values, sizes = plural(total, "wrong value"), plural(len(bad), "measured size")
        yield Verdict("bad", "Wrong results", f"{values} at {sizes}: what was timed there did not do its work.")


def _collectives(word: str) -> Callable[[Sequence[Any]], Verdict]:
    """A headline of the best bus bandwidth of each collective, on as many ranks, on one fabric, disturbed alike."""

    def make(points: Sequence[Any]) -> Verdict:
        groups: dict[tuple[str, ...], list[Any]] = {}
        for point in points:
            facts = identity(point)
            groups.setdefault(tuple(facts.get(name, "") for name in _LIKE), []).append(point)
        shown = [name for i, name in enumerate(_LIKE) if i > 1 and len({key[i] for key in groups}) > 1]
        if len({key[:-1] for key in groups}) == len(groups):
            shown = [name for name in shown if name != _LIKE[-1]]
        parts = [_best(dict(zip(_LIKE, key, strict=True)), shown, members) for key, members in groups.items()]
        return Verdict("plain", word, _listed(parts))

    return make


_LIKE = (
    *("collective", "ranks", "topology", "fabric", "jobs", "faults", "background", "scenario", "jitter"),
    "scenario_digest",
)
"""What results have in common that a headline compares; a digest is told only where nothing before it differs."""


def _best(key: Mapping[str, str], shown: Sequence[str], points: Sequence[Any]) -> str:
    """What was best among results that can be compared."""
    place = ", ".join(word(name, key[name]) for name in shown if key[name])
    what = f"{key['collective']} on {plural(int(key['ranks']), 'rank')}{f' ({place})' if place else ''}"
    rated = [
        member for member in zip(points, labels(points, known=("algorithm",)), strict=True)
        if member[0].busbw_GBps is not None
    ]  # fmt: skip
    if not rated:
        return f"{what}: {plural(len(points), 'size')}, bus bandwidth has no meaning"
    top, label = max(rated, key=lambda member: member[0].busbw_GBps)
    best = f"best of {len(points)}: " if len(points) > 1 else ""
    return (
        f"{what}: {best}{', '.join((base_name(top), *label))} of {format_bytes(top.size_bytes)} in "
        f"{time_text(top.time_s)}, bus bandwidth {format_bandwidth(GB * top.busbw_GBps)}{_of_bound(top)}"
    )


def _of_bound(point: Any) -> str:
    """How far a simulation is above what no schedule can beat, and what most of its time goes to."""
    if not isinstance(point, Simulated) or not point.lower_bound_s:
        return ""
    ratio = f", {point.time_s / point.lower_bound_s:.3g} times the lower bound"
    most = max(point.terms, key=lambda name: point.terms[name], default="")
    return f"{ratio}; {percent(point.terms[most] / point.time_s)} of the time is {most}" if most else ratio


def _compared(points: Sequence[Any]) -> Verdict:
    tests = sum(p.set == "test" for p in points)
    return Verdict(
        "plain",
        "Compared",
        f"{plural(len(points), 'point')}, {tests} of them for test; no summary record, so nothing was judged.",
    )


def _pipelines(pairs: Sequence[Any]) -> Verdict:
    bad = [p for p in pairs if not p.ok]
    farthest = max(pairs, key=lambda p: abs(p.points))
    sentence = (
        f"{plural(len(pairs), 'pipeline')} beside the simulation: measured and simulated bubble differ by "
        f"{abs(farthest.points):.1f} points at most ({farthest.schedule}), the step by "
        f"{percent(max(abs(p.error) for p in pairs))}"
    )
    return _judged("Pipelines", sentence, bad, len(pairs))


def _pipelines_alone(measured: Sequence[Any]) -> Verdict:
    told = [
        f"{p.schedule} on {plural(p.ranks, 'rank')}: {time_text(p.iteration_s)} a step, bubble "
        f"{percent(p.bubble_of_total)} of total"
        for p in measured
    ]
    return Verdict("plain", "Pipelines measured", _listed(told))


def _blocks(measured: Sequence[Any]) -> Verdict:
    bad = [b for b in measured if not b.bytes_ok or b.values_ok is False]
    sentence = (
        f"{plural(len(measured), 'transformer block')}: "
        f"{time_text(min(b.exposed_s for b in measured))} to {time_text(max(b.exposed_s for b in measured))} in "
        "collectives; bytes moved held against the formula, gradients against the whole block"
    )
    return _judged("Tensor parallelism", sentence, bad, len(measured))


def _twins(pairs: Sequence[Any]) -> Verdict:
    farthest = max(pairs, key=lambda p: abs(p.error))
    sentence = (
        f"{plural(len(pairs), 'block')} beside the simulation: time in collectives off by "
        f"{signed_percent(farthest.error)} at most ({farthest.method}, {plural(farthest.ranks, 'rank')})"
    )
    return _judged("Tensor parallelism simulated", sentence, [p for p in pairs if not p.ok], len(pairs))


def _judged(word: str, sentence: str, bad: Sequence[object], count: int) -> Verdict:
    if bad:
        return Verdict("bad", f"{word}: fell short", f"{sentence}; {len(bad)} of {count} outside the limits.")
    return Verdict("good", f"{word}: within limits", f"{sentence}.")


def _products(found: Sequence[Any]) -> Verdict:
    fastest = max(found, key=lambda r: r.flops)
    share = "" if fastest.efficiency is None else f", {percent(fastest.efficiency)} of the stated peak"
    sizes = f"{fastest.m} × {fastest.n} × {fastest.k} in {fastest.dtype} on {fastest.device}"
    return Verdict(
        "plain", "Products", f"{plural(len(found), 'shape')}; {sizes}: {fastest.flops / 1e9:,.4g} GFLOP/s{share}."
    )


def _overlap(found: Sequence[Any]) -> Verdict:
    told = [
        f"beside an all-reduce of {format_bytes(r.size_bytes)} a product takes {r.product_slowdown:.3g} times as long, "
        f"the all-reduce {r.collective_slowdown:.3g} times"
        for r in found
    ]
    return Verdict("plain", "Overlap", _listed(told))


def _failures(found: Sequence[Any]) -> Verdict:
    return Verdict("bad", "Failed", _listed([f"{r.job} on {plural(r.ranks, 'rank')}: {r.message}" for r in found]))


def _steps(steps: Sequence[Any]) -> Verdict:
    told = [
        f"{name} on {plural(s.ranks, 'GPU')} of {s.topology}: {time_text(s.iteration_s)} in {s.dtype}, "
        f"MFU {percent(s.mfu)}"
        f"{'' if s.fits else ', which does not fit into memory'}"
        for name, s in zip(step_names(steps), steps, strict=True)
    ]
    return Verdict("plain" if all(s.fits for s in steps) else "bad", "Training step", _listed(told))


def _changes(found: Sequence[Any]) -> Verdict:
    told = _listed([verdict_of_changes(one) for one in found])
    return Verdict("good", "Nothing slower", told) if all(one.ok for one in found) else Verdict("bad", "Slower", told)


def _diagnoses(found: Sequence[Any]) -> Verdict:
    verdicts = {one.verdict for one in found}
    tone = "good" if verdicts == {HEALTHY} else "bad" if LOCALISED in verdicts else "plain"
    return Verdict(tone, "Diagnosis", _listed([verdict_of(one) for one in found]))


def _blamed(found: Sequence[Any]) -> Verdict:
    told = [
        f"rank {one.findings[0].rank}: {one.findings[0].what}" if one.findings else "no rank is at fault"
        for one in found
    ]
    return Verdict("bad" if any(one.findings for one in found) else "good", "Ranks", _listed(told))


def _flows(found: Sequence[Any]) -> Verdict:
    return Verdict("plain", "Flows", _listed([verdict_of_flows(one) for one in found]))


def _plans(plans: Sequence[Any]) -> Verdict:
    told = [
        f"{plan.model} on {plan.topology}: {plan.best[0].command}, {time_text(plan.best[0].time_s)}"
        if plan.best else f"{plan.model} on {plan.topology}: no strategy fits"
        for plan in plans
    ]  # fmt: skip
    return Verdict("plain" if all(plan.best for plan in plans) else "bad", "Plan", _listed(told))


def _listed(told: Sequence[str]) -> str:
    more = f"; {len(told) - _MOST} more below" if len(told) > _MOST else ""
    return f"{'; '.join(told[:_MOST])}{more}."


_HEADLINES: Mapping[type[Record], Callable[[Sequence[Any]], Verdict]] = {
    Compared: _compared,
    Measured: _collectives("Measured"),
    Simulated: _collectives("Simulated"),
    Reported: _collectives("Reported"),
    PipelineMeasured: _pipelines_alone,
    PipelineCompared: _pipelines,
    TensorParallelMeasured: _blocks,
    TensorParallelCompared: _twins,
    GemmMeasured: _products,
    OverlapMeasured: _overlap,
    FailedRun: _failures,
    SimulatedStep: _steps,
    SimulatedFlows: _flows,
    ChangeSummary: _changes,
    Diagnosed: _diagnoses,
    Blamed: _blamed,
    Planned: _plans,
}
