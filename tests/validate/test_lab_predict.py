# SPDX-License-Identifier: Apache-2.0
"""Messages over a transport, by hand: bytes on the wire, order on a connection, the way back, bursts of idle links."""

from dataclasses import replace
from graphlib import TopologicalSorter

import numpy as np
import pytest

from commbench.collectives.registry import build_schedule
from commbench.engine.engines import Done, Run
from commbench.engine.engines import run as run_engine
from commbench.engine.setting import Setting
from commbench.errors import InputError
from commbench.libraries.gloo import GLOO_TCP
from commbench.lowering.expand import expand_schedule
from commbench.lowering.streams import over_connections
from commbench.lowering.way_back import less_way_back
from commbench.network.connected.settings import Connected
from commbench.network.transport import Connections, Transport
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.program.of_collective import collective_program
from commbench.results.records import Measured
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.topology.model import LinkKind
from commbench.units import PS_PER_S
from commbench.validate.lab_predict import LabRoutes, predict
from commbench.validate.lab_runs import lab_plan_of, schedule_of
from commbench.validate.legs import CAMPAIGN, SMOKE, EmulatedFabric
from tests.cases import simulate_collective
from tests.emulate.fabrics import leaf_spine, topology_of
from tests.programs import cluster_of, tasks_of

RATE = 20e6 / 8  # bytes/s of the links of the small fabrics
BARE = Transport(
    name="bare", segment_bytes=1000, packet_bytes=0, segments_per_ack=2, message_bytes=0, notice_bytes=0,
    buffer_bytes=10**9,
)  # fmt: skip
TOLD = replace(BARE, notice_bytes=1)
"""With notices, of which one byte goes with each message."""
AT_ONCE = replace(GLOO_TCP, post_ps=0)
STAR = {"kind": "star", "hosts": 4}


