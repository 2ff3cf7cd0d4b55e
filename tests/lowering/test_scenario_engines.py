# SPDX-License-Identifier: Apache-2.0
"""The same trace from both engines, looped or flat, whatever goes wrong and when."""

from dataclasses import replace
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.engine import compiled, reference
from commbench.engine.model import build_model
from commbench.engine.setting import CutOff
from commbench.lowering.scenario import Scenario
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.faults import Background, Fault, KilledRank, LinkFault, SlowRank
from commbench.topology.load import load_fabric
from tests.cases import US, leaf_spine
from tests.lowering.disturbed import both, put, ring, sends


def some_faults(topology: Fabric) -> st.SearchStrategy[list[Fault]]:
    """Up to ten faults of every kind in the first 200 us."""
    at = st.one_of(st.integers(0, 200 * US), st.integers(0, 20).map(lambda n: n * 10 * US))
    link, rank = st.sampled_from(topology.links), st.integers(0, 15)
    factor = st.sampled_from([0, 0, 0.1, 0.5, 0.77, 1])
    one = st.builds(lambda t, on, f: [LinkFault(t, on.src, on.dst, f)], at, link, factor)
    two = st.builds(lambda t, on, f: both(t, on.src, on.dst, f), at, link, factor)
    repaired = st.builds(lambda t, on, d: both(t, on.src, on.dst, 0) + both(t + d, on.src, on.dst, 1), at, link, at)
    slow = st.builds(lambda t, r, f: [SlowRank(t, r, f)], at, rank, st.sampled_from([0.1, 0.5, 1]))
    other = st.builds(lambda t, r, s, n: [Background(t, r, s, n)], at, rank, rank, st.integers(1, 10**6))
    dead = st.builds(lambda t, r: [KilledRank(t + 150 * US, r)], at, rank)
    return st.lists(st.one_of(one, two, repaired, slow, other, dead), max_size=6).map(
        lambda parts: [*chain.from_iterable(parts)]
    )


def outcome(engine, program, setting) -> tuple:  # type: ignore[no-untyped-def]
    """All times and the number of shares, or when the run was cut off."""
    try:
        trace = engine.run(program, setting)
    except CutOff as cut:
        return (cut.time_ps,)
    return trace.start_ps.tolist(), trace.end_ps.tolist(), trace.num_shares, trace.finish_ps


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("name", ["fat-tree-16", "leaf-spine-16-4to1", "fat-tree-k4"])
def test_engines_agree_under_faults(name: str, data: st.DataObject) -> None:
    """A ring or an all-to-all in pairs, with processors, jitter and additions: looped, flat and reference."""
    topology = _costly(name)
    faults = data.draw(some_faults(topology))
    scenario = Scenario(tuple(faults), jitter=data.draw(st.sampled_from([0, 0.1])), seed=1)
    router = Router(topology, data.draw(st.sampled_from(["d-mod-k", "ecmp"])), 1)
    if data.draw(st.booleans()):
        program: FlatProgram | LoopProgram = ring(16, 256 * 1024, reduction_ps_per_byte=10.0)
    else:
        program = sends(16, *((r, (r + k) % 16, 20_000 * k) for r in range(16) for k in (1, 4, 7, 8)))
    flat = program.unroll() if isinstance(program, LoopProgram) else program
    disturbed, setting = put(scenario, flat, router)
    expected = outcome(reference, disturbed.program, setting)
    assert outcome(compiled, disturbed.program, setting) == expected
    looped, setting = put(scenario, program, router)
    assert outcome(compiled, looped.program, setting) == expected


@cache
def _costly(name: str) -> Fabric:
    """The topology with processors that messages take 0.3 us of."""
    topology = load_fabric(name)
    return replace(topology, costs=replace(topology.costs, message_overhead_ps=300_000))


def test_many_flows_may_move_to_a_longer_way() -> None:
    """0 -> 2 goes by spine 0; without leaf0 -> spine0 and spine1 -> leaf1 by spine 1, leaf 2, spine 0: 8 links."""
    topology = leaf_spine(6, hosts_per_leaf=2, spines=2)
    faults = (LinkFault(US, "leaf0", "spine0", 0), LinkFault(US, "spine1", "leaf1", 0))
    program = sends(6, *((0, 2, 1000 + i) for i in range(200)))
    disturbed, setting = put(Scenario(faults), program, Router(topology))
    assert [int(n) for n in disturbed.paths.first] == [0, 6, 6 + 8]
    assert len(build_model(program, setting, keep_trace=False).network.place) >= 200 * 8  # the kernel checks no bounds
    assert outcome(compiled, program, setting) == outcome(reference, program, setting)
