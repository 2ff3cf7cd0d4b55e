# SPDX-License-Identifier: Apache-2.0
"""A program in collective detail: compute beside its flows, changes of links and ranks, bytes over links."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.engine.setting import Change, What
from commbench.errors import InputError
from commbench.libraries.base import Choice, Layout, Timing, Wanted
from commbench.lowering.bind import Bound, Slowing, bind
from commbench.lowering.choose import Choices
from commbench.lowering.perturb import Perturbation
from commbench.program.operations import Program, ProgramBuilder
from tests.cases import US, star
from tests.programs import RING, all_reduce, cluster_of

SIZE = 8 * 10**6


def bound_on_two(program: Program, changing: Sequence[Change] = ()) -> Bound:
    cluster = cluster_of(star(2, latency_ps=0))
    return bind(program, cluster, Choices(RING, "star"), changing)


def ends(bound: Bound, engine: str = "compiled", **options: Any) -> list[int]:
    how = Run(engine=engine, detail="collective")
    return simulate(bound, bound.cluster, RING, how, **options).trace.end_ps.tolist()


def beside(duration_ps: int, *slowdown: float, slows: bool = True, engine: str = "compiled") -> list[int]:
    """Ends of compute on two ranks, and of an all-reduce beside them that takes 640 us alone."""
    build = ProgramBuilder(2)
    build.compute(0, duration_ps)
    build.compute(1, duration_ps)
    build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream="data")
    return ends(bound_on_two(build.build()), engine, slowing={0: Slowing(*slowdown)} if slows else {})


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_compute_beside_a_collective_is_slowed_as_long_as_it_runs(engine: str) -> None:
    """While 640 us of all-reduce run, compute advances 512 us at a slowdown of 1.25; the rest is at full speed."""
    assert beside(1000 * US, 1.0, engine=engine) == [1000 * US, 1000 * US, 640 * US]
    assert beside(1000 * US, 1.25, engine=engine) == pytest.approx([1128 * US, 1128 * US, 640 * US], abs=10)
    assert beside(100 * US, 1.25, engine=engine) == pytest.approx([125 * US, 125 * US, 640 * US], abs=10)
    assert beside(1000 * US, 1.25, slows=False, engine=engine) == [1000 * US, 1000 * US, 640 * US]


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(("compute_us", "each"), [(1000, 1.25), (100, 1.25), (640, 2.0), (1000, 2.0)])
def test_a_collective_that_is_slowed_too_adds_that_share_of_what_is_hidden(
    compute_us: int, each: float, engine: str
) -> None:
    """Both take 1 + h times as long beside each other, so the longer ends h x the shorter (640 us alone) later; where
    h is 1, nothing is gained.
    """
    shorter, longer = sorted((compute_us, 640))
    found = beside(compute_us * US, each, each, engine=engine)
    assert max(found) == pytest.approx((longer + (each - 1) * shorter) * US, abs=10)
    assert min(found) == pytest.approx(shorter * each * US, abs=10)


def test_what_both_lose_may_differ() -> None:
    """Compute 1.5, the collective 1.2 times as long: 600 us beside each other are 400 us of one and 500 of the other.

    Then 140 us of the collective are left.
    """
    assert beside(400 * US, 1.5, 1.2) == pytest.approx([600 * US, 600 * US, 740 * US], abs=10)


@dataclass(frozen=True)
class Slow:
    """Rings that take 1 ms, far less than their links could do."""

    name: str = "slow"
    connections: None = None

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        return replace(RING.choose(wanted, layout), timing=Timing(called="slow", channels=1, delay_s=0, wire_s=1e-3))


@pytest.mark.parametrize(("stream", "ends_us"), [("compute", 1500), ("beside", 1000)])
def test_a_collective_on_the_stream_of_compute_is_what_its_ranks_are_busy_with(stream: str, ends_us: int) -> None:
    """Where h is 0.5, each of two takes 1.5 times as long if one of them is all that its ranks do."""
    build = ProgramBuilder(2)
    for one in (stream, "data"):
        build.communicate(all_reduce((0, 1), num_elements=SIZE // 8, element_bytes=1), stream=one)
    cluster = cluster_of(star(2, latency_ps=0))
    bound = bind(build.build(), cluster, Choices(Slow(), "star"))
    both = ends(bound, slowing=dict.fromkeys((0, 1), Slowing(1.5, 1.5)))
    assert both == pytest.approx([ends_us * US, ends_us * US], rel=2e-6)


def test_the_host_takes_none_of_the_processor() -> None:
    """Beside a collective and compute, work of the host's stream lasts as long as it says."""
    build = ProgramBuilder(2)
    build.compute(0, 100 * US)
    build.compute(0, 200 * US, stream="host")
    build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream="data")
    assert ends(bound_on_two(build.build()), slowing={0: Slowing(1.25)})[:2] == [125 * US, 200 * US]


