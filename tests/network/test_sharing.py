# SPDX-License-Identifier: Apache-2.0
"""Max-min fair shares from their inequations, and the fluid model against a plain re-solve of everything."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.network.fluid import FluidNetwork
from commbench.network.maxmin import WEIGHT_UNIT, max_min_rates, whole_weight

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


# Weights --------------------------------------------------------------------------------------------------------

Weighted = tuple[list[float], list[tuple[int, ...]], list[tuple[float, ...] | None]]


@st.composite
def weighted(draw: st.DrawFn) -> Weighted:
    """A system in which about half of the flows have weights, multiples of 2**-20."""
    capacity, flows = draw(systems())
    some = st.one_of(
        st.sampled_from([1.0, 2.0, 0.5, 3.25, WEIGHT_UNIT]), st.integers(1, 2**30).map(lambda k: k * WEIGHT_UNIT)
    )
    return capacity, flows, [draw(st.none() | st.tuples(*[some] * len(route))) for route in flows]


def test_weights_by_hand() -> None:
    """System: capacity 12; a flow of weight 3 and one of weight 1: 12/4 each, of which the first takes 9.

    Over a second link of capacity 4, on which its weight is 2, the first is held back at 2; the other gets 12 - 6.
    """
    assert max_min_rates([12.0], [(A,), (A,)], [(3.0,), None]) == [3.0, 3.0]
    assert max_min_rates([12.0, 4.0], [(A, B), (A,)], [(3.0, 2.0), (1.0,)]) == [2.0, 6.0]


def test_the_arithmetic_is_part_of_the_contract() -> None:
    """What flows fixed in one round take off a link is taken off at once: share x weight, one product, one difference.

    Seven flows share link B; all seven and one more are on link A, which keeps 10 - 7 share for that one. To take off
    one share after the other would differ in the last bits, and so would other groupings of the product.
    """
    share = 7.459061583261823 / 7
    one_by_one = 10.0
    for _ in range(7):
        one_by_one -= share
    at_once = 10.0 - share * 7.0
    assert at_once != one_by_one
    rates = max_min_rates([10.0, 7.459061583261823], [*[(A, B)] * 7, (A,)])
    assert rates == [share] * 7 + [at_once]


def test_whole_weight() -> None:
    """The nearest multiple of 2**-20, but never none."""
    assert [whole_weight(w) for w in (1.0, 0.0, 1e-9, 0.3)] == [1.0, 2.0**-20, 2.0**-20, 314573 * 2.0**-20]


@given(weighted())
@settings(max_examples=300, deadline=None)
def test_the_inequations_hold_with_weights(system: Weighted) -> None:
    """Feasible; and every flow has a full link on which nobody is faster."""
    capacity, flows, weights = system
    rates = max_min_rates(capacity, flows, weights)
    loads = [dict(zip(f, w or [1.0] * len(f), strict=True)) for f, w in zip(flows, weights, strict=True)]
    used = [
        sum(rate * load.get(link, 0.0) for rate, load in zip(rates, loads, strict=True))
        for link in range(len(capacity))
    ]
    fastest = [
        max((r for r, load in zip(rates, loads, strict=True) if link in load), default=0.0)
        for link in range(len(capacity))
    ]
    assert all(u <= c * (1 + 1e-9) for u, c in zip(used, capacity, strict=True))
    for flow, route in enumerate(flows):
        assert any(
            used[link] >= capacity[link] * (1 - 1e-9) and rates[flow] >= fastest[link] * (1 - 1e-9) for link in route
        ), f"flow {flow} could be faster"


@given(systems(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_flow_of_weight_k_is_k_flows(system: tuple[list[float], list[tuple[int, ...]]], data: st.DataObject) -> None:
    """Flows of one route, listed k times or once with weight k: bitwise the same rates."""
    capacity, flows = system
    counts = data.draw(st.lists(st.integers(1, 4), min_size=len(flows), max_size=len(flows)))
    one_by_one = max_min_rates(capacity, [route for route, k in zip(flows, counts, strict=True) for _ in range(k)])
    at_once = max_min_rates(capacity, flows, [(float(k),) * len(route) for route, k in zip(flows, counts, strict=True)])
    assert one_by_one == [rate for rate, k in zip(at_once, counts, strict=True) for _ in range(k)]


@given(weighted(), st.integers(0, 2**32))
@settings(max_examples=250, deadline=None)
def test_no_order_matters_to_the_last_bit(system: Weighted, seed: int) -> None:
    """Flows in another order, links with other numbers, routes read another way: the same rates, bit by bit."""
    rng = random.Random(seed)
    capacity, flows, weights = system
    number = rng.sample(range(len(capacity)), len(capacity))  # link l is now called number[l]
    renamed = [0.0] * len(capacity)
    for link, value in enumerate(capacity):
        renamed[number[link]] = value
    order = rng.sample(range(len(flows)), len(flows))
    routes, loads = [], []
    for flow in order:
        places = rng.sample(range(len(flows[flow])), len(flows[flow]))
        given_weights = weights[flow]
        routes.append([number[flows[flow][i]] for i in places])
        loads.append(None if given_weights is None else [given_weights[i] for i in places])
    rates = max_min_rates(capacity, flows, weights)
    assert max_min_rates(renamed, routes, loads) == [rates[flow] for flow in order]


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


def test_a_link_that_changes() -> None:
    """Of 3000 B at 1 GB/s 2000 are left at 1 us; at 0.5 GB/s they take 4 us. No flow on the other link: no sharing."""
    network = FluidNetwork([1e9, 1e9])
    network.start(0, (0,), 3000, 0)
    network.share(0)
    assert not network.set_bandwidth(1, 5.0)
    assert network.set_bandwidth(0, 5e8)
    assert network.share(1_000_000) == [(0, 5_000_000)]


def test_a_flow_that_moves() -> None:
    """Both start with a link of 1 GB/s for themselves. At 1 us flow 0 moves to the other's with 2000 B left.

    Flow 1 has 3000 B left there, half of the link each: 5 us and 7 us. Then flow 0 moves back at 2 us, with 1500 B.
    """
    network = FluidNetwork([1e9, 1e9])
    network.start(0, (0,), 3000, 0)
    network.start(1, (1,), 4000, 0)
    assert network.share(0) == [(0, 3_000_000), (1, 4_000_000)]
    network.move(0, (1,))
    assert network.share(1_000_000) == [(0, 5_000_000), (1, 7_000_000)]
    assert not network.set_bandwidth(0, 1e9)
    network.move(0, (0,))
    assert network.share(2_000_000) == [(0, 3_500_000), (1, 4_500_000)]


def test_a_flow_that_moves_takes_other_weights() -> None:
    """1000 B at weight 4 run at 0.25 GB/s; at 2 us 500 are left, at weight 1 they take 0.5 us."""
    network = FluidNetwork([1e9])
    network.start(0, (0,), 1000, 0, (4.0,))
    assert network.share(0) == [(0, 4_000_000)]
    network.move(0, (0,), None)
    assert network.share(2_000_000) == [(0, 2_500_000)]


class _Plain:
    """The same rules without the shortcut: everything is solved again at every sharing."""

    def __init__(self, bandwidths: list[float]) -> None:
        self.bandwidths, self.flows = list(bandwidths), {}

    def start(self, flow: int, links: tuple[int, ...], num_bytes: int, now_ps: int, weights: tuple | None) -> None:
        self.flows[flow] = [(links, weights), float(num_bytes), now_ps, 0.0]

    def move(self, flow: int, links: tuple[int, ...], weights: tuple | None) -> None:
        self.flows[flow][0] = links, weights

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        self.bandwidths[link] = bandwidth
        return any(link in entry[0][0] for entry in self.flows.values())

    def finish(self, flow: int) -> None:
        del self.flows[flow]

    def share(self, now_ps: int) -> list[tuple[int, int]]:
        numbers = sorted(self.flows)
        routes = [self.flows[flow][0] for flow in numbers]
        rates = max_min_rates(self.bandwidths, [links for links, _ in routes], [weights for _, weights in routes])
        changed = []
        for flow, rate in zip(numbers, rates, strict=True):
            _, left, since, before = self.flows[flow]
            if rate != before:
                left = max(left - before * (now_ps - since) / 1e12, 0.0)
                self.flows[flow][1:] = [left, now_ps, rate]
                changed.append((flow, now_ps + int(left / rate * 1e12 + 0.5)))
        return changed


def random_route(rng: random.Random, num_links: int) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """One to three links, half of the time with weights."""
    links = tuple(rng.sample(range(num_links), rng.randint(1, min(3, num_links))))
    return links, tuple(rng.choice((1.0, 2.0, 0.25, 7 * WEIGHT_UNIT)) for _ in links) if rng.randrange(2) else None


@given(
    bandwidths=st.lists(st.floats(1e6, 1e11), min_size=1, max_size=7),
    seed=st.integers(0, 2**32),
    num_events=st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_sharing_a_part_equals_sharing_everything(bandwidths: list[float], seed: int, num_events: int) -> None:
    """Random flows come, go and move, links change, several at an instant; then both must agree to the last bit."""
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
            amount, route = rng.choice([0, 1, rng.randrange(10**9)]), random_route(rng, len(bandwidths))
            alive.add(flow)
            fluid.start(flow, route[0], amount, now_ps, route[1])
            plain.start(flow, route[0], amount, now_ps, route[1])
        for flow in rng.sample(sorted(alive), min(len(alive), rng.choice((0, 0, 1, 3)))):
            route = random_route(rng, len(bandwidths))
            fluid.move(flow, *route)
            plain.move(flow, *route)
        if rng.randrange(3) == 0:
            link, bandwidth = rng.randrange(len(bandwidths)), rng.uniform(1e6, 1e11)
            assert fluid.set_bandwidth(link, bandwidth) == plain.set_bandwidth(link, bandwidth)
        assert fluid.share(now_ps) == plain.share(now_ps)
