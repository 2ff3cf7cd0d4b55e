# SPDX-License-Identifier: Apache-2.0
"""Scenarios: the times that faults, jitter and other traffic lead to, worked out by hand; both engines alike."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.engine import compiled
from commbench.engine.setting import CUT_OFF, Change, What
from commbench.errors import InputError, RunError, TopologyError
from commbench.lowering.scenario import Scenario
from commbench.lowering.scenario_faults import State
from commbench.program.operations import ProgramBuilder
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.faults import Background, Fault, KilledRank, LinkFault, SlowRank
from commbench.topology.load import load_fabric
from tests.cases import MIB, US, leaf_spine, simulate_collective, star
from tests.lowering.disturbed import both, put, ring, run, sends
from tests.programs import tasks_of

SIMS = sorted((Path(__file__).parents[2] / "sims").glob("*.yaml"))
EIGHT = leaf_spine(8, hosts_per_leaf=4, spines=4)  # d-mod-k: what is for host h crosses spine h % 4
GBPS = 12.5e9  # bytes/s of every link here: 12,500 bytes in a us


# Links ------------------------------------------------------------------------------------------------------------

STEP = 83_886_080 + 2 * US  # 1 MiB at 12.5 GB/s, after two links of 1 us


def test_a_ring_on_a_sick_link() -> None:
    """Every step waits for the transfer over the link, which has a tenth of the rate: 10 x the flow, same latency."""
    program = ring(8, 8 * MIB)
    assert run([], program, load_fabric("star-8")).finish_ps == 14 * STEP
    sick = both(0, "h0/nic0", "leaf0", 0.1)
    assert run(sick, program.unroll(), load_fabric("star-8")).finish_ps == 14 * (838_860_800 + 2 * US)


def test_a_link_falls_sick_in_the_middle_of_a_step() -> None:
    """Five steps well, half of the sixth flow at the full rate and half at a tenth, eight steps sick."""
    sick = both(5 * STEP + 2 * US + 41_943_040, "h0/nic0", "leaf0", 0.1)
    sixth = 2 * US + 41_943_040 + 419_430_400
    trace = run(sick, ring(8, 8 * MIB).unroll(), load_fabric("star-8"))
    assert trace.finish_ps == 5 * STEP + sixth + 8 * (838_860_800 + 2 * US)


def test_one_direction_of_a_link() -> None:
    """leaf0 -> h0 is slow, h0 -> leaf0 is not."""
    trace = run(
        [LinkFault(0, "leaf0", "h0/nic0", 0.1)], sends(8, (0, 1, 125_000), (2, 0, 125_000)), load_fabric("star-8")
    )
    assert trace.end_ps.tolist() == [12 * US, 102 * US]


def test_a_factor_is_of_the_links_own_bandwidth() -> None:
    """A half, then a half again: still a half. 125,000 B: 2 us latency, 20 us at a half."""
    faults = [LinkFault(at, "h0/nic0", "leaf0", 0.5) for at in (0, 5 * US)]
    assert run(faults, sends(8, (0, 1, 125_000)), load_fabric("star-8")).finish_ps == 22 * US


def test_a_link_goes_down_and_comes_back() -> None:
    """0 -> 4 crosses spine 0, 2 -> 6 spine 2. From 6 us to 10 us spines 1, 2, 3 are left to 4, and 4 % 3 is spine 2.

    100,000 B each, 4 us latency: 25,000 B alone until 6, 25,000 B at half the rate until 10, 50,000 B alone until 14.
    Host 1 is unplugged all the time, which gives no other host another number.
    """
    program = sends(8, (0, 4, 100_000), (2, 6, 100_000))
    down = [LinkFault(0, "h1/nic0", "leaf0", 0), *both(6 * US, "leaf0", "spine0", 0)]
    up = both(10 * US, "leaf0", "spine0", 1)
    assert run([], program, EIGHT).end_ps.tolist() == [12 * US] * 2
    assert run(down + up, program, EIGHT).end_ps.tolist() == [14 * US] * 2
    assert run(down, program, EIGHT).end_ps.tolist() == [18 * US] * 2  # 25,000 B alone, 75,000 B at a half
    disturbed, _ = put(Scenario((*down, *up)), program, Router(EIGHT))
    first, links = disturbed.paths.first, disturbed.paths.links
    assert disturbed.changes == (Change(6 * US, What.ROUTE, 0, 2), Change(10 * US, What.ROUTE, 0, 0))
    assert [EIGHT.links[i].dst for i in links[first[2] :]] == [
        "h0/nic0",
        "leaf0",
        "spine2",
        "leaf1",
        "h4/nic0",
        "h4/cpu0",
    ]


def test_overlapping_failures_are_states_not_histories() -> None:
    """Spines 0 and 1 of leaf 0 fail and come back in either order; each time has one route."""
    faults = [
        *both(1 * US, "leaf0", "spine0", 0),
        *both(2 * US, "leaf0", "spine1", 0),
        *both(3 * US, "leaf0", "spine0", 0.5),
        *both(4 * US, "leaf0", "spine1", 1),
    ]
    disturbed, _ = put(Scenario(tuple(faults)), sends(8, (0, 4, 1), (1, 5, 1)), Router(EIGHT))
    spines = {0: "spine0", 1: "spine1"}
    for route in range(2, len(disturbed.paths.latency_ps)):
        links = disturbed.paths.links[disturbed.paths.first[route] : disturbed.paths.first[route + 1]]
        spines[route] = EIGHT.links[links[2]].dst
    moves = [(c.time_ps // US, c.index, spines[int(c.value)]) for c in disturbed.changes if c.what is What.ROUTE]
    # four spines less spine 0: 4 % 3 is spine 2; less spines 0 and 1: 4 % 2 is spine 2, 5 % 2 is spine 3
    assert moves == [(1, 0, "spine2"), (2, 1, "spine3"), (3, 0, "spine0"), (4, 1, "spine1")]
    rates = [(c.time_ps // US, c.value) for c in disturbed.changes if c.what is What.BANDWIDTH]
    assert rates == [(3, GBPS / 2)] * 2


def test_where_the_policy_finds_no_way_the_fewest_links_do() -> None:
    """A host with two NICs whose first is unplugged: policies leave by the first, traffic now leaves by the second."""
    topology = load_fabric("dgx-h100-x2")
    program = sends(16, (0, 8, 1))
    disturbed, _ = put(Scenario((LinkFault(1, "h0/pcie0", "h0/nic0", 0),)), program, Router(topology))
    links = disturbed.paths.links[disturbed.paths.first[1] :]
    names = [topology.links[i].dst for i in links]
    assert names[1] != "h0/nic0"
    assert names[1].startswith("h0/nic")
    assert names[-1] == "h1/gpu0"


def test_other_ranks_and_other_hosts_do_not_forward() -> None:
    """A GPU whose NVLink to the other is gone could pass by a third; hosts with one NIC each, by a third host."""
    mesh, rails = "oam-mesh", "dgx-h100-x8-rail-only"
    (pcie,) = {link.dst for link in load_fabric(mesh).links if link.src == "h0/gpu0" and "pcie" in link.dst}
    nvlink = [LinkFault(0, "h0/gpu0", "h0/gpu1", 0), LinkFault(0, "h0/gpu0", pcie, 0)]
    nics = [LinkFault(0, f"h{host}/nic{nic}", f"leaf{nic}", 0) for host in (0, 1) for nic in range(8) if nic != host]
    nics += [LinkFault(0, fault.dst, fault.src, 0) for fault in nics]
    for name, faults, end, moved in (
        (mesh, nvlink, 1, 1),
        (mesh, nvlink[:1], 1, 0),
        (rails, nics, 8, 1),
        (rails, nics[1:], 8, 0),
    ):
        disturbed, _ = put(Scenario(tuple(faults)), sends(end + 1, (0, end, 1)), Router(load_fabric(name)))
        assert [int(change.value == CUT_OFF) for change in disturbed.changes] == [moved]


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("name", ["leaf-spine-16-4to1", "fat-tree-k4", "dgx-h100-x2"])
def test_detours_lead_there_over_what_is_left(name: str, data: st.DataObject) -> None:
    topology, router = _loaded(name)
    down = data.draw(st.sets(st.integers(0, len(topology.links) - 1), max_size=len(topology.links) // 3))
    pairs = data.draw(st.lists(st.permutations(range(16)).map(lambda p: (p[0], p[1], 1)), min_size=1, max_size=8))
    faults = tuple(LinkFault(0, topology.links[i].src, topology.links[i].dst, 0) for i in down)
    disturbed, _ = put(Scenario(faults), sends(16, *pairs), router)
    paths, moved = disturbed.paths, {change.index: int(change.value) for change in disturbed.changes}
    for route, (src, dst, _) in enumerate(disturbed.triples.tolist()):
        own = router.route(src, dst)
        if not down & set(own):
            assert route not in moved
            continue
        hosts = {topology.by_name[topology.ranks[end]].host for end in (src, dst)}
        left = nx.DiGraph([(link.src, link.dst) for link in topology.links if link.index not in down])
        left.remove_nodes_from([n.name for n in topology.nodes if n.host is not None and n.host not in hosts])
        left.remove_nodes_from([rank for i, rank in enumerate(topology.ranks) if i not in (src, dst)])
        ends = topology.ranks[src], topology.ranks[dst]
        if moved[route] == CUT_OFF:
            assert not (set(ends) <= left.nodes and nx.has_path(left, *ends))
            continue
        links = paths.links[paths.first[moved[route]] : paths.first[moved[route] + 1]].tolist()
        assert not down & set(links)
        assert [topology.links[i].src for i in links] + [ends[1]] == [ends[0]] + [topology.links[i].dst for i in links]
        assert paths.latency_ps[moved[route]] == topology.latencies_ps[links].sum()


@cache
def _loaded(name: str) -> tuple[Fabric, Router]:
    topology = load_fabric(name)
    return topology, Router(topology)


# What is cut off --------------------------------------------------------------------------------------------------


def test_a_partition_names_ranks_time_and_cut() -> None:
    faults = [fault for spine in range(4) for fault in both((5 + spine) * US, "leaf0", f"spine{spine}", 0)]
    with pytest.raises(RunError) as error:
        run(faults, sends(8, (1, 5, 100_000)), EIGHT)
    assert str(error.value) == (
        "s.yaml: at 8 us rank 1 (h1/cpu0) sends to rank 5 (h5/cpu0), but nothing joins them: down are "
        "leaf0 -> spine0, leaf0 -> spine1, leaf0 -> spine2, leaf0 -> spine3"
    )
    assert error.value.exit_code == 3


def test_only_the_links_that_separate_are_named() -> None:
    """leaf1 -> spine3 is down too, but it lies behind the cut."""
    faults = [*both(1 * US, "leaf1", "spine3", 0), LinkFault(2 * US, "leaf0", "h3/nic0", 0)]
    with pytest.raises(RunError, match=r"nothing joins them: down are leaf0 -> h3/nic0$"):
        run(faults, sends(8, (5, 3, 100_000)), EIGHT)


def test_a_cut_that_nobody_meets_is_no_error() -> None:
    """The transfer ends at 10 us. At that very instant the cut comes first; a picosecond later it is too late."""
    program, topology = sends(8, (0, 1, 100_000)), load_fabric("star-8")
    with pytest.raises(RunError, match=r"at 10 us rank 0 .* down are h0/nic0 -> leaf0$"):
        run(both(10 * US, "h0/nic0", "leaf0", 0), program, topology)
    assert run(both(10 * US + 1, "h0/nic0", "leaf0", 0), program, topology).finish_ps == 10 * US
    with pytest.raises(RunError, match="at 0 s rank 0"):
        run(both(0, "h0/nic0", "leaf0", 0), program, topology)
    mended = [*both(0, "h2/nic0", "leaf0", 0), *both(5 * US, "h2/nic0", "leaf0", 1)]
    later = ProgramBuilder(8)
    later.transfer(2, 1, 100_000, after=(later.compute(2, 5 * US),))
    assert run(mended, tasks_of(later), topology).finish_ps == 15 * US


@pytest.mark.parametrize(("dead", "sender"), [(3, 2), (3, 3)])
def test_a_killed_rank_is_named(dead: int, sender: int) -> None:
    """Half of the flow has passed at 6 us; a later death of the same rank says nothing new."""
    receiver = 3 if sender == 2 else 4
    with pytest.raises(RunError) as error:
        run([KilledRank(6 * US, dead), KilledRank(9 * US, dead)], sends(8, (sender, receiver, 100_000)), EIGHT)
    assert str(error.value) == (
        f"s.yaml: at 6 us rank {sender} (h{sender}/cpu0) sends to rank {receiver} (h{receiver}/cpu0), "
        "but rank 3 was killed at 6 us"
    )


def test_a_rank_is_missed_when_it_is_needed() -> None:
    """Killed at 1 us, missed at 2 us, when the latency is over; killed behind its last transfer, it is never missed."""
    program, topology = sends(8, (2, 3, 100_000)), EIGHT
    with pytest.raises(RunError, match=r"at 2 us rank 2 .* sends to rank 3 .*, but rank 3 was killed at 1 us"):
        run([KilledRank(1 * US, 3)], program, topology)
    assert run([KilledRank(12 * US, 3)], program, topology).finish_ps == 10 * US


# Ranks and other traffic ------------------------------------------------------------------------------------------


def test_a_slow_rank() -> None:
    """Rank 1 has half of its processor: 1 us to post, 2 us latency, 8 us of flow, then 2 us instead of 1 to receive."""
    topology = star(2, overhead_ps=US)
    program = sends(2, (0, 1, 100_000))
    assert run([], program, topology).finish_ps == 12 * US
    assert run([SlowRank(0, 1, 0.5)], program, topology).finish_ps == 13 * US
    assert run([SlowRank(0, 1, 0.5), SlowRank(11 * US, 1, 1)], program, topology).finish_ps == 12 * US
    assert run([SlowRank(12 * US, 1, 0.5)], program, topology).finish_ps == 12 * US


def test_other_traffic_halves_the_rate_while_it_lasts() -> None:
    """2 -> 1 waits until 5, enters at 7 and shares the way down to host 1: 25,000 B at 6.25 GB/s last until 11.

    The transfer 0 -> 1 has 125,000 B: 62,500 B from 2 to 7, 25,000 B at half the rate until 11, 37,500 B until 14.
    """
    program = sends(8, (0, 1, 125_000))
    trace = run([Background(5 * US, 2, 1, 25_000)], program, load_fabric("star-8"))
    assert trace.end_ps.tolist() == [14 * US, 5 * US, 11 * US]


def test_the_end_is_that_of_the_program() -> None:
    """125,000 B at half the rate from 7 on end at 17; the background flow goes on."""
    scenario = Scenario((Background(5 * US, 2, 1, 10**7),))
    disturbed, setting = put(scenario, sends(8, (0, 1, 125_000)), Router(load_fabric("star-8")))
    trace = compiled.run(disturbed.program, setting)
    assert disturbed.num_foreground == 1
    assert trace.end_ps[:1].max() == 17 * US
    assert trace.finish_ps > 100 * US
    assert disturbed.program.num_transfers == 1


def test_other_traffic_takes_no_processor_and_is_never_slow() -> None:
    """Rank 0 has a tenth of its processor: it posts at 10 us, and its host's other flow begins at 3 us all the same."""
    faults = [Background(3 * US, 0, 2, 12_500), SlowRank(0, 0, 0.1)]
    trace = run(faults, sends(3, (0, 1, 100_000)), star(3, overhead_ps=US))
    assert trace.end_ps.tolist() == [(10 + 2 + 8 + 1) * US, 3 * US, (3 + 2 + 1) * US]


