# SPDX-License-Identifier: Apache-2.0
"""Programs on fabrics whose rank r is rank r of the program, all their all-reduces as rings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from commbench.cluster import Cluster
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.lowering.choose import Choices
from commbench.lowering.expand import expand
from commbench.program.flat import FlatProgram
from commbench.program.operations import Collective, Program, ProgramBuilder
from commbench.routing.router import Router
from commbench.routing.routes import Routes
from commbench.topology.fabric import Fabric
from tests.cases import star

__all__ = ["RING", "all_reduce", "cluster_of", "run", "tasks_of"]

RING = Ideal(algorithms={"all-reduce": "ring"})


def all_reduce(*groups: Sequence[int], num_elements: int, element_bytes: int = 4) -> Collective:
    """Of groups of as many ranks each."""
    return Collective("all-reduce", np.array(groups, dtype=np.int64), num_elements, element_bytes)


def cluster_of(fabric: Fabric, num_ranks: int | None = None, router: Routes | None = None) -> Cluster:
    """The first ranks of a fabric, or all."""
    ranks = np.arange(fabric.num_ranks if num_ranks is None else num_ranks)
    return Cluster(fabric=fabric, router=Router(fabric) if router is None else router, placed=ranks)


def tasks_of(what: Program | ProgramBuilder, library: Library = RING, fabric: Fabric | None = None) -> FlatProgram:
    """Every task of a program; on a star, where no fabric is given."""
    program = _built(what)
    cluster = cluster_of(star(max(program.num_ranks, 2)) if fabric is None else fabric)
    return expand(program, cluster, Choices(library, "here"))


def run(what: Program | ProgramBuilder, fabric: Fabric, library: Library = RING, **how: Any) -> Result:
    """The program simulated, with a ``router`` and what ``Run`` has by name."""
    program = _built(what)
    return simulate(program, cluster_of(fabric, program.num_ranks, how.pop("router", None)), library, Run(**how))


def _built(what: Program | ProgramBuilder) -> Program:
    return what.build() if isinstance(what, ProgramBuilder) else what
