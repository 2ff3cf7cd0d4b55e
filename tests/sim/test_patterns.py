# SPDX-License-Identifier: Apache-2.0
"""Patterns on a fabric: each group as sim.coupled has it, all together, what is symmetric, and compute beside them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from commbench.cluster import make_cluster
from commbench.collectives.algorithm import Request
from commbench.collectives.registry import get_algorithm, rounds_of
from commbench.collectives.traffic import Traffic, traffic_of
from commbench.errors import InputError
from commbench.program.ir import CollectiveCall, Compute, CoupledCall, Pattern, Program
from commbench.routing.router import Router
from commbench.sim.coupled import couple
from commbench.sim.patterns import Groups, couple_groups, together
from commbench.sim.placing import processors_of
from commbench.sim.setting import Change, What
from commbench.sim.symmetry import kinds_of_links, positions
from commbench.sim.training import fit, run_fitted
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.cases import US, leaf_spine, shared_link, star

SIZE = 8 * 10**6


def ring(num_ranks: int, size: int = SIZE) -> tuple[Traffic, ...]:
    request = Request(num_ranks=num_ranks, num_elements=size, element_bytes=1)
    form = rounds_of(get_algorithm("all-reduce", "ring"), request)
    assert form is not None
    return tuple(traffic_of(form, size, 1))


def pattern(*groups: Sequence[int]) -> Pattern:
    return Pattern("all-reduce", np.array(groups), ring(len(groups[0])))


@pytest.mark.parametrize(
    "fabric", [star(8, latency_ps=US, overhead_ps=3, reduction_ps_per_byte=0.5), load_fabric("dgx-h100-x2")]
)
def test_one_group_is_a_coupled_collective(fabric: Fabric) -> None:
    placed = np.arange(8)
    router, processors = Router(fabric), processors_of(fabric, placed)
    one = together(couple_groups(pattern(range(8)), router, placed, processors))
    whole = couple(ring(8), make_cluster(fabric, num_ranks=8))
    assert (one.chain_ps, one.num_bytes, one.own_bandwidth) == (
        whole.chain_ps, whole.num_bytes, whole.own_bandwidth,
    )  # fmt: skip
    assert one.link.tolist() == whole.links.tolist()
    assert one.weights.tolist() == whole.weights.tolist()
    carried = one.loads[np.isin(one.link, [link.index for link in fabric.links if link.src in fabric.ranks[:8]])]
    assert carried.sum() == pytest.approx(8 * SIZE * 2 * 7 / 8)


def test_groups_add_up_and_the_slowest_sets_the_pace() -> None:
    """One group on a side of a thin link pair with latency, one across it: the latter is slower in both respects."""
    fabric = shared_link(3, bandwidth=1e9, latency_ps=US)
    placed, router = np.arange(6), Router(fabric)
    found = couple_groups(pattern((0, 1), (2, 3)), router, placed, processors_of(fabric, placed))
    assert found.chain_ps.tolist() == [0, 2 * US]
    assert found.own_bandwidth.tolist() == [1e12, 1e9]
    flow = together(found)
    assert (flow.chain_ps, flow.own_bandwidth) == (2 * US, 1e9)
    assert flow.loads.sum() == found.loads.sum()
    assert set(flow.link) == set(found.link)


def uneven_of(flows: list[Groups], fabric: Fabric, marks: npt.NDArray[np.int64] | None = None) -> list[int]:
    """Numbers of the patterns whose groups are in several classes."""
    classes = positions(flows, fabric.bandwidths, kinds=kinds_of_links(fabric), marks=marks)
    return [number for number, found in enumerate(classes) if found.max()]


@pytest.mark.parametrize(
    ("groups", "uneven"),
    [
        ([[(0, 1, 2, 3), (4, 5, 6, 7)]], []),  # a group per leaf
        ([[(0, 1, 2), (3, 4, 5)]], [0]),  # the second lies on both leaves
        ([[(0, 1), (2, 3), (4, 5), (6, 7)]], []),
        ([[(0, 1), (2, 3)], [(0, 2)]], []),  # the second pattern touches each group of the first once
        ([[(0, 1), (2, 3)], [(0, 1)]], [0]),  # here it touches the first only
    ],
)
def test_what_is_symmetric(groups: list[list[tuple[int, ...]]], uneven: list[int]) -> None:
    fabric = leaf_spine(8, hosts_per_leaf=4, spines=4)
    placed, router = np.arange(8), Router(fabric)
    flows = [couple_groups(pattern(*each), router, placed, processors_of(fabric, placed)) for each in groups]
    assert uneven_of(flows, fabric) == uneven


def test_a_link_that_will_change_is_not_like_the_others() -> None:
    fabric = star(4)
    placed, router = np.arange(4), Router(fabric)
    flows = [couple_groups(pattern((0, 1), (2, 3)), router, placed, processors_of(fabric, placed))]
    marks = np.zeros(8, dtype=np.int64)
    assert uneven_of(flows, fabric, marks) == []
    marks[2] = 1
    assert uneven_of(flows, fabric, marks) == [0]


def beside(duration_ps: int, slowdown: float, *, slows: bool = True, engine: str = "compiled") -> list[int]:
    """Ends of compute on two ranks, and of an all-reduce beside them that takes 640 us alone."""
    program = Program(
        2,
        (
            Compute(rank=0, duration_ps=duration_ps),
            Compute(rank=1, duration_ps=duration_ps),
            CoupledCall(ranks=(0, 1), pattern=pattern((0, 1)), stream="data"),
        ),
    )
    fitted = fit(program, Router(star(2, latency_ps=0)), np.arange(2))
    ran = run_fitted(fitted, slowdown=slowdown, slowing={2} if slows else (), engine=engine)
    return ran.trace.end_ps.tolist()


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_compute_beside_a_collective_is_slowed_as_long_as_it_runs(engine: str) -> None:
    """While 640 us of all-reduce run, compute advances 512 us at a slowdown of 1.25; the rest is at full speed."""
    assert beside(1000 * US, 1.0, engine=engine) == [1000 * US, 1000 * US, 640 * US]
    assert beside(1000 * US, 1.25, engine=engine) == pytest.approx([1128 * US, 1128 * US, 640 * US], abs=10)
    assert beside(100 * US, 1.25, engine=engine) == pytest.approx([125 * US, 125 * US, 640 * US], abs=10)
    assert beside(1000 * US, 1.25, slows=False, engine=engine) == [1000 * US, 1000 * US, 640 * US]


def test_two_collectives_contend_on_their_links_and_slow_compute_less_each() -> None:
    """Side by side each runs at half its speed: both take twice as long, compute loses what one would take."""
    calls = tuple(CoupledCall(ranks=(0, 1), pattern=pattern((0, 1)), stream=f"data {i}") for i in range(2))
    program = Program(2, (Compute(rank=0, duration_ps=2000 * US), Compute(rank=1, duration_ps=0), *calls))
    fitted = fit(program, Router(star(2, latency_ps=0)), np.arange(2))
    ends = run_fitted(fitted, slowdown=1.25, slowing={2, 3}).trace.end_ps
    assert ends[2] == ends[3] == pytest.approx(1280 * US, abs=10)
    assert ends[0] == pytest.approx(2000 * US + 1280 * US / 5, abs=20)


def test_changes_of_links_and_ranks_reach_the_flows() -> None:
    """Half the bandwidth of rank 0's uplink from 320 us on: half is sent, the other half takes twice as long."""
    program = Program(
        2, (CoupledCall(ranks=(0, 1), pattern=pattern((0, 1))), Compute(rank=1, duration_ps=8, after=(0,)))
    )
    changes = [Change(320 * US, What.BANDWIDTH, 0, 6.25e9), Change(320 * US, What.SPEED, 1, 3.0)]
    fitted = fit(program, Router(star(2, latency_ps=0)), np.arange(2), changes)
    ends = run_fitted(fitted, changes=changes).trace.end_ps
    assert ends[0] == pytest.approx(960 * US, abs=10)
    assert ends[1] - ends[0] == 24
    slowed = run_fitted(fitted, changes=changes, slowdown=1.5).trace.end_ps
    assert slowed[1] - slowed[0] == 24


def test_bytes_over_links_count_every_call() -> None:
    once = pattern((0, 1))
    program = Program(2, tuple(CoupledCall(ranks=(0, 1), pattern=once) for _ in range(3)))
    fitted = fit(program, Router(star(2)), np.arange(2))
    assert (fitted.uses, len(fitted.flows)) == ((3,), 1)
    assert fitted.link_bytes().tolist() == [3 * SIZE] * 4


def test_what_cannot_be_run_is_refused() -> None:
    program = Program(
        2, (CollectiveCall(collective="all-reduce", algorithm="ring", group=(0, 1), num_elements=1, element_bytes=4),)
    )
    with pytest.raises(InputError, match="operation 0: CollectiveCall is neither compute nor a coupled call"):
        fit(program, Router(star(2)), np.arange(2))
    with pytest.raises(InputError, match=r"slowdown 0.5 of compute beside a collective must be at least 1"):
        beside(1, 0.5)
