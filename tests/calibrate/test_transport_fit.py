# SPDX-License-Identifier: Apache-2.0
"""Latency and processor time of a transport's messages: found where points tell, else the smallest that explain."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from commbench.calibrate.transport import fit_transport
from commbench.errors import CheckFailedError, InputError
from commbench.libraries.gloo import GLOO_TCP
from commbench.network.transport import Transport
from commbench.results.records import Measured
from commbench.units import PS_PER_S

TRUTH = replace(GLOO_TCP, latency_ps=300_000_000, overhead_ps=20_000_000)


def seconds_of(messages: int) -> Callable[[Measured, Transport], float]:
    """A point takes a millisecond a KiB, and each of so many messages latency and processor time, these four times."""

    def predict_s(point: Measured, tried: Transport) -> float:
        numbers = messages * tried.latency_ps + 4 * (point.size_bytes // 1024) * tried.overhead_ps
        return point.size_bytes / 1024 * 1e-3 + numbers / PS_PER_S

    return predict_s


def points(predict_s: Callable[[Measured, Transport], float], wrong: int = 0) -> list[Measured]:
    def measured(size: int, time_s: float) -> Measured:
        return Measured(
            run="r", collective="all-reduce", algorithm="native", backend="gloo", ranks=2, size_bytes=size,
            num_elements=size // 4, dtype="float32", op="sum", samples_s=((time_s,),) * 2, busbw_factor=1.0,
            timing="isolated", launcher="commbench", started_at="2026-01-01T00:00:00Z", environment={}, wrong=wrong,
        )  # fmt: skip

    blank = [measured(size, 1.0) for size in (1024, 4096, 16384)]
    return [measured(point.size_bytes, predict_s(point, TRUTH)) for point in blank]


def test_numbers_that_points_tell_are_found() -> None:
    predict_s = seconds_of(messages=4)
    found = fit_transport(GLOO_TCP, points(predict_s), predict_s)
    assert found.latency_ps == pytest.approx(TRUTH.latency_ps, rel=0.02)
    assert found.overhead_ps == pytest.approx(TRUTH.overhead_ps, rel=0.02)


def test_of_numbers_that_explain_alike_the_smallest_are_taken() -> None:
    """The truth's numbers are a thousandth of these points, less than two runs of one differ by."""

    def predict_s(point: Measured, tried: Transport) -> float:
        return 1.0 + (tried.latency_ps + 4 * tried.overhead_ps) / PS_PER_S * (1e-3 / 380e-6)

    found = fit_transport(GLOO_TCP, points(predict_s), predict_s)
    assert found.latency_ps <= 2_000_000
    assert found.overhead_ps <= 200_000


def test_too_few_or_wrong_points_are_refused() -> None:
    predict_s = seconds_of(messages=4)
    with pytest.raises(InputError, match="two numbers are to be fitted; 1 points are too few"):
        fit_transport(GLOO_TCP, points(predict_s)[:1], predict_s)
    with pytest.raises(CheckFailedError, match="a point has wrong values"):
        fit_transport(GLOO_TCP, points(predict_s, wrong=1), predict_s)
