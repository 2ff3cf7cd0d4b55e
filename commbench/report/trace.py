# SPDX-License-Identifier: Apache-2.0
"""Spans as a trace that Perfetto and chrome://tracing open: slices by rank, load of links as counters.

Format: "Trace Event Format" (Google, 2016): complete events (``ph`` X), counters (C) and names (M). ``ts`` and ``dur``
are microseconds. Slices begin and end in whole nanoseconds, the finest that Perfetto keeps: it rounds ``ts`` and
``dur`` each by itself, and drops a slice that thereby overlaps the one before. No two processes or threads share a
number, and none is 0: Perfetto takes a thread with its process's number for the main one, and 0 for idle time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from commbench.arrays import IntArray
from commbench.errors import InputError
from commbench.report.gantt import has_transfers, pack
from commbench.results.pipeline_records import PipelineMeasured, PipelineSimulated
from commbench.results.records import SCHEMA, Record, Simulated
from commbench.results.spans import PASSES, RankSpans
from commbench.results.steps import SimulatedStep
from commbench.sim.link_load import busiest_spans
from commbench.units import GB, PS_PER_S, format_bytes

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation
    from commbench.topology.fabric import Fabric

__all__ = ["MOST_SLICES", "Pass", "collective_trace", "passes_of", "records_trace"]

_PROCESS, _FIRST_THREAD = 1, 2
MOST_SLICES = 100_000
"""Of more transfers a trace has one slice for all that a rank sends between two longer pauses."""
_PS_PER_US = 1_000_000
_PS_PER_NS, _NS_PER_US = 1_000, 1_000
Event = dict[str, Any]


def collective_trace(simulation: "Simulation", fabric: "Fabric") -> str:
    """A simulated collective: what every rank sends, the load of its ten busiest links, and its deepest queues.

    Raises:
        InputError: no single transfers were simulated.
    """
    record = simulation.record
    if not has_transfers(simulation):
        raise InputError(f"a trace shows single transfers, and this is detail {record.detail}: give --detail transfer")
    program = simulation.flat
    sends = np.flatnonzero(program.peer >= 0)
    title = f"{record.algorithm} {record.collective} of {format_bytes(record.size_bytes)} on {record.topology}"
    events = [_name("process", _PROCESS, _FIRST_THREAD, title)]
    slices = _sent if len(sends) <= MOST_SLICES else _sent_in_a_row
    for rank, mine in _by_rank(program.rank[sends], sends, record.ranks):
        events += slices(simulation, rank, mine)
    events += _link_loads(simulation, fabric)
    events += _queue_depths(record)
    return _document(events, [record])


def records_trace(records: Sequence[Record]) -> str:
    """Training steps and pipelines whose records have their passes: a process each, a thread for every rank.

    Raises:
        InputError: none of the records has any.
    """
    events: list[Event] = []
    found = [one for record in records if (one := passes_of(record))]
    thread = len(found) + 1
    for process, (title, lanes, passes) in enumerate(found, start=1):
        events += _pipeline(process, thread, title, lanes, passes)
        thread += len(lanes)
    if not found:
        raise InputError(
            "no record has passes with begin and end: records of sim train, run pipeline and emulate ... run pipeline "
            "do, in the file that --out names"
        )
    return _document(events, [])


Pass = tuple[int, int, str, int, float, float]
"""Lane, stage, letter, microbatch, begin and end in seconds."""


def passes_of(record: Record) -> tuple[str, list[str], list[Pass]] | None:
    """Title, names of lanes, and passes; None for records without any."""
    if isinstance(record, SimulatedStep) and record.spans:
        lanes = [f"unit {unit}, position {position}" for unit, position in enumerate(record.positions)]
        title = f"simulated step of {record.model}, {record.schedule} on {record.topology}"
        return title, lanes, [(u, s, kind, m, begin, end) for u, s, kind, m, begin, end in record.spans]
    if isinstance(record, PipelineMeasured):
        return (f"measured {record.schedule}, median iteration", *_ranks(record.median_iteration))
    if isinstance(record, PipelineSimulated):
        return (f"simulated {record.schedule}", *_ranks(record.spans))
    return None


def _ranks(spans: RankSpans) -> tuple[list[str], list[Pass]]:
    lanes = [f"rank {rank}" for rank in range(len(spans))]
    return lanes, [(rank, *span) for rank, row in enumerate(spans) for span in row]


def _pipeline(
    process: int, first_thread: int, title: str, lanes: Sequence[str], passes: Iterable[Pass]
) -> Iterator[Event]:
    yield _name("process", process, first_thread, title)
    yield from (_name("thread", process, thread, name) for thread, name in enumerate(lanes, start=first_thread))
    for lane, stage, kind, microbatch, begin_s, end_s in passes:
        begin, end = round(begin_s * PS_PER_S), round(end_s * PS_PER_S)
        told = {"stage": stage, "microbatch": microbatch}
        yield _slice(process, first_thread + lane, f"{PASSES[kind]} {microbatch}", PASSES[kind], begin, end, told)


def _by_rank(rank: IntArray, tasks: IntArray, num_ranks: int) -> Iterator[tuple[int, IntArray]]:
    """Tasks of every rank."""
    order = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[order], np.arange(num_ranks + 1))
    for number in range(num_ranks):
        yield number, tasks[order[bounds[number] : bounds[number + 1]]]


def _sent(simulation: "Simulation", rank: int, tasks: IntArray) -> Iterator[Event]:
    """A slice for each transfer; those at the same time lie in threads of their own."""
    program, trace = simulation.flat, simulation.trace
    tasks = tasks[np.lexsort((tasks, trace.start_ps[tasks]))]
    begin, end = trace.start_ps[tasks].tolist(), trace.end_ps[tasks].tolist()
    lanes = pack(begin, end)
    for lane in range(max(lanes, default=0) + 1):
        thread = _thread(simulation, rank, lane)
        name = f"rank {rank}" if lane == 0 else f"rank {rank}, at the same time ({lane + 1})"
        yield _name("thread", _PROCESS, thread, name)
    for task, lane, opens, closes in zip(tasks.tolist(), lanes, begin, end, strict=True):
        told = {
            "to": int(program.peer[task]), "step": int(program.step[task]), "channel": int(program.channel[task]),
            "bytes": int(program.num_bytes[task]),
        }  # fmt: skip
        name = f"step {program.step[task]} to rank {program.peer[task]}"
        yield _slice(_PROCESS, _thread(simulation, rank, lane), name, "transfer", opens, closes, told)


def _thread(simulation: "Simulation", rank: int, lane: int) -> int:
    return _FIRST_THREAD + rank + lane * simulation.record.ranks


def _sent_in_a_row(simulation: "Simulation", rank: int, tasks: IntArray) -> Iterator[Event]:
    """A slice for what a rank sends between two of its longest pauses; ``busy_us`` of it something was under way."""
    program, trace = simulation.flat, simulation.trace
    thread = _thread(simulation, rank, 0)
    yield _name("thread", _PROCESS, thread, f"rank {rank}")
    if not len(tasks):
        return
    tasks = tasks[np.argsort(trace.start_ps[tasks], kind="stable")]
    begin, end = trace.start_ps[tasks], np.maximum.accumulate(trace.end_ps[tasks])
    pauses = np.maximum(begin[1:] - end[:-1], 0)
    most = max(1, MOST_SLICES // simulation.record.ranks)
    longest = np.sort(np.argsort(-pauses, kind="stable")[: most - 1])
    opens = [0, *(longest[pauses[longest] > 0] + 1).tolist(), len(tasks)]
    for first, after in pairwise(opens):
        span, idle = int(end[after - 1] - begin[first]), int(pauses[first : after - 1].sum())
        told = {
            "transfers": after - first, "bytes": int(program.num_bytes[tasks[first:after]].sum()),
            "busy_us": (span - idle) / _PS_PER_US,
        }  # fmt: skip
        opens_ps = int(begin[first])
        yield _slice(_PROCESS, thread, f"{after - first} transfers", "transfers", opens_ps, opens_ps + span, told)


def _link_loads(simulation: "Simulation", fabric: "Fabric") -> Iterator[Event]:
    """GB/s over the busiest links; a counter's sum over time is the bytes that went over the link."""
    for one in busiest_spans(simulation):
        times, rates = one.steps()
        for time_ps, rate in zip(times.tolist(), rates.tolist(), strict=True):
            yield _counter(f"GB/s on {fabric.link_name(one.link)}", time_ps, {"GB/s": rate / GB})


