# SPDX-License-Identifier: Apache-2.0
"""Programs over connections: what gloo writes, in which order, and what a lab's points take by packets."""

from dataclasses import replace

import numpy as np
import pytest

from commbench.cluster import make_cluster
from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.libraries.gloo import GLOO_TCP, GlooLibrary
from commbench.lowering.streams import over_connections, with_streams
from commbench.network.packet.tcp.settings import Tcp
from commbench.network.transport import Connections, Transport
from commbench.program.flat import COMPUTE, COUPLED, TRANSFER, FlatProgram
from commbench.program.operations import Collective, ProgramBuilder
from commbench.topology.load import load_fabric
from tests.emulate.fabrics import topology_of
from tests.engine.engine_cases import program_of
from tests.programs import cluster_of

STAR = {"kind": "star", "hosts": 4}
RATE = 20e6 / 8  # bytes/s of its links
NETWORK = Tcp(congestion="reno", header_bytes=66, window_bytes=2**17, fair=True, burst_bytes=3028)


def lasts(kind: str, algorithm: str, size: int, transport: Transport, engine: str = "compiled", seed: int = 0) -> int:
    """Picoseconds of a collective of so many bytes on four hosts of a star, all on one machine with one core."""
    build = ProgramBuilder(4)
    build.communicate(Collective(kind, np.arange(4)[None, :], size // 4, 4))
    library = GlooLibrary(connections=Connections(transport), algorithm=algorithm)
    how = Run(network=NETWORK.text, engine=engine)
    cluster = replace(cluster_of(topology_of(STAR), 4), one_machine=1)
    return simulate(build.build(), cluster, library, how, seed=seed).finish_ps


def one_transfer() -> FlatProgram:
    program = program_of([(TRANSFER, 0, 1, 1000, 0, ())])
    return replace(program, channel=np.zeros(1, dtype=np.int64))


def test_a_transfer_is_two_notices_and_the_message() -> None:
    cluster = cluster_of(topology_of(STAR), 4)
    done, paths = over_connections(one_transfer(), cluster, Connections(GLOO_TCP), 0, framed=False)
    assert paths.streams is not None
    written = paths.streams.written
    moves = np.flatnonzero(done.kind == TRANSFER)
    sent = [(int(done.rank[t]), int(done.peer[t]), int(done.num_bytes[t])) for t in moves]
    assert sent == [(1, 0, 48), (0, 1, 48), (0, 1, 1048)]  # notices have the lower numbers: they are written first
    [watch] = np.flatnonzero(done.kind == COUPLED)
    assert written[watch] == moves[-1]


def test_the_first_channel_posts_before_the_others() -> None:
    """The thread that wakes those of the others goes on with its own: by chance it would be so in 1 of 64 times."""
    program = program_of([(TRANSFER, 0, 1, 1000, 0, ())] * 2)
    program = replace(program, channel=np.array([1, 0]))
    cluster = cluster_of(topology_of(STAR), 4)
    for seed in range(3):
        done, _ = over_connections(program, cluster, Connections(replace(GLOO_TCP, latency_ps=0)), seed, framed=False)
        posted: dict[tuple[int, int], int] = {}  # by channel and rank
        for moved in np.flatnonzero(done.kind == TRANSFER):
            posts = done.needs[done.first[moved] : done.first[moved + 1]]
            for post in posts[(done.kind[posts] == COMPUTE) & (done.duration_ps[posts] > 0)]:
                posted[int(done.channel[moved]), int(done.rank[post])] = int(done.duration_ps[post])
        assert len(posted) == 4
        assert all(posted[0, rank] < posted[1, rank] for rank in (0, 1))


def test_every_route_has_its_way_back() -> None:
    paths = with_streams(one_transfer(), cluster_of(topology_of(STAR), 4))
    assert paths.streams is not None
    assert paths.streams.back.tolist() == [1, 0]
    there, back = (paths.links[paths.first[r] : paths.first[r + 1]].tolist() for r in (0, 1))
    assert len(there) == len(back) == 4
    assert not set(there) & set(back)


@pytest.mark.parametrize("network", ["fluid", "packet:tcp"])
def test_ranks_of_one_host_send_over_its_links(network: str) -> None:
    """A testbed's hosts have no bus and one rank each; ranks of a real host share its links as any others."""
    fabric, size = load_fabric("dgx-h100"), 2**26
    build = ProgramBuilder(4)
    build.communicate(Collective("all-reduce", np.arange(4)[None, :], size // 4, 4))
    library = GlooLibrary(connections=Connections(replace(GLOO_TCP, post_ps=0)), algorithm="ring")
    cluster = make_cluster(fabric, num_ranks=4)
    done = simulate(build.build(), cluster, library, Run(network=network))
    fastest = max(link.bandwidth for link in fabric.links)
    assert done.finish_ps / 1e12 > 2 * 3 / 4 * size / fastest


def test_a_small_broadcast_takes_posts_and_latencies_alone() -> None:
    """Buckets are full, so that no packet waits: the receiver posts, its notice crosses, and the payload; twice (a tree
    of two rounds), with a latency at either end."""
    transport = replace(GLOO_TCP, post_ps=20_000_000, latency_ps=7_000_000)
    took = lasts("broadcast", "native", 1000, transport, engine="reference")
    first = 20 + 7 + 7  # the notice is there when the root has posted its second send
    assert took == pytest.approx((first + 20 + 7) * 1e6, rel=0.35)
    assert took < 120e6


@pytest.mark.parametrize(("kind", "algorithm"), [("all-to-all", "native"), ("all-reduce", "double-binary-tree")])
def test_both_engines_agree_to_the_picosecond(kind: str, algorithm: str) -> None:
    transport = replace(GLOO_TCP, latency_ps=10**7, overhead_ps=10**6, answers_late=kind == "all-to-all")
    one, other = (lasts(kind, algorithm, 2**16, transport, engine, seed=3) for engine in ("compiled", "reference"))
    assert one == other


def test_an_exchange_goes_both_ways_at_once() -> None:
    """Of a step's messages in both directions neither waits: notices are written before payload."""
    size = 2**19
    took = lasts("all-to-all", "pairwise", size, replace(GLOO_TCP, post_ps=0), engine="reference") / 1e12
    assert took == pytest.approx(size * 3 / 4 * (1514 / 1448) / RATE, rel=0.03)


def test_sends_that_are_posted_first_make_notices_wait() -> None:
    """Half the ranks apart one direction waits for the other, whatever the order of the ranks."""
    size = 2**19
    late = replace(GLOO_TCP, answers_late=True)
    times = [lasts("all-to-all", "native", size, late, engine="reference", seed=seed) / 1e12 for seed in range(3)]
    assert min(times) > 1.15 * size * 3 / 4 / RATE