def test_worse_than_one_after_the_other_is_refused() -> None:
    with pytest.raises(InputError, match=r"slowdown 3 of compute and 2 of a collective .* worse than one after the"):
        Slowing(3, 2)


def test_two_collectives_contend_on_their_links_and_slow_compute_less_each() -> None:
    """Side by side each runs at half its speed: both take twice as long, compute loses what one would take."""
    build = ProgramBuilder(2)
    build.compute(0, 2000 * US)
    build.compute(1, 0)
    for i in range(2):
        build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream=f"data {i}")
    found = ends(bound_on_two(build.build()), slowing=dict.fromkeys((0, 1), Slowing(1.25)))
    assert found[2] == found[3] == pytest.approx(1280 * US, abs=10)
    assert found[0] == pytest.approx(2000 * US + 1280 * US / 5, abs=20)


def test_changes_of_links_and_ranks_reach_the_flows() -> None:
    """Half the bandwidth of rank 0's uplink from 320 us on: half is sent, the other half takes twice as long."""
    build = ProgramBuilder(2)
    build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1))
    build.compute(1, 8, after=(0,))
    perturbed = Perturbation(
        slow=((320 * US, 1, 3.0),), links=(Change(320 * US, What.BANDWIDTH, 0, 6.25e9),)
    )
    bound = bound_on_two(build.build(), perturbed.links)
    first, second = ends(bound, scenario=perturbed)
    assert first == pytest.approx(960 * US, abs=10)
    assert second - first == 24
    first, second = ends(bound, scenario=perturbed, slowing={0: Slowing(1.5)})
    assert second - first == 24


def test_bytes_over_links_count_every_call() -> None:
    once, build = all_reduce((0, 1), num_elements=SIZE, element_bytes=1), ProgramBuilder(2)
    for _ in range(3):
        build.communicate(once)
    bound = bound_on_two(build.build())
    assert (bound.uses.tolist(), len(bound.flows)) == ([3], 1)
    assert bound.link_bytes().tolist() == [3 * SIZE] * 4


def test_a_program_without_communication_has_no_flows() -> None:
    build = ProgramBuilder(2)
    build.compute(0, 5)
    build.compute(0, 6)
    bound = bound_on_two(build.build())
    assert (bound.flows, bound.uneven, bound.link_bytes().tolist()) == ((), (), [0.0] * 4)
    assert ends(bound) == [5, 11]


def test_operations_of_a_stream_follow_each_other_and_their_waits() -> None:
    """By hand: a collective waits for both its ranks; on another stream of rank 1 an operation waits only as told."""
    build = ProgramBuilder(2)
    build.compute(0, 5 * US)
    build.compute(1, 7 * US)
    build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream="compute")
    build.compute(1, US)
    build.compute(1, US, stream="side", after=(0,))
    assert ends(bound_on_two(build.build())) == [5 * US, 7 * US, 647 * US, 648 * US, 6 * US]


@pytest.mark.parametrize("slowdown", [0.5, np.inf])
def test_a_slowdown_below_one_or_without_end_is_refused(slowdown: float) -> None:
    with pytest.raises(InputError, match=rf"slowdown {slowdown:g} of compute beside a collective must be at least 1"):
        beside(1, slowdown)
