# SPDX-License-Identifier: Apache-2.0
"""Of several changes of one instant the last line of the script counts, in collectives and in training steps."""

import pytest

from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.lowering.scenario import Scenario
from commbench.program.operations import ProgramBuilder
from commbench.topology.faults import Fault, LinkFault, SlowRank
from tests.cases import US, leaf_spine
from tests.programs import RING, all_reduce, cluster_of

FABRIC = leaf_spine(2, hosts_per_leaf=2, spines=1, latency_ps=0)
AT = 320 * US


def last_ps(faults: tuple[Fault, ...], detail: str, engine: str) -> int:
    """End of an all-reduce on two ranks, which takes 640 us alone, and of 100 us of work behind it on rank 1."""
    build = ProgramBuilder(2)
    what = all_reduce((0, 1), num_elements=8 * 10**6, element_bytes=1)
    build.compute(1, 100 * US, after=(build.communicate(what),))
    cluster, scenario = cluster_of(FABRIC), Scenario(faults)
    return simulate(build.build(), cluster, RING, Run(engine=engine, detail=detail), scenario=scenario).finish_ps


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("detail", ["transfer", "collective"])
@pytest.mark.parametrize(("factors", "lasts"), [((1.0, 0.5), 1060), ((0.5, 1.0), 740), ((0.25, 1.0, 0.5), 1060)])
def test_of_a_link(factors: tuple[float, ...], lasts: int, detail: str, engine: str) -> None:
    """At half the bandwidth from 320 us on, the other 320 us of the all-reduce take 640."""
    faults = tuple(LinkFault(AT, "h0/nic0", "leaf0", factor) for factor in factors)
    assert last_ps(faults, detail, engine) == pytest.approx(lasts * US, abs=20)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("detail", ["transfer", "collective"])
@pytest.mark.parametrize(("factors", "lasts"), [((1.0, 0.5), 840), ((0.5, 1.0), 740), ((0.25, 1.0, 0.5), 840)])
def test_of_a_rank(factors: tuple[float, ...], lasts: int, detail: str, engine: str) -> None:
    """At half its speed, the 100 us of work behind the all-reduce take 200."""
    faults = tuple(SlowRank(AT, 1, factor) for factor in factors)
    assert last_ps(faults, detail, engine) == pytest.approx(lasts * US, abs=20)
