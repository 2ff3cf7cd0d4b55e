# SPDX-License-Identifier: Apache-2.0
"""Traces: read strictly as the format has it, and their sums held against ours."""

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from commbench.errors import InputError
from commbench.report import trace as trace_module
from commbench.report.trace import collective_trace, records_trace
from commbench.results.spans import busy_s
from commbench.sim.collective import Simulation
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.validate.pipeline import FREE, simulate_pipeline, twin
from commbench.workload.pipeline.registry import build_pipeline
from tests.cases import simulate_collective
from tests.report import samples
from tests.training.plans import plan, simulate
from tests.validate.made_up import measured, unit_times

MIB = 2**20
FIELDS = {"X": {"name", "cat", "ts", "dur", "args"}, "C": {"name", "ts", "args"}, "M": {"name", "args"}}


def read(text: str) -> list[dict[str, Any]]:
    """The events of a trace, if it is one: keys and types of every event, slices of a thread nested or apart."""
    whole = json.loads(text)
    assert set(whole) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert whole["displayTimeUnit"] in ("ms", "ns")
    events: list[dict[str, Any]] = whole["traceEvents"]
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        assert set(event) == FIELDS[event["ph"]] | {"ph", "pid", "tid"}, event
        assert type(event["pid"]) is int
        assert type(event["tid"]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert list(event["args"]) == ["name"]
        else:
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert all(round(1e3 * event[key], 6).is_integer() for key in ("ts", "dur")), "not whole nanoseconds"
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        if event["ph"] == "C":
            assert all(isinstance(value, float) and value >= 0 for value in event["args"].values())
    for spans in threads.values():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(spans)), "slices that cross"
    named = [(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"]
    assert set(threads) <= set(named)
    numbers = {pid for pid, _ in named} | {tid for _, tid in named}
    assert len(numbers) == len({pid for pid, _ in named}) + len(named), "a number for two"
    assert min(numbers) > 0
    return events


def rank_names(events: list[dict[str, Any]]) -> dict[int, str]:
    """By thread, whose it is: "rank 3"."""
    return {e["tid"]: e["args"]["name"].split(",")[0] for e in events if e["name"] == "thread_name"}


def full(fabric: Fabric, algorithm: str, size: int = MIB, collective: str = "all-reduce") -> Simulation:
    return simulate_collective(fabric, collective, algorithm, size, links=True)


def slices(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X"]


@pytest.mark.parametrize(("name", "algorithm"), [("fat-tree-16", "ring"), ("dgx-h100-x2", "double-binary-tree")])
def test_a_collective_has_a_slice_for_every_transfer(name: str, algorithm: str) -> None:
    done = full(load_fabric(name), algorithm)
    found = slices(read(collective_trace(done, load_fabric(name))))
    sends = done.flat.peer >= 0
    assert len(found) == done.record.transfers == int(sends.sum())
    assert sum(event["args"]["bytes"] for event in found) == int(done.flat.num_bytes[sends].sum())
    assert 1e3 * max(e["ts"] + e["dur"] for e in found) == pytest.approx(done.trace.end_ps[sends].max() / 1e3, abs=0.5)
    lasted = (done.trace.end_ps - done.trace.start_ps)[sends].sum()
    assert 1e3 * sum(event["dur"] for event in found) == pytest.approx(lasted / 1e3, abs=len(found))


def test_counters_of_links_sum_up_to_their_bytes() -> None:
    fabric = load_fabric("leaf-spine-16-4to1")
    done = full(fabric, "direct", 16 * MIB, "all-to-all")
    counters = defaultdict(list)
    for event in read(collective_trace(done, fabric)):
        if event["ph"] == "C":
            counters[event["name"].removeprefix("GB/s on ")].append((event["ts"], event["args"]["GB/s"]))
    assert len(counters) == 10
    names = {fabric.link_name(link): link for link in range(fabric.num_links)}
    for name, points in counters.items():
        over = sum(value * 1e3 * (b - a) for (a, value), (b, _) in pairwise(points))
        assert over == pytest.approx(done.link_bytes[names[name]], rel=1e-9)
        assert points[-1][1] == 0
        assert max(value for _, value in points) <= fabric.bandwidths[names[name]] / 1e9 * (1 + 1e-6)


def test_very_many_transfers_are_merged_and_lose_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = load_fabric("fat-tree-16")
    done = full(fabric, "double-binary-tree", 16 * MIB)
    events = read(collective_trace(done, fabric))
    whole, name = slices(events), rank_names(events)
    monkeypatch.setattr(trace_module, "MOST_SLICES", 40)
    merged = slices(read(collective_trace(done, fabric)))
    assert len(merged) <= 40 < len(whole)
    for key in ("bytes", "transfers"):
        of_whole = sum(event["args"].get(key, 1) for event in whole)
        assert sum(event["args"][key] for event in merged) == of_whole
    for rank in {f"rank {rank}" for rank in range(16)}:
        mine = [e for e in whole if name[e["tid"]] == rank]
        edges = np.unique([t for e in mine for t in (e["ts"], e["ts"] + e["dur"])])
        covered = sum(
            b - a for a, b in pairwise(edges)
            if any(e["ts"] <= a and b <= e["ts"] + e["dur"] for e in mine)
        )  # fmt: skip
        busy = sum(e["args"]["busy_us"] for e in merged if name[e["tid"]] == rank)
        assert busy == pytest.approx(covered, abs=1e-3 * len(mine))


def test_a_step_has_a_slice_for_every_pass() -> None:
    step = simulate(plan(tp=2, pp=2, dp=4)).record
    found = slices(read(records_trace([step])))
    assert len(found) == len(step.spans)
    busy = sum(end - begin for *_, begin, end in step.spans)
    assert sum(event["dur"] for event in found) / 1e6 == pytest.approx(busy, abs=1e-9 * len(found))


def test_a_live_pipeline_stands_beside_its_twin() -> None:
    schedule = build_pipeline("zb-h1", 2, 4)
    live = measured(schedule, simulate_pipeline(schedule, unit_times, FREE))
    events = read(records_trace([live, twin(live), samples.measured()]))
    found, name = slices(events), rank_names(events)
    for process, spans in enumerate((live.median_iteration, twin(live).spans), start=1):
        mine = [event for event in found if event["pid"] == process]
        for rank, busy in enumerate(busy_s(spans)):
            lasted = sum(e["dur"] for e in mine if name[e["tid"]] == f"rank {rank}")
            assert lasted / 1e6 == pytest.approx(busy, abs=1e-9 * len(mine))
    assert {event["name"] for event in found} >= {"forward 0", "input gradient 3", "weight gradient 0"}


def test_what_has_no_spans_is_refused() -> None:
    with pytest.raises(InputError, match="no record has passes with begin and end"):
        records_trace([samples.measured()])
    fabric = load_fabric("star-8")
    with pytest.raises(InputError, match="give --detail transfer"):
        collective_trace(simulate_collective(fabric, "all-reduce", "ring", MIB, detail="collective"), fabric)
