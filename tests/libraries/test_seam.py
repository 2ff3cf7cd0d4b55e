# SPDX-License-Identifier: Apache-2.0
"""A library of one's own needs no line of the package: it says how a collective goes, and engines never hear of it."""

from dataclasses import dataclass

import numpy as np
import pytest

import commbench as cb
from commbench.collectives.algorithm import Request
from commbench.collectives.registry import get_algorithm
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.libraries.base import Choice, Layout, Library, Wanted

MIB = 2**20


@dataclass(frozen=True)
class Mine:
    """Everything at once inside a host; rings elsewhere, on as many channels as a host has ranks of the group."""

    name: str = "mine"
    connections: None = None

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        if wanted.kind != "all-reduce":
            raise InputError(f"library mine has no {wanted.kind}")
        inside = layout.num_hosts == 1
        request = Request(
            num_ranks=len(layout.hosts),
            channels=1 if inside else layout.ranks_per_host,
            hosts=layout.hosts,
            group=layout.ranks_per_host,
            num_elements=wanted.num_elements,
            element_bytes=wanted.element_bytes,
        )
        name = "all-pairs" if inside else "ring"
        return Choice(algorithm=get_algorithm(wanted.kind, name), request=request, protocol="Simple")


def time_s(library: Library, topology: str, detail: str = "transfer") -> float:
    cluster = cb.load_cluster(topology)
    program = cb.collective_program("all-reduce", 64 * MIB, ranks=cluster.num_ranks)
    return cb.simulate(program, cluster, library, Run(detail=detail)).time_s


@pytest.mark.parametrize("detail", ["transfer", "collective"])
def test_it_chooses_by_where_ranks_sit(detail: str) -> None:
    inside = cb.Ideal(algorithms={"all-reduce": "all-pairs"})
    across = cb.Ideal(algorithms={"all-reduce": "ring"}, channels=8)
    assert time_s(Mine(), "dgx-h100", detail) == time_s(inside, "dgx-h100", detail)
    assert time_s(Mine(), "dgx-h100-x2", detail) == time_s(across, "dgx-h100-x2", detail)


def test_each_group_of_a_program_is_asked_for_by_itself() -> None:
    """Two groups at once: eight ranks of one host, and two on two hosts."""
    cluster = cb.load_cluster("dgx-h100-x4")
    build = cb.ProgramBuilder(cluster.num_ranks)
    for ranks in (range(8), (8, 16)):
        build.communicate(cb.Collective("all-reduce", np.array([list(ranks)]), MIB, 4))
    done = cb.simulate(build.build(), cluster, Mine())
    tasks = done.tasks
    steps = [int(tasks.step[tasks.operation == number].max()) + 1 for number in range(2)]
    assert steps == [2, 2]  # all-pairs scatters and gathers; a ring of two does as much in as many
    assert done.transfers == 2 * 8 * 7 + 2 * 2


def test_what_it_does_not_have_is_refused_in_its_words() -> None:
    program = cb.collective_program("broadcast", MIB, ranks=8)
    with pytest.raises(InputError, match="library mine has no broadcast"):
        cb.simulate(program, cb.load_cluster("dgx-h100"), Mine())
