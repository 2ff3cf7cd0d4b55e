# SPDX-License-Identifier: Apache-2.0
"""A program in collective detail: compute beside its flows, changes of links and ranks, bytes over links."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.engine.setting import Change, What
from commbench.errors import InputError
from commbench.lowering.bind import Bound, bind
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


def beside(duration_ps: int, slowdown: float, *, slows: bool = True, engine: str = "compiled") -> list[int]:
    """Ends of compute on two ranks, and of an all-reduce beside them that takes 640 us alone."""
    build = ProgramBuilder(2)
    build.compute(0, duration_ps)
    build.compute(1, duration_ps)
    build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream="data")
    return ends(bound_on_two(build.build()), engine, slowdown=slowdown, slowing={0} if slows else ())


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_compute_beside_a_collective_is_slowed_as_long_as_it_runs(engine: str) -> None:
    """While 640 us of all-reduce run, compute advances 512 us at a slowdown of 1.25; the rest is at full speed."""
    assert beside(1000 * US, 1.0, engine=engine) == [1000 * US, 1000 * US, 640 * US]
    assert beside(1000 * US, 1.25, engine=engine) == pytest.approx([1128 * US, 1128 * US, 640 * US], abs=10)
    assert beside(100 * US, 1.25, engine=engine) == pytest.approx([125 * US, 125 * US, 640 * US], abs=10)
    assert beside(1000 * US, 1.25, slows=False, engine=engine) == [1000 * US, 1000 * US, 640 * US]


def test_two_collectives_contend_on_their_links_and_slow_compute_less_each() -> None:
    """Side by side each runs at half its speed: both take twice as long, compute loses what one would take."""
    build = ProgramBuilder(2)
    build.compute(0, 2000 * US)
    build.compute(1, 0)
    for i in range(2):
        build.communicate(all_reduce((0, 1), num_elements=SIZE, element_bytes=1), stream=f"data {i}")
    found = ends(bound_on_two(build.build()), slowdown=1.25, slowing={0, 1})
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
    first, second = ends(bound, scenario=perturbed, slowdown=1.5)
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