@pytest.mark.parametrize("detail", ["transfer", "looped"])
def test_both_engines_blame_the_same_transfer(detail: str) -> None:
    """All ranks send at 0; of those to and from the dead rank, 1 -> 2 has the lower number."""
    scenario = Scenario((KilledRank(0, 2),))
    for engine in ("reference", "compiled") if detail == "transfer" else ("compiled",):
        with pytest.raises(RunError, match=r"at 0 s rank 1 \(h1/cpu0\) sends to rank 2 \(h2/cpu0\), but rank 2 was"):
            simulate_collective(
                load_fabric("star-8"),
                "all-reduce",
                "ring",
                MIB,
                engine=engine,
                scenario=scenario,
                keep_trace=detail == "transfer",
            )


def test_other_traffic_of_a_killed_ranks_host_goes_on() -> None:
    """As above, 2 -> 1 halves 0 -> 1 from 7 us to 11 us; rank 2 dies between."""
    program = sends(8, (0, 1, 125_000), (2, 3, 1))
    trace = run([Background(5 * US, 2, 1, 25_000), KilledRank(8 * US, 2)], program, load_fabric("star-8"))
    assert trace.end_ps[0] == 14 * US


def test_a_looped_program_is_unrolled_beside_other_traffic() -> None:
    """However its tasks are numbered, each keeps its route."""
    loop = ring(4, MIB)
    size = len(loop.kind)
    for program in (loop, replace(loop, base=np.arange(size), pitch=np.full(size, size))):
        router, scenario = Router(load_fabric("star-8")), Scenario((Background(0, 2, 1, 1),))
        looped, flat = (put(scenario, each, router)[0] for each in (program, program.unroll()))
        assert np.array_equal(looped.paths.route_of, flat.paths.route_of)
        assert looped.num_foreground == flat.num_foreground == loop.num_tasks


