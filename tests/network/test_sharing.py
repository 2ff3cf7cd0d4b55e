# SPDX-License-Identifier: Apache-2.0
"""Max-min fair shares from their inequations, and the fluid model against a plain re-solve of everything."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.network.fluid import FluidNetwork
from commbench.network.maxmin import max_min_rates

A, B, C = range(3)


def test_three_links_in_a_line() -> None:
    """System: capacities A 10, B 4, C 6; flow 0 over A B C, flows 1, 2, 3 over one link each.

    Expectation: the shares are A 10/2 = 5, B 4/2 = 2, C 6/2 = 3. B is smallest: x0 = x2 = 2. What is left is
    A 10 - 2 = 8 for flow 1 and C 6 - 2 = 4 for flow 3.
    """
    assert max_min_rates([10.0, 4.0, 6.0], [(A, B, C), (A,), (B,), (C,)]) == [2.0, 8.0, 2.0, 4.0]


def test_two_flows_on_one_link_get_half_each() -> None:
    assert max_min_rates([12.5e9], [(0,), (0,)]) == [6.25e9, 6.25e9]


def test_a_lone_flow_gets_its_thinnest_link() -> None:
    assert max_min_rates([10.0, 4.0, 6.0], [(A, B, C)]) == [4.0]


def test_parking_lot() -> None:
    """System: k links of capacity 1 in a row, one flow over all, one on each.

    Expectation: every link has two flows, each gets 1/2.
    """
    k = 5
    flows = [tuple(range(k)), *((link,) for link in range(k))]
    assert max_min_rates([1.0] * k, flows) == [0.5] * (k + 1)


def test_parking_lot_that_fills_up() -> None:
    """System: flows enter at links 0, 1, 2, 3 and all leave at the last; capacity 12 each.

    Expectation: the last link carries all four: 12/4 = 3 each. Nobody is held back earlier: link 0 carries 3 of 12.
    A fifth flow on link 0 alone takes the 9 that are left there.
    """
    flows = [(0, 1, 2, 3), (1, 2, 3), (2, 3), (3,), (0,)]
    assert max_min_rates([12.0] * 4, flows) == [3.0, 3.0, 3.0, 3.0, 9.0]


def test_no_flows() -> None:
    assert max_min_rates([1.0, 2.0], []) == []


def test_links_without_flows_do_not_matter() -> None:
    assert max_min_rates([1e-9, 8.0, 1e-9], [(1,), (1,)]) == [4.0, 4.0]


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[float], list[tuple[int, ...]]]:
    num_links = draw(st.integers(1, 8))
    capacity = draw(st.lists(st.floats(1e-3, 1e12, allow_subnormal=False), min_size=num_links, max_size=num_links))
    route = st.lists(st.integers(0, num_links - 1), min_size=1, max_size=num_links, unique=True).map(tuple)
    return capacity, draw(st.lists(route, max_size=12))


@given(systems())
@settings(max_examples=300, deadline=None)
def test_the_inequations_hold(system: tuple[list[float], list[tuple[int, ...]]]) -> None:
    """Feasible; and every flow has a full link on which nobody is faster. Together these define the solution."""
    capacity, flows = system
    rates = max_min_rates(capacity, flows)
    load = [sum(x for x, route in zip(rates, flows, strict=True) if link in route) for link in range(len(capacity))]
    fastest = [
        max((x for x, route in zip(rates, flows, strict=True) if link in route), default=0.0)
        for link in range(len(capacity))
    ]
    for link, used in enumerate(load):
        assert used <= capacity[link] * (1 + 1e-9)
    for flow, route in enumerate(flows):
        assert rates[flow] >= 0.0
        bottlenecks = [
            link
            for link in route
            if load[link] >= capacity[link] * (1 - 1e-9) and rates[flow] >= fastest[link] * (1 - 1e-9)
        ]
        assert bottlenecks, f"flow {flow} over {route} at {rates[flow]} could be faster: {capacity}, {flows}"


@given(systems(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_names_do_not_matter(system: tuple[list[float], list[tuple[int, ...]]], rng: random.Random) -> None:
    """Flows in another order, links with other numbers: the same rates, but for rounding."""
    capacity, flows = system
    order = rng.sample(range(len(flows)), len(flows))
    number = rng.sample(range(len(capacity)), len(capacity))  # link l is now called number[l]
    renamed = [0.0] * len(capacity)
    for link, value in enumerate(capacity):
        renamed[number[link]] = value
    moved = [tuple(number[link] for link in flows[flow]) for flow in order]
    rates = max_min_rates(capacity, flows)
    for flow, rate in zip(order, max_min_rates(renamed, moved), strict=True):
        assert rate == pytest.approx(rates[flow], rel=1e-9, abs=1e-9 * max(capacity))


# The fluid model ------------------------------------------------------------------------------------------------


def test_two_flows_on_one_link() -> None:
    """System: one link of 1 GB/s. Flow 0 of 3000 B at 0; flow 1 of 1000 B at 1 us.

    Expectation: alone, flow 0 would end at 3 us. At 1 us it has 2000 B left; both run at 0.5 GB/s, so flow 1 ends
    at 1 + 1000/500 = 3 us. Flow 0 has then 1000 B left and the link for itself: it ends at 3 + 1 = 4 us.
    """
    network = FluidNetwork([1e9])
    network.start(0, (0,), 3000, 0)
    assert network.share(0) == [(0, 3_000_000)]
    network.start(1, (0,), 1000, 1_000_000)
    assert network.share(1_000_000) == [(0, 5_000_000), (1, 3_000_000)]
    network.finish(1)
    assert network.share(3_000_000) == [(0, 4_000_000)]


def test_a_flow_elsewhere_is_left_alone() -> None:
    network = FluidNetwork([1e9, 1e9])
    network.start(0, (0,), 1000, 0)
    network.share(0)
    network.start(1, (1,), 1000, 10)
    assert network.share(10) == [(1, 1_000_010)]


def test_a_rate_that_stays_the_same_keeps_its_end() -> None:
    """One flow leaves and an equal one comes at the same instant: the third is not touched."""
    network = FluidNetwork([1e9])
    network.start(0, (0,), 1000, 0)
    network.start(1, (0,), 5000, 0)
    assert network.share(0) == [(0, 2_000_000), (1, 10_000_000)]
    network.finish(0)
    network.start(2, (0,), 1000, 2_000_000)
    assert network.share(2_000_000) == [(2, 4_000_000)]


def test_nothing_to_send_ends_at_once() -> None:
    network = FluidNetwork([1e9])
    network.start(0, (0,), 0, 77)
    assert network.share(77) == [(0, 77)]


class _Plain:
    """The same rules without the shortcut: everything is solved again at every sharing."""

    def __init__(self, bandwidths: list[float]) -> None:
        self.bandwidths, self.flows = bandwidths, {}

    def start(self, flow: int, links: tuple[int, ...], num_bytes: int, now_ps: int) -> None:
        self.flows[flow] = [links, float(num_bytes), now_ps, 0.0]

    def finish(self, flow: int) -> None:
        del self.flows[flow]

    def share(self, now_ps: int) -> list[tuple[int, int]]:
        numbers = sorted(self.flows)
        rates = max_min_rates(self.bandwidths, [self.flows[flow][0] for flow in numbers])
        changed = []
        for flow, rate in zip(numbers, rates, strict=True):
            _, left, since, before = self.flows[flow]
            if rate != before:
                left = max(left - before * (now_ps - since) / 1e12, 0.0)
                self.flows[flow][1:] = [left, now_ps, rate]
                changed.append((flow, now_ps + int(left / rate * 1e12 + 0.5)))
        return changed


@given(
    bandwidths=st.lists(st.floats(1e6, 1e11), min_size=1, max_size=7),
    seed=st.integers(0, 2**32),
    num_events=st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_sharing_a_part_equals_sharing_everything(bandwidths: list[float], seed: int, num_events: int) -> None:
    """Random flows come and go, several at an instant; after each instant both must agree to the last bit."""
    rng = random.Random(seed)
    fluid, plain = FluidNetwork(bandwidths), _Plain(bandwidths)
    alive: set[int] = set()
    now_ps = 0
    for number in range(num_events):
        now_ps += rng.randrange(10**7)
        for flow in rng.sample(sorted(alive), rng.randrange(len(alive) + 1) // 2):
            alive.discard(flow)
            fluid.finish(flow)
            plain.finish(flow)
        for flow in range(3 * number, 3 * number + rng.randrange(4)):
            links = tuple(rng.sample(range(len(bandwidths)), rng.randint(1, min(3, len(bandwidths)))))
            amount = rng.choice([0, 1, rng.randrange(10**9)])
            alive.add(flow)
            fluid.start(flow, links, amount, now_ps)
            plain.start(flow, links, amount, now_ps)
        assert fluid.share(now_ps) == plain.share(now_ps)
