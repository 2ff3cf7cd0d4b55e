# SPDX-License-Identifier: Apache-2.0
"""What two sequences take beside each other, in seconds that can be counted by hand."""

import pytest

from commbench.training.link_time import NO_TIME, LinkTime, slowed_s

COMPUTE = LinkTime(0.0, 4.0)
HALF = LinkTime(1.0, 2.0, (0.5, 0.0))
MOST = LinkTime(0.0, 2.0, (0.8, 0.2))


def test_computing_is_longer_by_the_share_while_bytes_move() -> None:
    assert slowed_s([COMPUTE], [HALF], 0.25) == pytest.approx(0.25 * 2)


def test_collectives_are_longer_by_what_they_want_too_much_of_a_link() -> None:
    """0.5 and 0.8 of one link, together in the second second alone: the first of the one has no bytes yet."""
    assert slowed_s([MOST], [HALF], 0.0) == pytest.approx(0.3 * 1)
    assert slowed_s([MOST], [HALF], 0.5) == pytest.approx(0.5 * 1)


def test_collectives_on_different_links_take_what_they_take_alone() -> None:
    other = LinkTime(0.0, 2.0, (0.0, 0.7))
    assert slowed_s([other], [HALF], 0.0) == 0
    assert slowed_s([NO_TIME], [HALF], 0.5) == 0


def test_what_comes_later_meets_what_is_there_then() -> None:
    assert slowed_s([COMPUTE, MOST], [LinkTime(4.0, 2.0, (0.5, 0.0))], 0.1) == pytest.approx(0.3 * 2)


def test_loads_of_a_sum_are_the_mean_of_its_seconds() -> None:
    both = LinkTime(1.0, 3.0, (0.4, 0.0)) + LinkTime(0.0, 1.0, (0.8, 0.4))
    assert (both.latency_s, both.wire_s) == (1.0, 4.0)
    assert both.loads == pytest.approx((0.5, 0.1))
