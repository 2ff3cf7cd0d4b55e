# SPDX-License-Identifier: Apache-2.0
"""Calibration on gloo's own all-reduces: which times count, and what is refused."""

from dataclasses import replace

import pytest

from commbench.calibrate.native import calibrate_native, grouped_s
from commbench.errors import CheckFailedError, InputError
from commbench.results.records import Measured
from tests.validate.made_up_blocks import MEBI, TRUTH, alone


def test_the_wait_for_the_last_rank_does_not_count() -> None:
    """Rank 0 is inside from 3 ms before the last on: its time beyond that, or the other's if it is longer."""
    point = replace(
        alone(MEBI),
        samples_s=((0.004,) * 4, (0.006,) * 4),
        phases_s={**alone(MEBI).phases_s, "wait": ((0.003, 0.003, 0.0, 0.0), (0.0,) * 4)},
    )
    assert grouped_s(point) == pytest.approx((0.004 + 0.004 + 0.006 + 0.006) / 4)


def test_a_time_is_the_median_of_means_of_four() -> None:
    """Calls of 1 or 5 ms: no median of single ones is between them; the last, incomplete group is left out."""
    row = (0.001, 0.005, 0.001, 0.005) + (0.001, 0.001, 0.001, 0.005) + (0.005,) * 4 + (0.9,) * 3
    never = ((0.0,) * len(row),) * 2
    point = replace(alone(MEBI), samples_s=(row, row), phases_s={"wait": never, "call": never, "copy": never})
    assert grouped_s(point) == pytest.approx(0.003)


def test_late_ranks_do_not_change_what_is_found() -> None:
    sizes = (MEBI // 4, MEBI, 4 * MEBI)
    found = calibrate_native([alone(s, waits_s=(0.0, 0.01, 0.0, 0.02)) for s in sizes], name="found", source="test")
    assert found.machine.latency_s == pytest.approx(TRUTH.machine.latency_s, rel=0.01)
    assert found.machine.bandwidth == pytest.approx(TRUTH.machine.bandwidth, rel=0.01)
    assert found.machine.reduction == found.copy == pytest.approx(TRUTH.copy)
    assert found.call_s == pytest.approx(TRUTH.call_s)


@pytest.mark.parametrize(
    ("point", "error", "rule"),
    [
        (alone(2 * MEBI), InputError, "two sizes"),
        (replace(alone(MEBI), algorithm="ring"), InputError, "gloo's own all-reduces, not all-reduce ring"),
        (replace(alone(MEBI), backend="nccl"), InputError, "on nccl"),
        (replace(alone(MEBI), phases_s={"call": ((0.1,) * 4,) * 2}), InputError, "the phases call, copy, wait"),
        (replace(alone(MEBI), wrong=3), CheckFailedError, "3 wrong values"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(point: Measured, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        calibrate_native([alone(2 * MEBI), point], name="found", source="test")
