# SPDX-License-Identifier: Apache-2.0
"""Every algorithm through both engines, on fabrics that are shipped: the same trace, task by task."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from commbench.cluster import make_cluster
from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build
from commbench.engine.setting import Processors, Setting
from commbench.errors import InputError
from commbench.lowering.expand import expand_schedule
from commbench.lowering.placing import paths_with_switches, processors_of, switches_of, triples_of
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.contracts.worlds import ALGORITHM_LIST
from tests.engine.engine_cases import Case, agree

FULL = "COMMBENCH_FULL"
FABRICS = ("star-8", "leaf-spine-16-4to1", "dgx-h100-x2", "shared-memory-4", "fat-tree-k4")
WORLDS = range(2, 10)
MESSAGE = Processors(overhead_ps=2_000_000)  # as on the cluster of no one, so that messages queue on every fabric


@cache
def fabric(name: str) -> Fabric:
    topology = load_fabric(name)
    assert isinstance(topology, Fabric)
    return topology


def requests(algorithm: Algorithm, n: int, number: int) -> Iterator[Request]:
    """Roots, hosts, slices, channels and sizes that go round with the number of the case."""
    groups = [g for g in range(1, n + 1) if n % g == 0]
    size = (n * 64, n * 3001, n * 7)[number % 3]
    inner = groups[-2] if len(groups) > 2 else groups[0]
    for slices, channels, group in ((1, 1, inner), (2, 1 + number % 2, groups[number % len(groups)])):
        request = Request(
            num_ranks=n, slices=slices, channels=channels, root=number % n, group=group, num_elements=size
        )
        if not algorithm.refuses(request):
            yield request


def case(algorithm: Algorithm, request: Request, topology: Fabric, routing: str | None, placement: str) -> Case:
    """Program and setting of an algorithm on a fabric.

    Raises:
        InputError: they do not fit each other.
    """
    schedule = build(algorithm, request)
    assert request.num_elements is not None
    program = expand_schedule(
        schedule,
        num_elements=request.num_elements,
        element_bytes=request.element_bytes,
        reduction_ps_per_byte=topology.costs.reduction_ps_per_byte or 0.25,
    )
    cluster = make_cluster(topology, num_ranks=request.num_ranks, placement=placement, routing=routing, seed=5)
    paths = paths_with_switches(*triples_of(program), cluster, switches_of(cluster, schedule.num_switches))
    processors = Processors() if schedule.num_switches else processors_of(topology, cluster.placed)
    return program, Setting(paths, processors)


def try_all(algorithm: Algorithm, worlds: dict[str, tuple[int, ...]], seen: Counter[str]) -> None:
    """Each world on its fabric, routed and placed plainly and not, with the fabric's processors and with busy ones."""
    for number, (name, sizes) in enumerate(worlds.items()):
        topology = fabric(name)
        for n in sizes:
            for routing, placement in ((None, "linear"), ("ecmp", "random")):
                for request in requests(algorithm, n, number + n) if n <= topology.num_ranks else ():
                    try:
                        program, setting = case(algorithm, request, topology, routing, placement)
                    except InputError:
                        continue
                    if request.slices > 1:
                        setting = replace(setting, processors=MESSAGE)
                    agree(program, setting, seen)
                    seen[name] += 1


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_the_engines_agree(algorithm: Algorithm, seen: Counter[str]) -> None:
    """On every fabric two worlds that go round with the algorithm, and 4 ranks, which all serve."""
    turn = ALGORITHM_LIST.index(algorithm)
    worlds = {name: (2 + (turn + i) % 8, 2 + (turn + i + 4) % 8, 4) for i, name in enumerate(FABRICS)}
    before = seen["cases"]
    try_all(algorithm, worlds, seen)
    assert seen["cases"] > before
    seen["algorithms"] += 1


def test_the_number_of_cases(seen: Counter[str]) -> None:
    """The grid cannot quietly shrink; none of it is an error."""
    if seen["algorithms"] < len(ALGORITHM_LIST):
        pytest.skip("only some of the algorithms were run in this session")
    assert seen["trace"] == seen["cases"] >= 1900
    assert seen["overhead"] >= 900
    assert min(seen[name] for name in FABRICS) >= 200


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get(FULL), reason=f"takes minutes: set {FULL}=1")
@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_on_every_world(algorithm: Algorithm) -> None:
    try_all(algorithm, dict.fromkeys(FABRICS, tuple(WORLDS)), Counter())