def program_of(collective: str, algorithm: str, ranks: int, size: int, **given: int) -> FlatProgram:
    schedule = build_schedule(collective, algorithm, ranks, num_elements=size // 4, **given)
    return expand_schedule(schedule, num_elements=size // 4, element_bytes=4, reduction_ps_per_byte=0.0)


def run(program: FlatProgram, over: Connections, topology: Fabric, engine: str = "compiled", seed: int = 0) -> Done:
    """As the door does it, but for tasks that are made by hand; ranks share one processor."""
    cluster = replace(cluster_of(topology, program.num_ranks), one_machine=1)
    tasks, paths = over_connections(program, cluster, over, seed, framed=True)
    paths = replace(paths, bandwidths=less_way_back(program, cluster, over.transport))
    given = Connected(over.transport.buffer_bytes, over.transport.full_packet_bytes, over.burst_bytes)
    return run_engine(tasks, Setting(paths), Run(engine=engine, network=given.text))


def own(done: Done, program: FlatProgram, column: str) -> np.ndarray:
    """A column of the trace for the tasks of the program itself, which come behind the notices."""
    notices = np.count_nonzero((done.program.kind == TRANSFER) & (done.program.num_bytes == 0))
    found: np.ndarray = getattr(done.trace, column)[notices : notices + program.num_tasks]
    return found


def seconds(done: Done) -> float:
    return done.trace.finish_ps / PS_PER_S


def test_bytes_on_the_wire() -> None:
    """1000 bytes of payload: 48 of gloo's header with it in one packet, and a notice of 48 in another, 66 each; back: a
    notice, and half an acknowledgement per segment."""
    assert GLOO_TCP.bytes_on_wire(1000) == 1000 + 48 + 66 + 48 + 66
    assert GLOO_TCP.bytes_on_wire(1448 - 48 + 1) == 1448 + 1 + 2 * 66 + 114
    assert GLOO_TCP.bytes_back(1448 - 48, ridden=False) == 114 + 33
    assert GLOO_TCP.bytes_back(10**6, ridden=True) == 114


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_record_over_a_transport_names_the_engine_that_ran(engine: str) -> None:
    found = simulate_collective(
        topology_of(STAR), "broadcast", "binomial", 2**18, connections=Connections(BARE), engine=engine
    )
    assert found.record.engine == engine


def test_a_bare_transport_changes_nothing() -> None:
    """Rings, trees, all at once: the same time as without, as nothing shares a connection."""
    topology = topology_of(STAR)
    for collective, algorithm in (("all-reduce", "ring"), ("broadcast", "gloo"), ("all-to-all", "direct")):
        plain = simulate_collective(topology, collective, algorithm, 2**18)
        over = simulate_collective(topology, collective, algorithm, 2**18, connections=Connections(BARE))
        assert over.record.transfers == plain.record.transfers
        assert over.record.time_s == pytest.approx(plain.record.time_s, rel=1e-3)  # but for the fabric's latencies


def test_a_program_that_waits_for_itself_is_refused() -> None:
    program = program_of("all-reduce", "ring", 4, 64 * 1024)
    last = program.num_tasks - 1
    first = program.first.copy()
    first[1:] += 1  # the first task waits for the last
    stuck = replace(program, first=first, needs=np.concatenate([[last], program.needs]))
    with pytest.raises(InputError, match="waits for itself in a circle"):
        run(stuck, Connections(GLOO_TCP), topology_of(STAR))


def test_both_engines_agree_to_the_picosecond() -> None:
    topology = topology_of(leaf_spine(4, spines=1, oversubscription=2.0))
    over = Connections(replace(GLOO_TCP, latency_ps=10**8, answers_late=True), burst_bytes=4542)
    for program in (program_of("all-reduce", "gloo", 4, 2**18), program_of("all-reduce", "tree", 4, 2**16, slices=2)):
        one, other = (run(program, over, topology, engine).trace for engine in ("compiled", "reference"))
        assert one.end_ps.tolist() == other.end_ps.tolist()


def test_a_ring_pays_for_headers_and_acknowledgements() -> None:
    """In a ring each link carries data, and what acknowledges the data of the other direction."""
    size, ranks = 2**22, 4
    done = run(program_of("all-reduce", "ring", ranks, size), Connections(AT_ONCE), topology_of(STAR))
    chunk = size // ranks
    wire = GLOO_TCP.bytes_on_wire(chunk) + GLOO_TCP.bytes_back(chunk, ridden=False)
    assert seconds(done) == pytest.approx(2 * (ranks - 1) * wire / RATE, rel=1e-9)
    assert 2 * (ranks - 1) * chunk / seconds(done) == pytest.approx(RATE * 1448 / (1514 + 33), rel=1e-3)


def test_an_exchange_lets_acknowledgements_ride() -> None:
    size = 2**20
    done = run(program_of("all-reduce", "ring", 2, size), Connections(AT_ONCE), topology_of(STAR))
    wire = GLOO_TCP.bytes_on_wire(size // 2) + GLOO_TCP.bytes_back(size // 2, ridden=True)
    assert seconds(done) == pytest.approx(2 * wire / RATE, rel=1e-9)


def test_latency_is_paid_before_and_after_a_message() -> None:
    latency = 3 * 10**9
    over = Connections(replace(BARE, latency_ps=latency))
    done = run(program_of("broadcast", "gloo", 2, 2**16), over, topology_of(STAR))
    assert done.trace.finish_ps == 2 * latency + round(2**16 / RATE * PS_PER_S)


def test_who_answers_late_takes_turns() -> None:
    """All-to-all between two ranks: the second message waits for the first. Without, both go at once."""
    program, topology = program_of("all-to-all", "gloo", 2, 2**16), topology_of(STAR)
    posts = [replace(TOLD, post_ps=1000, answers_late=late) for late in (False, True)]
    at_once, in_turn = (run(program, Connections(transport), topology) for transport in posts)
    assert seconds(at_once) == pytest.approx((2**15 + 2) / RATE, rel=1e-6)  # a notice there, and one on the way back
    assert seconds(in_turn) == pytest.approx(2 * (2**15 + 2) / RATE, rel=1e-6)


@pytest.mark.parametrize("ranks", [5, 8])
def test_one_order_of_ranks_says_which_direction_of_each_pair_waits(ranks: int) -> None:
    """The direction of the larger distance waits, or none does; half the ranks apart, that of who posted first. All of
    it is what some order gives in which the ranks post."""
    program, topology = program_of("all-to-all", "gloo", ranks, 2**16), topology_of({"kind": "star", "hosts": ranks})
    orders = set()
    for seed in range(12):
        done = run(program, Connections(replace(TOLD, answers_late=True, post_ps=1000)), topology, seed=seed)
        began = own(done, program, "start_ps")
        ends = zip(program.rank.tolist(), program.peer.tolist(), program.kind.tolist(), strict=True)
        waits = {(a, b): began[i] > 10**9 for i, (a, b, kind) in enumerate(ends) if kind == TRANSFER}
        before: dict[int, set[int]] = {rank: set() for rank in range(ranks)}
        for (near, far), waiting in waits.items():
            distance = (far - near) % ranks
            if 2 * distance < ranks:
                assert not waiting
                late, early = (near, far) if waits[far, near] else (far, near)
                before[late].add(early)
            elif 2 * distance == ranks:
                assert waiting != waits[far, near]
                before[far if waiting else near].add(near if waiting else far)
        orders.add(tuple(TopologicalSorter(before).static_order()))  # raises where ranks are before each other
    assert len(orders) > 6


def two_channels() -> FlatProgram:
    """Rank 0 sends to rank 1 on channel 0, rank 1 to rank 0 on channel 1, nothing before or after."""
    columns = {
        "kind": [TRANSFER] * 2, "rank": [0, 1], "peer": [1, 0], "num_bytes": [2**16] * 2, "duration_ps": [0] * 2,
        "channel": [0, 1], "step": [0, 0], "operation": [0, 0], "first": [0, 0, 0], "needs": [],
    }  # fmt: skip
    return FlatProgram(num_ranks=2, **{name: np.array(values, dtype=np.int64) for name, values in columns.items()})


def test_what_a_connection_carries_comes_in_order() -> None:
    """Two messages to the same rank, both ready at once: the first has the link for itself."""
    one_way = replace(two_channels(), rank=np.array([0, 0]), peer=np.array([1, 1]), channel=np.array([0, 0]))
    ends = own(run(one_way, Connections(BARE), topology_of(STAR)), one_way, "end_ps") / PS_PER_S
    assert ends == pytest.approx([2**16 / RATE, 2 * 2**16 / RATE], rel=1e-6)


def test_a_notice_comes_behind_what_was_sent_before() -> None:
    """Rank 1 answers when rank 0 has written its message, and so has its notice behind it: the answer waits for it."""
    answer = replace(two_channels(), first=np.array([0, 0, 1]), needs=np.array([0]), rank=np.array([0, 1]))
    done = run(replace(answer, channel=np.array([0, 0])), Connections(TOLD), topology_of(STAR))
    assert seconds(done) == pytest.approx(2 * (2**16 + 2) / RATE, rel=1e-6)


def test_channels_share_a_connection_unless_there_are_rails() -> None:
    """Rank 0 sends on both channels: one after the other on one connection, at once, each by its rail, on two."""
    topology = load_fabric("two-rail-8")
    both = replace(two_channels(), rank=np.array([0, 0]), peer=np.array([1, 1]))
    shared, apart = (run(both, Connections(TOLD, rails=rails), topology) for rails in (1, 2))
    assert seconds(shared) == pytest.approx(2 * seconds(apart), rel=1e-6)


def test_a_sender_goes_on_when_the_rest_fits_its_buffer() -> None:
    """A rank that sends twice, in two steps, to two others: the second message begins a buffer earlier."""
    program, topology = program_of("broadcast", "binomial", 4, 2**18), topology_of(STAR)
    none, all_of_it = (run(program, Connections(replace(BARE, buffer_bytes=b)), topology) for b in (1, 2**18))
    assert seconds(none) == pytest.approx(2 * 2**18 / RATE, rel=1e-3)
    assert seconds(all_of_it) > seconds(none)  # both of the root's messages share its link, so the first comes late


def test_a_bucket_saves_up_while_its_link_is_idle_and_the_last_packet_owes() -> None:
    """65,536 bytes in packets of 1000: the last of 536 goes when all before it is paid for; at first nothing is saved.
    A second message behind the first pays these 536 and owes as many: both together are late by one last packet less,
    not by two."""
    bucket, size, last = 4000, 2**16, 536
    topology = topology_of(STAR)
    once = run(program_of("broadcast", "gloo", 2, size), Connections(BARE, burst_bytes=bucket), topology)
    assert seconds(once) == pytest.approx((size - last) / RATE, rel=1e-6)
    ring = program_of("all-reduce", "ring", 4, 4 * size)  # its links are never idle again
    done = run(ring, Connections(BARE, burst_bytes=bucket), topology)
    assert seconds(done) == pytest.approx((6 * size - last) / RATE, rel=1e-6)
    plain = run(ring, Connections(BARE), topology)  # no bucket, no packets
    assert seconds(plain) == pytest.approx(6 * size / RATE, rel=1e-6)


def test_a_schedule_that_deadlocks_over_a_transport_is_refused() -> None:
    """Each of two ranks sends in the step in which the other does not receive yet, and both wait for each other."""
    waits = replace(two_channels(), first=np.array([0, 1, 2]), needs=np.array([1, 0]))
    with pytest.raises(InputError, match=r"waits for itself in a circle"):
        run(waits, Connections(BARE), topology_of(STAR))


def test_jobs_together_are_each_their_own() -> None:
    """The same tasks for each, on ranks of its own."""
    both = tasks_of(collective_program("all-reduce", 2**16, ranks=8, groups=[np.arange(4), np.arange(4, 8)]))
    one, other = (np.flatnonzero(both.operation == job) for job in (0, 1))
    assert len(one) == len(other) == both.num_tasks // 2
    for column in ("kind", "num_bytes", "channel", "step"):
        assert getattr(both, column)[one].tolist() == getattr(both, column)[other].tolist()
    assert (both.rank[other] - both.rank[one] == 4).all()
    moves = both.kind == TRANSFER
    assert (both.rank[moves] // 4 == both.peer[moves] // 4).all()
    both.check_acyclic()


def test_the_paths_that_the_kernel_chose_are_taken() -> None:
    topology = lab_plan_of(EmulatedFabric("fat-tree-16", "ecmp", 20)).topology
    seen = {"h0/nic0 h5/nic0": "leaf0 spine3 leaf1"}
    first, links = LabRoutes(topology, "ecmp", seen).routes([0], [5])
    nodes = [topology.links[link].dst for link in links]
    assert first.tolist() == [0, 6]
    assert nodes == ["h0/nic0", "leaf0", "spine3", "leaf1", "h5/nic0", "h5/cpu0"]


def test_channels_take_the_rails_in_turn() -> None:
    topology = lab_plan_of(EmulatedFabric("two-rail-8", "rail-aware", 25)).topology
    routes = LabRoutes(topology, "rail-aware", {})
    assert routes.num_rails == 2
    _, links = routes.routes([0, 0, 0], [1, 1, 1], [0, 1, 2])
    nics = [topology.links[link].src for link in links if topology.links[link].kind is LinkKind.NETWORK]
    assert nics[::2] == ["h0/nic0", "h0/nic1", "h0/nic0"]


def shaping_of(fabric: EmulatedFabric) -> dict[str, object]:
    """As emulate.kernel.PortShaping has it."""
    return {"fair": fabric.fair, "congestion": "reno", "queue_packets": 1000, "burst_packets": 2}


def measured(leg_number: int, size: int, legs=CAMPAIGN) -> Measured:
    """A record as a campaign makes it, of any time."""
    leg = legs[leg_number]
    ranks = len(leg.jobs[0])
    schedule_of(leg.collective, leg.algorithm, ranks, size, channels=leg.channels, group=leg.group)
    lab = {
        "leg": leg.name, "topology": leg.fabric.topology, "routing": leg.fabric.routing,
        "rate_mbit": leg.fabric.rate_mbit, "jobs": [list(job) for job in leg.jobs], "job": 0,
        "channels": leg.channels, "group": leg.group, "mtu": 1500, "shaping": shaping_of(leg.fabric),
        "size_asked": size,
    }  # fmt: skip
    return Measured(
        run="r", collective=leg.collective, algorithm=leg.algorithm, backend="gloo", ranks=ranks, size_bytes=size,
        num_elements=size // 4, dtype="float32", op="sum", samples_s=((1.0,),) * ranks, busbw_factor=1.0,
        timing="isolated", launcher="commbench",
        started_at="2026-01-01T00:00:00+00:00", environment={"emulated": lab, "cores_usable": 2},
    )  # fmt: skip


def test_contended_is_where_pairs_share_a_link() -> None:
    names = [leg.name for leg in CAMPAIGN]
    ring = next(i for i, name in enumerate(names) if name.startswith("fat-tree-16 20 all-reduce ring"))
    spread = next(i for i, name in enumerate(names) if name.startswith("star-8 50 broadcast"))
    assert not predict(measured(ring, 2**16), GLOO_TCP).contended
    assert predict(measured(spread, 2**16), GLOO_TCP).contended  # the root sends to three at once


def test_two_jobs_on_one_trunk_take_twice_as_long_as_one() -> None:
    """Two rings of four that cross the same two leaves; each alone would have twice the share where they meet."""
    numbers = {len(leg.jobs): i for i, leg in enumerate(SMOKE) if leg.fabric.topology != "star-8"}
    both = measured(numbers[2], 2**20, SMOKE)
    lab = both.environment["emulated"]
    alone = replace(both, environment={**both.environment, "emulated": lab | {"jobs": lab["jobs"][:1]}})
    assert predict(both, GLOO_TCP).time_s == pytest.approx(predict(alone, GLOO_TCP).time_s, rel=0.01)  # other spines
    assert both.ranks == 4


def test_the_campaign_covers_what_it_promises() -> None:
    assert len({leg.name for leg in CAMPAIGN}) == len(CAMPAIGN)
    assert sum(len(leg.sizes_bytes) * len(leg.jobs) for leg in CAMPAIGN) >= 250
    assert {leg.fabric.topology for leg in CAMPAIGN} == {
        "star-8", "fat-tree-16", "leaf-spine-16-4to1", "fat-tree-k4", "two-rail-8"
    }  # fmt: skip
    assert {len(job) for leg in CAMPAIGN for job in leg.jobs} == {2, 4, 5, 8, 16}
