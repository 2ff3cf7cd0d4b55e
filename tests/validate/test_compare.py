# SPDX-License-Identifier: Apache-2.0
"""Comparison: the sign of the error, which points count, and thresholds that fail."""

from dataclasses import replace

import pytest

from commbench.errors import InputError
from commbench.results.journal import read_records
from commbench.validate.campaign import judge
from commbench.validate.compare import compare, split_sizes, summarize
from tests.calibrate.test_fit import SIZES, TRUTH, measured


def test_the_error_is_simulated_over_measured_less_one() -> None:
    point = measured(2**20)
    slower = replace(point, samples_s=tuple(tuple(2 * t for t in row) for row in point.samples_s))
    (same,) = compare(TRUTH, [point], [])
    (half,) = compare(TRUTH, [slower], [])
    assert same.error == pytest.approx(0.0, abs=1e-12)
    assert half.error == pytest.approx(-0.5)  # measured took twice as long, so the simulation says half
    assert (half.region, half.set) == ("knee", "test")


def test_every_second_size_goes_to_the_fit() -> None:
    points = [measured(size) for size in SIZES]
    assert [p.size_bytes for p in split_sizes(points)] == SIZES[::2]


def test_points_of_the_fit_do_not_count_in_the_verdict() -> None:
    good, bad = measured(2**20), measured(2**22)
    bad = replace(bad, samples_s=tuple(tuple(2 * t for t in row) for row in bad.samples_s))
    compared = compare(TRUTH, [good, bad], fitted=[bad])
    summary = summarize(compared, max_median=0.01, max_p95=0.01)
    assert (summary.points, summary.ok) == (1, True)
    with pytest.raises(InputError, match="nothing to validate"):
        summarize(compare(TRUTH, [bad], fitted=[bad]), max_median=1, max_p95=1)


@pytest.mark.parametrize(("max_median", "max_p95", "ok"), [(0.6, 0.6, True), (0.4, 0.6, False), (0.6, 0.4, False)])
def test_either_threshold_fails_alone(max_median: float, max_p95: float, ok: bool) -> None:
    bad = measured(2**22)
    bad = replace(bad, samples_s=tuple(tuple(2 * t for t in row) for row in bad.samples_s))
    assert summarize(compare(TRUTH, [bad], []), max_median=max_median, max_p95=max_p95).ok is ok


def test_a_whole_campaign_on_made_up_measurements_is_predicted_and_kept(tmp_path) -> None:
    legs = [("ring", 4), ("tree", 4), ("ring", 3), ("tree", 3)]
    records = [measured(size, algorithm, ranks) for algorithm, ranks in legs for size in SIZES]
    found = judge(records, max_median=0.02, max_p95=0.05, source="test", out=tmp_path / "validation.jsonl")
    assert found.summary.ok
    assert found.summary.points == len(records) - len(SIZES[::2])
    assert set(found.summary.groups["algorithm"]) == {"ring", "double-binary-tree"}
    kept = read_records(tmp_path / "validation.jsonl")
    assert kept == [*found.compared, found.summary]


def test_records_without_the_leg_to_fit_on_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="ring on 4 ranks"):
        judge([measured(2**20, ranks=3)], max_median=1, max_p95=1, source="test", out=tmp_path / "v.jsonl")