def test_other_traffic_that_is_cut_off_takes_no_link() -> None:
    """2 -> 1 would halve 0 -> 1 from 2 us on; at 4 us host 2 is unplugged, and that is no error."""
    faults = [Background(0, 2, 1, 10**6), *both(4 * US, "h2/nic0", "leaf0", 0)]
    trace = run(faults, sends(8, (0, 1, 100_000)), load_fabric("star-8"))
    assert trace.end_ps[0] == 11 * US  # 12,500 B at a half until 4, 87,500 B alone


# Scenarios as users give them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SIMS, ids=lambda path: path.stem)
def test_scenarios_that_ship_change_something_and_agree(path: Path) -> None:
    """On fat-tree-16, shifts of 4 ranks: all four spines of every leaf are in use."""
    scenario = Scenario.load(path)
    assert scenario.name == path.stem
    topology = load_fabric("fat-tree-16")
    program = sends(16, *((rank, (rank + 4) % 16, 64 * MIB) for rank in range(16)))
    healthy, disturbed = run([], program, topology), run(scenario.faults, program, topology)
    assert (disturbed.end_ps[:16] != healthy.end_ps).any()


def test_names_and_errors_of_scenarios(tmp_path: Path) -> None:
    assert (Scenario(jitter=0.1).name, Scenario(jitter=0.1).digest) == ("", "")
    scenario = Scenario.load(SIMS[0], seed=3)
    assert replace(scenario, jitter=0.25).name == SIMS[0].stem
    other = tmp_path / SIMS[0].name
    other.write_text(SIMS[1].read_text("utf-8"), "utf-8")
    assert Scenario.load(other).name == scenario.name
    assert Scenario.load(other).digest != scenario.digest == Scenario.load(SIMS[0]).digest
    with pytest.raises(InputError, match=r"^--jitter 1\.5: must be from 0 to 1"):
        Scenario(jitter=1.5)
    path = tmp_path / "bad.yaml"
    path.write_text("faults:\n  - {kind: link, at: 1 us, src: leaf0, dst: spine0, direction: both, factor: 2}\n")
    with pytest.raises(TopologyError, match=r"bad\.yaml: line 2: faults\.0\.factor: 2: must be at most 1"):
        Scenario.load(path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (LinkFault(0, "leaf0", "spine9", 0), "has no link leaf0 -> spine9"),
        (KilledRank(0, 16), r"has the ranks 0\.\.15"),
        (Background(0, 0, 99, 1), r"has the ranks 0\.\.15"),
        (SlowRank(0, 7, 0.5), "on rank 7 of the topology nothing runs"),
    ],
)
def test_faults_of_what_is_not_there(fault: Fault, message: str) -> None:
    for fabric in (load_fabric("fat-tree-16"), load_fabric("fat-tree-16")):
        with pytest.raises(InputError, match=f"^s.yaml: .*{message}"):
            put(Scenario((fault,), origin="s.yaml"), sends(4, (0, 1, 1)), Router(fabric))


def test_link_faults_need_a_graph_of_moderate_size() -> None:
    router = Router(load_fabric("fat-tree-131072"))
    put(Scenario((KilledRank(0, 1),)), sends(2, (0, 1, 1)), router)
    with pytest.raises(TopologyError, match=r"fat-tree-131072 has [\d,]+ links; links that are down need the graph"):
        put(Scenario((LinkFault(0, "h0/nic0", "leaf0", 0),)), sends(2, (0, 1, 1)), router)


def test_the_killed_are_killed_once() -> None:
    assert State.at(5, [KilledRank(4, 1), KilledRank(2, 1), KilledRank(9, 2)]).killed == {1: 2}