def _queue_depths(record: Simulated) -> Iterator[Event]:
    """Bytes that waited before links where packets were simulated: the deepest in each slice of time, and 0 behind."""
    for one in record.queues:
        for number, depth in enumerate([*one["by_time_bytes"], 0]):
            at_ps = round(number * one["slice_s"] * PS_PER_S)
            yield _counter(f"bytes before {one['link']}", at_ps, {"bytes": depth})


def _counter(name: str, time_ps: int, values: Mapping[str, float]) -> Event:
    about = {"name": name, "pid": _PROCESS, "tid": _FIRST_THREAD}
    return {"ph": "C", **about, "ts": time_ps / _PS_PER_US, "args": dict(values)}


def _slice(process: int, thread: int, name: str, kind: str, begin: int, end: int, told: dict[str, Any]) -> Event:
    """From picoseconds; what follows without a pause does so in nanoseconds too."""
    begin_ns, end_ns = (round(time_ps / _PS_PER_NS) for time_ps in (begin, end))
    span = {"ts": begin_ns / _NS_PER_US, "dur": (end_ns - begin_ns) / _NS_PER_US}
    return {"ph": "X", "name": name, "cat": kind, "pid": process, "tid": thread, **span, "args": told}


def _name(what: str, process: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": f"{what}_name", "pid": process, "tid": thread, "args": {"name": name}}


def _document(events: Sequence[Event], records: Sequence[Record]) -> str:
    """The whole file: an event a line, so that it can be read in part and compared."""
    lines = ",\n".join(json.dumps(event, allow_nan=False) for event in events)
    about = {"program": "commbench", "schema": SCHEMA, "records": [json.loads(record.to_json()) for record in records]}
    return f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(about)}, "traceEvents": [\n{lines}\n]}}\n'
