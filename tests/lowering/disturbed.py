# SPDX-License-Identifier: Apache-2.0
"""Programs and how to run them in a scenario; rank r always sits on rank r of the fabric."""

from collections.abc import Sequence

import numpy as np

from commbench.collectives.algorithm import Request
from commbench.collectives.registry import get_algorithm, rounds_of
from commbench.engine import compiled, reference
from commbench.engine.setting import CutOff, Setting
from commbench.engine.trace import Trace
from commbench.lowering.expand import expand_rounds
from commbench.lowering.placing import paths_of, processors_of, triples_of
from commbench.lowering.scenario import Disturbed, Scenario, disturb, explain
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.program.operations import ProgramBuilder
from commbench.routing.router import Router
from commbench.routing.routes import Routes
from commbench.topology.fabric import Fabric
from commbench.topology.faults import Fault, LinkFault
from tests.programs import tasks_of


def ring(num_ranks: int, size_bytes: int, *, reduction_ps_per_byte: float = 0.0, channels: int = 1) -> LoopProgram:
    """A ring all-reduce."""
    elements = size_bytes // 4
    request = Request(
        num_ranks=num_ranks, slices=1, channels=channels, root=0, group=1, num_elements=elements, element_bytes=4
    )
    rounds = rounds_of(get_algorithm("all-reduce", "ring"), request)
    assert rounds is not None
    loop = expand_rounds(rounds, num_elements=elements, element_bytes=4, reduction_ps_per_byte=reduction_ps_per_byte)
    assert loop is not None
    return loop


def sends(num_ranks: int, *flows: tuple[int, int, int]) -> FlatProgram:
    """Transfers (source, destination, bytes) that start together."""
    build = ProgramBuilder(num_ranks)
    for i, (a, b, size) in enumerate(flows):
        build.transfer(a, b, size, stream=f"{i}")
    return tasks_of(build)


def put(scenario: Scenario, program: FlatProgram | LoopProgram, router: Routes) -> tuple[Disturbed, Setting]:
    """A program whose rank r sits on rank r of the fabric, in its scenario."""
    triples, route_of = triples_of(program)
    ranks = np.arange(program.num_ranks)
    disturbed = disturb(scenario, program, paths_of(triples, route_of, router, ranks), triples, router)
    return disturbed, Setting(disturbed.paths, processors_of(router.fabric, ranks), disturbed.changes)


def run(faults: Sequence[Fault], program: FlatProgram | LoopProgram, topology: Fabric) -> Trace:
    """The trace, which must be the same from both engines."""
    scenario, router = Scenario(tuple(faults), origin="s.yaml"), Router(topology)
    disturbed, setting = put(scenario, program, router)
    try:
        trace = compiled.run(disturbed.program, setting)
    except CutOff as cut:
        raise explain(cut, scenario, disturbed, router) from None
    if isinstance(disturbed.program, FlatProgram):
        again = reference.run(disturbed.program, setting)
        assert np.array_equal(again.start_ps, trace.start_ps)
        assert np.array_equal(again.end_ps, trace.end_ps)
        assert again.num_shares == trace.num_shares
    return trace


def both(at_ps: int, a: str, b: str, factor: float) -> list[LinkFault]:
    return [LinkFault(at_ps, a, b, factor), LinkFault(at_ps, b, a, factor)]
