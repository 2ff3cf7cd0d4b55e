# SPDX-License-Identifier: Apache-2.0
"""Channels leave hosts by different ranks and use different links, and every schedule stays right."""

from itertools import pairwise

import numpy as np
import pytest

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms.messages import as_asked
from commbench.collectives.algorithms.trees import binomial_gather
from commbench.collectives.orders import around_root, orders_of, with_root
from commbench.collectives.registry import build, rounds_of
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.collectives.verify import verify
from commbench.topology.load import load_fabric
from commbench.topology.rings import direct_ways, mesh_paths, mesh_rings
from tests.cases import simulate_collective
from tests.contracts.worlds import ALGORITHM_LIST

UNEVEN = (0, 0, 0, 1, 1, 2, 2, 2)
MIXED = (1, 0, 1, 0, 1, 0, 1, 0)
GIB = 2**30


def busbw(topology: str, collective: str, algorithm: str, **options) -> float:
    fabric = load_fabric(topology)
    record = simulate_collective(fabric, collective, algorithm, GIB, keep_trace=False, **options).record
    return record.size_bytes / record.time_s * record.busbw_factor / 1e9


def across(schedule: Schedule, hosts: tuple[int, ...]) -> set[int]:
    """Ranks that send to another host."""
    host = np.array(hosts)
    rank, peer = schedule.column("rank"), schedule.column("peer")
    return set(rank[(schedule.column("kind") == 0) & (host[rank] != host[peer])].tolist())


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
@pytest.mark.parametrize("hosts", [UNEVEN, MIXED])
@pytest.mark.parametrize("by_host", [False, True])
def test_right_on_hosts_of_any_size_and_order(algorithm: Algorithm, hosts: tuple[int, ...], by_host: bool) -> None:
    ways = ((0, 2, 1), (1, 0, 2), (7, 5, 6)) if hosts == UNEVEN else ()
    for channels, root in ((2, 0), (3, 5)):
        request = Request(
            num_ranks=8, channels=channels, group=4, hosts=hosts, ways=ways, num_elements=800,
            by_host=by_host, root=root if get_collective(algorithm.collective).rooted else 0,
        )
        if algorithm.refuses(request):
            continue
        schedule = build(algorithm, request)
        verify(schedule)
        rounds = rounds_of(algorithm, request)
        assert rounds is None or rounds.schedule() == schedule


@pytest.mark.parametrize("collective", ["all-reduce", "all-gather", "reduce-scatter"])
@pytest.mark.parametrize("name", ["ring", "ring-bidirectional"])
def test_eight_channels_use_every_nic(collective: str, name: str) -> None:
    assert busbw("dgx-h100-x2", collective, name, channels=8) == pytest.approx(395, rel=0.01)


@pytest.mark.parametrize(("collective", "name"), [
    ("broadcast", "ring"), ("reduce", "ring"), ("all-reduce", "tree"), ("all-reduce", "k-ary-tree"),
    ("all-gather", "bruck"), ("reduce-scatter", "recursive-halving"), ("all-reduce", "torus-2d"),
])  # fmt: skip
def test_channels_leave_hosts_by_more_ranks(collective: str, name: str) -> None:
    algorithm = next(a for a in ALGORITHM_LIST if a.collective == collective and name in (a.name, *a.aliases))
    hosts = tuple(r // 8 for r in range(16))
    one, eight = (build(algorithm, Request(num_ranks=16, channels=c, group=8)) for c in (1, 8))
    assert across(eight, hosts) >= across(one, hosts)
    assert len(across(eight, hosts)) >= 14  # of a tree, the root need not send across


def test_hosts_of_unequal_size_use_the_nics_of_the_smaller_one() -> None:
    """15 ranks on 8 channels: two channels share one of 7 NICs; on 7 channels none do. 12 ranks: 4 NICs of 50 GB/s."""
    assert busbw("dgx-h100-x2", "all-reduce", "ring", channels=7, num_ranks=15) == pytest.approx(348, rel=0.01)
    assert busbw("dgx-h100-x2", "all-reduce", "ring", channels=8, num_ranks=15) == pytest.approx(200, rel=0.01)
    assert busbw("dgx-h100-x2", "all-reduce", "ring", channels=8, num_ranks=12) == pytest.approx(200, rel=0.01)


def test_the_group_follows_the_placement() -> None:
    orders = orders_of(Request(num_ranks=8, channels=2, hosts=MIXED))
    assert orders.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7, 0, 1]]


def test_a_root_keeps_its_role() -> None:
    request = Request(num_ranks=6, channels=3, group=3, root=1)
    orders = orders_of(request)
    assert with_root(orders, request).tolist() == [[0, 1, 2, 3, 4, 5], [2, 1, 0, 4, 5, 3], [2, 1, 0, 5, 3, 4]]
    assert around_root(orders, 1).tolist() == [[0, 1, 2, 3, 4, 5], [3, 1, 2, 0, 4, 5], [0, 1, 5, 3, 4, 2]]
    verify(as_asked(binomial_gather(6, 1), request))


# Direct links -------------------------------------------------------------------------------------------------------



@pytest.mark.parametrize("n", [*range(3, 18), 32])
def test_mesh_rings_share_no_link(n: int) -> None:
    rings = mesh_rings(n)
    used = [pair for ring in rings for pair in zip(ring, ring[1:] + ring[:1], strict=True)]
    assert len(set(used)) == len(used)
    assert all(sorted(ring) == list(range(n)) for ring in rings)
    assert len(rings) == (n - 1 if n % 2 or n == 8 else n - 2)
    assert rings[0] == tuple(range(n))


@pytest.mark.parametrize("n", [2, 4, 6, 8, 16])
def test_mesh_paths_use_every_link_once(n: int) -> None:
    paths = mesh_paths(n)
    used = {pair for path in paths for pair in pairwise(path)}
    assert len(used) == n * (n - 1)
    assert [path[0] for path in paths] == list(range(n))
    assert paths[0] == tuple(range(n))
    assert {path[::-1] for path in paths} == set(paths)


def test_a_cube_mesh_has_three_rings_each_way() -> None:
    topology = load_fabric("dgx-v100")
    rings = direct_ways(topology, np.arange(8))
    assert len(rings) == 6
    assert {ring[:1] + ring[:0:-1] for ring in rings} == set(rings)
    assert direct_ways(load_fabric("star-8"), np.arange(8)) == ()


def test_channels_use_every_direct_link() -> None:
    """7 links of 64 GB/s; 6 NVLinks of 25 GB/s."""
    assert busbw("oam-mesh", "all-reduce", "ring", channels=1) == pytest.approx(64, rel=0.01)
    assert busbw("oam-mesh", "all-reduce", "ring", channels=7) == pytest.approx(7 * 64, rel=0.01)
    assert busbw("dgx-v100", "all-reduce", "ring", channels=1) == pytest.approx(25, rel=0.01)
    assert busbw("dgx-v100", "all-reduce", "ring", channels=6) == pytest.approx(6 * 25, rel=0.01)


@pytest.mark.parametrize("collective", ["all-reduce", "all-gather", "reduce-scatter"])
def test_all_pairs_use_every_direct_link(collective: str) -> None:
    assert busbw("oam-mesh", collective, "all-pairs") == pytest.approx(7 * 64, rel=0.01)
