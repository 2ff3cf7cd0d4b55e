# SPDX-License-Identifier: Apache-2.0
"""Collectives by packets: what the record says, what the terminal and the page show, what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.cli.tables import packet_lines
from commbench.errors import InputError
from commbench.report.packets import packet_tables
from commbench.results.kinds import record_from_json
from commbench.results.records import Simulated
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective
from tests.report.outcomes import OUTCOMES

PACKET_S = 4096 / 12.5e9
CROWDED = "leaf-spine-16-4to1"  # four hosts a leaf share one uplink


def simulated(
    network: str, collective: str = "all-to-all", algorithm: str = "direct", size: int = 2**20, fabric: str = CROWDED
) -> Simulated:
    return simulate_collective(
        load_fabric(fabric), collective, algorithm, size, network=network, engine="reference", keep_trace=False
    ).record


def test_a_ring_is_the_fluid_time_and_a_packet_a_step() -> None:
    """Nothing queues in a ring on one switch: each of 14 steps waits for one packet more than in the fluid model."""
    record = simulated("packet:none,header=0", "all-reduce", "ring", 8 * 2**16, "star-8")
    assert record.network == "packet:none,header=0"
    assert record.fluid_time_s == pytest.approx(14 * (2**16 / 12.5e9 + 2e-6))
    assert record.time_s == pytest.approx(record.fluid_time_s + 14 * PACKET_S, rel=1e-6)
    assert record.counted["marks"] == record.counted["drops"] == record.counted["pauses"] == 0


def test_what_was_counted_stands_in_the_record_and_comes_back() -> None:
    record = simulated("packet:dcqcn")
    assert record.counted["marks"] > 0
    assert record.counted["deepest_queue_bytes"] == record.queues[0]["deepest_queue_bytes"] > 0
    assert sum(queue["marks"] for queue in record.queues) <= record.counted["marks"]
    assert record_from_json(record.to_json(), "here") == record
    assert {"fluid_time_s", "counted", "queues"} <= OUTCOMES[Simulated]
    (beside, queues) = packet_tables([record])
    assert len(beside.rows) == 1
    assert len(queues.rows) == len(record.queues)
    assert packet_tables([simulated("fluid")]) == []


def test_what_comes_out_of_order_is_told() -> None:
    record = simulated("packet:none,balance=spray", algorithm="pairwise", fabric="fat-tree-16")
    late = record.counted["reordered"]
    assert late > 0
    (beside, _) = packet_tables([record])
    assert [cell.text for cell in beside.rows[0]][-1] == f"{late:,}"
    assert beside.columns[-1].title == "out of order"
    assert packet_lines(record.counted, record.queues)[-1].endswith(f", {late:,} out of order")
    kept = simulated("packet:none", algorithm="pairwise", fabric="fat-tree-16")
    assert kept.counted["reordered"] == 0
    assert "out of order" not in packet_lines(kept.counted, kept.queues)[-1]


def test_what_is_trimmed_is_told() -> None:
    record = simulated("packet:ndp", size=2**18)
    trims = record.counted["trims"]
    assert trims == record.counted["repeated"] > 0
    assert 0 < sum(queue["trims"] for queue in record.queues) <= trims
    (beside, queues) = packet_tables([record])
    titles = [column.title for column in beside.columns]
    assert beside.rows[0][titles.index("trims")].text == f"{trims:,}"
    column = [column.title for column in queues.columns].index("trims")
    assert [row[column].sort for row in queues.rows] == [queue["trims"] for queue in record.queues]
    assert f", {trims:,} trims, {trims:,} sent again" in packet_lines(record.counted, record.queues)[-1]
    assert "trims" not in packet_lines((kept := simulated("packet:none", size=2**18)).counted, kept.queues)[-1]


def test_without_pauses_packets_are_lost_and_sent_again() -> None:
    record = simulated("packet:none,pfc=off,buffer=16K,rto_us=100", size=2**19)
    assert record.counted["drops"] > 0
    assert record.counted["repeated"] > 0
    assert record.time_s > (record.fluid_time_s or 0)


@pytest.mark.parametrize("detail", ["folded", "collective"])
def test_details_without_single_transfers_are_refused(detail: str) -> None:
    with pytest.raises(InputError, match=r"--network packet:none simulates every transfer: give --detail transfer"):
        simulate_collective(
            load_fabric("star-8"), "all-reduce", "ring", 8192, network="packet", detail=detail, keep_trace=False
        )


@pytest.mark.parametrize(
    ("network", "error"),
    [
        ("packet:cubic", "known: packet:none, packet:dcqcn, packet:swift, packet:ndp, packet:tcp"),
        ("packet:tpc", "--network packet:tpc is unknown; did you mean packet:tcp?"),
        ("packet:none,speed=3", "'speed=3' is not key=value; keys: mtu, header, pfc, xoff, xon, buffer, window,"),
        ("packet:none,mtu=0", "mtu=0: must be at least 1 byte"),
        ("packet:none,mtu=big", "mtu=big: must be bytes, such as 4096 or 256K"),
        ("packet:none,pfc=maybe", "pfc=maybe: must be on or off"),
        ("packet:none,ecn_share=2", "ecn_share=2.0: must be 0 to 1"),
        ("packet:none,rto_us=1.5", "rto_us=1.5: must be a whole number"),
        ("packet:none,xon=1M", "xon=1048576: must be 0 to xoff (262144)"),
        ("packet:none,buffer=1K", "buffer=1024: must hold a packet (4178)"),
    ],
)
def test_settings_that_cannot_be_are_told_with_their_rule(network: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        simulated(network)
    assert error in str(caught.value)


def test_the_terminal_shows_the_fluid_answer_and_the_page_both_tables(tmp_path: Path) -> None:
    results, page = tmp_path / "r.jsonl", tmp_path / "page.html"
    words = ["sim", "all-to-all", "-t", CROWDED, "-b", "1M", "-e", "1M", "--network", "packet:dcqcn"]
    found = CliRunner().invoke(app, [*words, "--out", str(results)])
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "# packet:dcqcn; fluid" in found.stdout
    assert "marks" in found.stdout
    told = json.loads(results.read_text(encoding="utf-8").splitlines()[0])
    assert told["fluid_time_s"] < told["time_s"]
    assert CliRunner().invoke(app, ["report", str(results), "--out", str(page)]).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "Packets beside the fluid model" in text
    assert "Deepest queues by simulated size" in text


def test_what_is_left_open_is_fluid_where_no_port_is_crowded() -> None:
    record = simulated("auto", "all-reduce", "ring", 8 * 2**16, "star-8")
    assert (record.network, record.fluid_time_s, record.counted) == ("fluid", None, {})
    assert record.time_s == simulated("fluid", "all-reduce", "ring", 8 * 2**16, "star-8").time_s
    assert record.network_why == "no port is sent more than it can drain"


def test_what_is_left_open_is_packets_where_one_is() -> None:
    record, packets = simulated("auto:swift,mtu=1024"), simulated("packet:swift,mtu=1024")
    assert record.network == packets.network == "packet:swift,mtu=1024"
    assert (record.time_s, record.fluid_time_s) == (packets.time_s, packets.fluid_time_s)
    assert "-> spine0 has up to 4 senders at once, 400 Gbit/s into 25 Gbit/s" in record.network_why
    assert record_from_json(record.to_json(), "record") == record


def test_auto_is_told_on_the_terminal_and_refused_where_it_cannot_look() -> None:
    base = ["sim", "all-to-all", "-t", CROWDED, "-b", "64K", "-e", "64K", "--network"]
    done = CliRunner().invoke(app, [*base, "auto"])
    assert done.exit_code == 0
    assert "64 KiB: network packet:none: leaf0 -> spine0 has up to 4 senders at once" in done.stderr
    for given, words in (("auto:dctcp", "packet:dctcp is unknown"), ("auto:none,x=1", "'x=1' is not key=value")):
        with pytest.raises(InputError, match=words):
            simulated(given)
    with pytest.raises(InputError, match="looks at every transfer: give --detail transfer"):
        simulate_collective(load_fabric(CROWDED), "all-to-all", "direct", 2**16, network="auto", detail="collective")
