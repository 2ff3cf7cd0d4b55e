# SPDX-License-Identifier: Apache-2.0
"""A pipeline and its twin, on made-up measurements whose bubble and causes of idle time are known."""

import pytest

from commbench.results.kinds import record_from_json
from commbench.results.pipeline_records import PipelineSimulated
from commbench.results.spans import Span
from commbench.validate.pipeline import FREE, LatencyNetwork, compare_pipeline, simulate_pipeline, twin
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Action
from tests.validate.made_up import measured, unit_times
from tests.workload.pipelines import bubble_of


@pytest.mark.parametrize(
    ("name", "per_rank", "total_s", "busy_s"),
    [
        ("gpipe", 1, 0.33, 0.24),
        ("1f1b", 1, 0.33, 0.24),
        ("interleaved-1f1b", 2, 0.57, 0.48),
        ("zb-h1", 1, 0.27, 0.24),
        ("dualpipev", 2, 0.54, 0.48),
    ],
)
def test_a_twin_of_ideal_passes_has_the_closed_form(name: str, per_rank: int, total_s: float, busy_s: float) -> None:
    """4 ranks, 8 microbatches: worked totals 33, 28.5, 27 and 27 units of a rank's F, ideal 24."""
    schedule = build_pipeline(name, 4, 8, per_rank)
    spans = simulate_pipeline(schedule, unit_times, FREE)
    found = twin(measured(schedule, spans))
    assert found.spans == spans
    assert found.iteration_s == pytest.approx(total_s)
    assert found.bubble_of_total == pytest.approx(1 - busy_s / total_s)
    assert found.bubble_of_ideal == pytest.approx(total_s / busy_s - 1)
    ends = [[(begin, end) for *_, begin, end in rank] for rank in spans]
    assert found.bubble_of_total == pytest.approx(bubble_of(ends).of_total)
    compared = compare_pipeline(measured(schedule, spans))
    assert compared.points == pytest.approx(0)
    assert compared.ok
    assert compared.idle_s == pytest.approx({"schedule": total_s - busy_s, "imbalance": 0, "transfer": 0, "host": 0})


def test_clock_free_bubble_is_the_intercept() -> None:
    """T(m) = 0.03 m + 0.09 at m = 8 and 16: 0.33 and 0.57, so 0.09 / 0.33."""
    schedule = build_pipeline("1f1b", 4, 8)
    assert measured(schedule, simulate_pipeline(schedule, unit_times, FREE)).bubble_clock_free == pytest.approx(3 / 11)


def test_a_slow_stage_is_imbalance() -> None:
    """Stage 1 takes half as long again: 420 ms, of which 360 are its own.

    Before them F of stage 0 (10), behind them B of stage 0 (20); and it waits for its first backward as long as F2, F3,
    B3 and B2 take (60), less its two other forwards of the warm-up (30).
    """
    schedule = build_pipeline("1f1b", 4, 8)

    def lasts(action: Action) -> int:
        return unit_times(action) * (3 if action.stage == 1 else 2) // 2

    compared = compare_pipeline(measured(schedule, simulate_pipeline(schedule, lasts, FREE)))
    mean_busy = (3 * 0.24 + 0.36) / 4
    assert compared.measured_s == pytest.approx(0.42)
    alike = 3 / 8 * mean_busy  # (p - 1) (F + B) of passes of mean length
    assert compared.idle_s == pytest.approx(
        {"schedule": alike, "imbalance": 0.42 - mean_busy - alike, "transfer": 0, "host": 0}
    )
    assert compared.points == pytest.approx(0)


def test_transfers_are_told_from_the_schedule() -> None:
    """GPipe: filling takes 3 transfers down, draining 3 up."""
    schedule = build_pipeline("gpipe", 4, 8)
    spans = simulate_pipeline(schedule, unit_times, LatencyNetwork({(r, r + 1): 0.001 for r in range(3)}))
    compared = compare_pipeline(measured(schedule, spans, transfer_s=0.001))
    assert compared.measured_s == pytest.approx(0.336)
    assert compared.simulated_s == pytest.approx(0.336)
    assert compared.idle_s == pytest.approx({"schedule": 0.09, "imbalance": 0, "transfer": 0.006, "host": 0})
    late = compare_pipeline(measured(schedule, spans, transfer_s=0.0))
    assert late.idle_s == pytest.approx({"schedule": 0.09, "imbalance": 0, "transfer": 0, "host": 0.006})


def test_what_no_cause_explains_is_the_host_and_may_fail() -> None:
    """Every second pass begins late by 10 ms: 33 units become more, and the twin does not follow."""
    schedule = build_pipeline("1f1b", 4, 8)
    ideal = simulate_pipeline(schedule, unit_times, FREE)
    stretched = tuple(
        tuple(Span(s, kind, k, 1.2 * begin, 1.2 * begin + (end - begin)) for s, kind, k, begin, end in rank)
        for rank in ideal
    )
    compared = compare_pipeline(measured(schedule, stretched))
    assert compared.simulated_bubble == pytest.approx(3 / 11)
    assert compared.points > 3
    assert not compared.ok
    assert compared.idle_s["host"] == pytest.approx(compared.measured_s - 0.33)
    assert compare_pipeline(measured(schedule, stretched), max_points=100).ok


def test_figures_are_medians_over_iterations() -> None:
    schedule = build_pipeline("1f1b", 2, 2)
    spans = [
        simulate_pipeline(schedule, lambda action, n=n: n * unit_times(action), FREE)  # type: ignore[misc]
        for n in (1, 2, 30)
    ]
    record = measured(schedule, *spans)
    assert record.samples_s == pytest.approx((0.09, 0.18, 2.7))  # (m + p - 1) x 30 ms
    assert record.iteration_s == pytest.approx(0.18)
    assert record.spread_s == pytest.approx(0.09)
    assert record.median_iteration == spans[1]
    assert record.pass_s()[0, "F"] == pytest.approx(0.02)


def test_records_come_back_from_their_lines() -> None:
    schedule = build_pipeline("zbv", 2, 4)
    record = measured(schedule, simulate_pipeline(schedule, unit_times, FREE))
    for one in (record, twin(record), compare_pipeline(record)):
        assert record_from_json(one.to_json(), "line 1") == one
    assert isinstance(twin(record), PipelineSimulated)
    assert '"spans"' not in record.headline()
    assert '"bubble_of_total"' in record.headline()
