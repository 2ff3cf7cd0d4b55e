# SPDX-License-Identifier: Apache-2.0
"""Packets that choose their ways, against what can be computed; SEMANTICS.md, "Ways"."""

import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.errors import InputError
from commbench.network.base import Wiring
from commbench.network.packet.lottery import flowlet_path, sprayed_path
from commbench.network.packet.settings import Packets, parse_packets
from commbench.routing.ways import ARRIVED, WayGraph
from tests.network.packet_cases import Driven, wiring_of

GB_PER_S = 1e9
SIZE = 1000
PACKET_PS = 1_000_000  # of SIZE bytes at 1 GB/s
BALANCED = ("spray", "adaptive")


def packets_of(balance: str, **more: Any) -> Packets:
    return Packets(mtu_bytes=SIZE, header_bytes=0, xoff_bytes=10**9, xon_bytes=0, balance=balance, **more)


def parallel(rates: list[float], *, pairs: int, fast: float, latencies: list[int] | None = None) -> Wiring:
    """``pairs`` of a sender's and a receiver's link, and between them links of these rates. Routes take the first."""
    count = len(rates)
    bandwidths = [fast] * pairs + rates + [fast] * pairs
    routes = [(i, pairs, pairs + count + i) for i in range(pairs)]
    wiring = wiring_of(bandwidths, routes, [0] * pairs + (latencies or [0] * count) + [0] * pairs)
    counts, links, after, start = [], [], [], []
    for i in range(pairs):  # three states: at the sender, at the switch, at the one behind it
        here = 3 * i
        start.append(here)
        counts += [1, count, 1]
        links += [i, *range(pairs, pairs + count), pairs + count + i]
        after += [here + 1, *[here + 2] * count, ARRIVED]
    columns = (np.array(column) for column in (np.cumsum([0, *counts]), links, after, start))
    return replace(wiring, ways=WayGraph(*columns))


def run(wiring: Wiring, given: Packets, num_bytes: int) -> Driven:
    """A message on every route."""
    routes = [tuple(wiring.links[a:b].tolist()) for a, b in zip(wiring.first, wiring.first[1:], strict=False)]
    return Driven(wiring, given, [(0, route, num_bytes) for route in routes])


@pytest.mark.parametrize("balance", BALANCED)
@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_flow_over_k_ways_is_k_times_as_fast_as_over_one(count: int, balance: str) -> None:
    """Its NIC sends k times as fast as a way: no way is idle but for a packet at either end."""
    wiring = parallel([GB_PER_S] * count, pairs=1, fast=count * GB_PER_S)
    size = 400 * SIZE
    (alone_ps,) = run(replace(wiring, ways=None), packets_of("flow"), size).ends_ps
    assert alone_ps == 400 * PACKET_PS + 2 * PACKET_PS // count  # what the one way takes, and in and out
    (end_ps,) = run(wiring, packets_of(balance), size).ends_ps
    assert 400 * PACKET_PS / count < end_ps <= 400 * PACKET_PS / count + 3 * PACKET_PS


@pytest.mark.parametrize("balance", BALANCED)
def test_flows_that_collide_get_half_and_by_packets_all(balance: str) -> None:
    """Two flows at line rate, two ways: both on one of them take twice as long; over both none waits long."""
    wiring = parallel([GB_PER_S] * 2, pairs=2, fast=GB_PER_S)
    colliding = run(replace(wiring, ways=None), packets_of("flow"), 400 * SIZE)
    assert max(colliding.ends_ps) == (800 + 2) * PACKET_PS
    spread = run(wiring, packets_of(balance), 400 * SIZE)
    assert max(spread.ends_ps) <= (400 + 2 + 6) * PACKET_PS
    counts = spread.network.counts
    assert abs(int(counts.packets[2]) - int(counts.packets[3])) <= 2
    assert counts.deepest.max() <= 5 * SIZE < colliding.network.counts.deepest.max()


def test_spraying_waits_for_a_slow_way_and_the_shortest_queue_does_not() -> None:
    """Ways of C and C / 4: half of the bytes at C / 4, against all of them at 5 C / 4."""
    wiring = parallel([GB_PER_S, GB_PER_S / 4], pairs=1, fast=2 * GB_PER_S)
    tight = {"xoff_bytes": 10 * SIZE, "xon_bytes": 8 * SIZE}
    sprayed, adaptive = (run(wiring, replace(packets_of(each), **tight), 1000 * SIZE).ends_ps[0] for each in BALANCED)
    assert sprayed == pytest.approx(500 * 4 * PACKET_PS, rel=0.02)
    assert adaptive == pytest.approx(1000 * PACKET_PS / 1.25, rel=0.05)


def test_the_shortest_queue_is_that_of_bytes_at_arrival() -> None:
    """The second flow's packets find 3 of the first's before the one way that both know, and take the other."""
    wiring = parallel([GB_PER_S] * 2, pairs=2, fast=10 * GB_PER_S)
    assert wiring.ways is not None
    first = wiring.ways.first.copy()
    one_way = WayGraph(
        np.array([0, 1, 2, 3, *(first[4:] - 1)]),
        np.delete(wiring.ways.links, 2),
        np.delete(wiring.ways.after, 2),
        wiring.ways.start,
    )
    messages = [(0, (0, 2, 4), 3 * SIZE), (300_000, (1, 2, 5), 2 * SIZE)]
    done = Driven(replace(wiring, ways=one_way), packets_of("adaptive"), messages)
    assert done.network.counts.packets.tolist() == [3, 2, 3, 2, 3, 2]


