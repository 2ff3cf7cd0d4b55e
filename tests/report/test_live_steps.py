# SPDX-License-Identifier: Apache-2.0
"""Live pipelines above their twins, and the tables beside them."""

from dataclasses import replace

from commbench.report.live_steps import live_steps
from commbench.report.pipeline_chart import PassBar, PassPanel, pass_keys, pipeline_chart
from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.kinds import record_from_json
from commbench.results.spans import Span
from commbench.results.tensor_parallel_records import (
    CollectiveCount,
    TensorParallelCompared,
    TensorParallelMeasured,
)
from commbench.validate.pipeline import FREE, compare_pipeline, simulate_pipeline, twin
from commbench.workload.pipeline.registry import build_pipeline
from tests.validate.made_up import measured, unit_times

TRAFFIC = TensorParallelMeasured(
    run="r", method="hand", sequence_parallel=False, backend="gloo", ranks=4, hidden=8, heads=4, ffn=32, sequence=4,
    micro_batch=1, dtype="float32",
    counts=(CollectiveCount(collective="all-reduce", calls=4, size_bytes=512, busbw_factor=1.5),),
    formula_bytes_times_ranks=8 * 4 * 8 * 4 * 3, samples_s=((0.2, 0.4),) * 4, starts_s=((0.0, 0.0),) * 4,
    clock="shared", spans=tuple(((("all-reduce", 512, 0.0, 0.01, 0.05, 0.04 + s),),) * 4 for s in (0.1, 0.2)),
    largest_error=1e-15, tolerance=1e-12, launcher="commbench", started_at="2026-01-01T00:00:00+00:00",
)  # fmt: skip
TWIN = TensorParallelCompared(
    run="r", method="hand", sequence_parallel=False, backend="gloo", ranks=4, measured_s=0.15, spread_s=0.05,
    simulated_s=0.12, measured_step_s=0.3, simulated_step_s=0.25, calibration=((512, 0.1, 0.01, 0.11),), max_error=0.15,
)  # fmt: skip
PRODUCT = GemmMeasured(
    run="r", m=10, n=10, k=10, dtype="fp32", device="toy", samples_s=(1e-6, 2e-6, 4e-6), peak_flops=4e9,
    peak_source="test", started_at="2026-01-01T00:00:00+00:00",
)  # fmt: skip
OVERLAP = OverlapMeasured(
    run="r", backend="gloo", ranks=2, m=1, n=1, k=1, dtype="float32", size_bytes=4, product_alone_s=((1.0,), (2.0,)),
    product_beside_s=((2.0,), (3.0,)), collective_alone_s=((1.0,), (1.0,)), collective_beside_s=((2.5,), (1.0,)),
    launcher="commbench", started_at="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def test_derived_figures() -> None:
    assert TRAFFIC.moved_bytes == 512 * 1.5 == TRAFFIC.formula_bytes
    assert TRAFFIC.bytes_ok
    assert abs(TRAFFIC.time_s - 0.3) < 1e-12
    assert abs(TRAFFIC.exposed_s - 0.15) < 1e-12
    assert PRODUCT.seconds == 2e-6
    assert abs((PRODUCT.efficiency or 0) - 0.25) < 1e-12  # 2000 FLOP in 2 us, of 4 GFLOP/s
    assert (OVERLAP.product_slowdown, OVERLAP.collective_slowdown) == (1.5, 2.5)
    for record in (TRAFFIC, TWIN, PRODUCT, OVERLAP):
        assert record_from_json(record.to_json(), "line 1") == record


def test_a_measured_pipeline_stands_above_its_twin() -> None:
    schedule = build_pipeline("zb-h1", 2, 4)
    record = measured(schedule, simulate_pipeline(schedule, unit_times, FREE))
    section = live_steps([record, twin(record), compare_pipeline(record)])
    assert section is not None
    (chart,) = section.charts
    assert chart.title == "zb-h1 on 2 live ranks, by commbench's executor"
    assert chart.svg.index("measured: ") < chart.svg.index("simulated: ")
    assert chart.svg.count("var(--s0)") == 2 * 2 * 4  # forwards: panels x ranks x microbatches
    assert "var(--s1)" not in chart.svg, "the colour of a whole backward pass"
    assert "var(--s3)" in chart.svg
    assert [key.word for key in section.passes if key.striped] == ["input gradient"], "told apart in grey, too"
    assert chart.svg.count("var(--s2)") == 2 * 2 * 4
    assert "<pattern" in chart.svg
    assert [key.word for key in section.passes] == ["forward", "input gradient", "weight gradient"]
    (bubbles,) = section.tables
    common = dict(bubbles.common)
    assert (common["schedule"], common["executor"], common["microbatches"]) == ("zb-h1", "schedule", "4")
    assert "most of it asleep" in section.notes[0]


def test_bubbles_that_differ_too_much_are_marked() -> None:
    schedule = build_pipeline("1f1b", 2, 4)
    ideal = simulate_pipeline(schedule, unit_times, FREE)
    late = tuple(
        tuple(Span(s, kind, k, 1.5 * begin, 1.5 * begin + (end - begin)) for s, kind, k, begin, end in rank)
        for rank in ideal
    )
    for spans, tone in ((ideal, ""), (late, "bad")):
        section = live_steps([compare_pipeline(measured(schedule, spans))])
        assert section is not None
        assert [cell.tone for cell in section.tables[0].rows[0]].count("bad") == (1 if tone else 0)


def test_tables_of_traffic_products_and_overlap() -> None:
    section = live_steps([TRAFFIC, PRODUCT, OVERLAP])
    assert section is not None
    assert [table.name for table in section.tables] == ["traffic", "products", "overlap"]
    traffic, products, overlap = (table.rows[0] for table in section.tables)
    assert [cell.text for cell in traffic[:3]] == ["4 all-reduce", "768", "768"]
    assert products[-1].sort == PRODUCT.efficiency
    assert overlap[-1].text == "2.500"
    assert live_steps([]) is None


def test_traffic_stands_beside_its_twin_and_an_error_too_large_is_marked() -> None:
    alone = live_steps([TRAFFIC])
    assert alone is not None
    assert [cell.text for cell in alone.tables[0].rows[0]].count("n/a") == 2
    assert alone.notes == ()
    section = live_steps([TRAFFIC, TWIN, replace(TWIN, sequence_parallel=True, simulated_s=0.3)])
    assert section is not None
    table, without_measurement = section.tables
    assert len(without_measurement.rows) == 1
    titles = [(column.title, column.under) for column in table.columns]
    at = titles.index(("measured", "in collectives"))
    assert titles[at + 1 : at + 3] == [("simulated", "in collectives"), ("error", "")]
    measured, simulated, error = table.rows[0][at : at + 3]
    assert (measured.text, measured.unit) == ("150.0 ± 50.0", "ms")
    assert (simulated.text, simulated.unit) == ("120.0", "ms")
    assert (error.text, error.tone) == ("−20.0\N{NO-BREAK SPACE}%", "bad")
    fine = live_steps([TRAFFIC, replace(TWIN, max_error=0.2)])
    assert fine is not None
    assert fine.tables[0].rows[0][at + 2].tone == ""
    (note,) = section.notes
    assert "1 size of all-reduces alone, which it explains to 10.0\N{NO-BREAK SPACE}%" in note


def test_a_chart_says_what_it_leaves_out() -> None:
    lanes = tuple(f"rank {lane}" for lane in range(40))
    bars = tuple(PassBar(lane, 0.0, 1.0, "F", "0") for lane in range(40))
    chart = pipeline_chart([PassPanel("many", lanes, bars)], "many", title="t")
    assert chart.detail == "shown: the first 32 of 40 lanes"
    assert "rank 31" in chart.svg
    assert "rank 32" not in chart.svg
    assert [key.colour for key in pass_keys([PassPanel("", ("a",), (PassBar(0, 0, 1, "W", ""),))])] == ["var(--s2)"]


def test_comparisons_without_their_measurement_have_a_table_and_one_note() -> None:
    """Forty comparisons of five runs were told by forty equal sentences and no figure."""
    alone = [replace(TWIN, run=f"r{i}", simulated_s=0.12 + 0.01 * i) for i in range(3)]
    section = live_steps([TRAFFIC, TWIN, *alone])
    assert section is not None
    traffic, twins = section.tables
    assert (len(traffic.rows), len(twins.rows)) == (1, 3)
    assert len(section.notes) == 1