def test_a_permutation_takes_every_way_once_and_is_another_each_time() -> None:
    for paths in (1, 2, 3, 4, 7, 16, 100):
        for turn in range(20):
            taken = [sprayed_path(5, turn * paths + i, paths, 1) for i in range(paths)]
            assert sorted(taken) == list(range(paths)), (paths, turn)
    orders = Counter(tuple(sprayed_path(task, i, 4, 0) for i in range(4)) for task in range(2000))
    assert len(orders) >= 12
    for place in range(4):
        each = Counter(order[place] for order, count in orders.items() for _ in range(count))
        assert min(each.values()) > 400
        assert max(each.values()) < 600
    drawn = Counter(flowlet_path(task, 0, 5, 0) for task in range(5000))
    assert min(drawn.values()) > 900
    assert max(drawn.values()) < 1100


@pytest.mark.parametrize(("gap_us", "some"), [(30, 20), (50, 1)])
def test_a_flowlet_ends_where_its_sender_waits_longer_than_the_gap(gap_us: int, some: int) -> None:
    """One packet a round trip of 40 us and 3 packets' times: each a flowlet of its own, or all of them one."""
    wiring = parallel([GB_PER_S] * 4, pairs=1, fast=GB_PER_S, latencies=[20_000_000] * 4)
    done = run(wiring, packets_of("flowlet", flowlet_us=gap_us, window_bytes=1), 200 * SIZE)
    taken = sorted(done.network.counts.packets[1:5].tolist())
    assert (min(taken) >= some) if some > 1 else (taken == [0, 0, 0, 200])


def test_what_comes_behind_a_later_packet_is_counted() -> None:
    """Two ways, one 10 packets longer: in each turn one of two goes there, and comes behind later ones of the other."""
    wiring = parallel([GB_PER_S] * 2, pairs=1, fast=2 * GB_PER_S, latencies=[0, 10 * PACKET_PS])
    done = run(wiring, packets_of("spray"), 100 * SIZE)
    counts = done.network.counts
    assert counts.packets[1:3].tolist() == [50, 50]
    assert counts.reordered.sum() == counts.reordered[3] == 50 - sprayed_path(0, 99, 2, 0)  # none is later than 99
    assert run(wiring, packets_of("flow"), 100 * SIZE).network.counts.reordered.sum() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("packet:none,balance=sprey", "balance=sprey is unknown; did you mean spray?"),
        ("packet:none,balance=ecmp", "flow, spray, flowlet, adaptive"),
        ("packet:none,balance=spray,pfc=off", "balance=spray: goes with pfc=on"),
        ("packet:none,balance=flowlet,flowlet_us=0", "flowlet_us=0: must be 1 to 10,000,000"),
    ],
)
def test_a_wrong_setting_says_what_is_known(given: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        parse_packets(given)
    assert words in str(error.value)


def told(command: str) -> Any:
    found = CliRunner().invoke(app, [*shlex.split(command), "--json"], catch_exceptions=False)
    return json.loads(found.stdout)


SLOW = "faults:\n  - {kind: link, at: 0 s, src: leaf0, dst: spine0, direction: forward, factor: 0.1}\n"


def test_a_slow_uplink_holds_up_sprayed_packets_and_not_adaptive_ones(tmp_path: Path) -> None:
    """A tenth of one of four uplinks: what is sprayed waits for it, at a fifth of the NICs' rate and less."""
    faults = tmp_path / "slow.yaml"
    faults.write_text(SLOW, encoding="utf-8")
    command = "sim all-to-all -t fat-tree-16 -b 4M -e 4M --network packet:none,balance="
    healthy, sprayed, adaptive = (
        told(f"{command}{balance}{more}")
        for balance, more in (("spray", ""), ("spray", f" --scenario {faults}"), ("adaptive", f" --scenario {faults}"))
    )
    assert sprayed["network"] == "packet:none,balance=spray"
    assert sprayed["time_s"] > 4 * healthy["time_s"]
    assert adaptive["time_s"] < 1.5 * healthy["time_s"]


def test_a_link_that_fails_is_refused_where_packets_choose(tmp_path: Path) -> None:
    faults = tmp_path / "down.yaml"
    faults.write_text(SLOW.replace("0.1", "0"), encoding="utf-8")
    command = f"sim all-to-all -t fat-tree-16 -b 64K -e 64K --scenario {faults} --network packet"
    assert told(command)["scenario"] == "down"
    with pytest.raises(InputError, match=r"link leaf0 -> spine0 goes down: .* give balance=flow"):
        told(f"{command}:none,balance=spray")


def test_a_neighbours_flow_takes_all_ways_as_well(tmp_path: Path) -> None:
    """8 MiB from rank 2 to rank 6, part of which crosses its 6 links while the ranks exchange theirs."""
    faults = tmp_path / "neighbour.yaml"
    faults.write_text("faults:\n  - {kind: background, at: 0 s, src: 2, dst: 6, size: 8M}\n", encoding="utf-8")
    command = "sim all-to-all -t fat-tree-16 --ranks 8 -b 4M -e 4M --network packet:none,balance=adaptive"
    alone, disturbed = told(command), told(f"{command} --scenario {faults}")
    assert disturbed["counted"]["packets"] > alone["counted"]["packets"] + 6 * 500
    assert alone["time_s"] < disturbed["time_s"] < 2 * alone["time_s"]


def test_switches_that_add_are_refused_where_packets_choose() -> None:
    command = "sim all-reduce -a sharp -t star-8 -b 64K -e 64K --network packet:none"
    assert told(command)["algorithm"] == "sharp"
    with pytest.raises(InputError, match=r"balance=spray: switches that add .* give balance=flow"):
        told(f"{command},balance=spray")
