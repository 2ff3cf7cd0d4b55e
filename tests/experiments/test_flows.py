# SPDX-License-Identifier: Apache-2.0
"""``sim flows``: files in all their forms, what is refused, and figures that can be computed by hand."""

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.errors import CommbenchError, InputError
from commbench.experiments.flow_file import Flow, read_flows
from commbench.experiments.flows import simulate_flows
from commbench.results.flows import SimulatedFlows
from commbench.results.journal import read_records
from commbench.results.kinds import record_from_json
from tests.cli.commands import commbench

ROOT = Path(__file__).resolve().parents[2]

TABLE = "src,dst,bytes,start\n0,1,1M,0 us\n# a remark, 0 -> 1\n2,1,64K,10 us\n"
MATRIX = """Nodes 8
Connections 3
Triggers 2
2->3 id 3 trigger 2 size 300
0->1 id 1 start 1000000 size 100 send_done_trigger 1
1->2 id 2 trigger 1 size 200 recv_done_trigger 2
trigger id 1 oneshot
trigger id 2 barrier count 1
"""


def written(folder: Path, text: str) -> str:
    file = folder / "flows.txt"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_table_and_an_incast(tmp_path: Path) -> None:
    assert read_flows(written(tmp_path, TABLE)) == [Flow(0, 1, 2**20), Flow(2, 1, 65536, 10_000_000)]
    assert read_flows("incast:2,64K") == [Flow(1, 0, 65536), Flow(2, 0, 65536)]


def test_a_connection_matrix_comes_in_the_order_of_its_triggers(tmp_path: Path) -> None:
    assert read_flows(written(tmp_path, MATRIX)) == [
        Flow(0, 1, 100, 1_000_000),
        Flow(1, 2, 200, after_answered=(0,)),
        Flow(2, 3, 300, after_received=(1,)),
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no flows in it"),
        ("a,b\n", ":1: the first line must be src,dst,bytes,start, not a,b"),
        ("src,dst,bytes,start\n", "0 flows; there must be 1 to"),
        ("src,dst,bytes,start\n0,1,1M\n", ":2: 0,1,1M: must have 4 fields, has 3"),
        ("src,dst,bytes,start\n0,x,1M,0 us\n", ":2: rank 'x' must be a whole number"),
        ("src,dst,bytes,start\n0,1,1X,0 us\n", ":2: '1X' is not a size"),
        ("src,dst,bytes,start\n0,1,1M,5\n", ":2: "),
        ("src,dst,bytes,start\n0,99,1M,0 us\n", "flow 1: rank 99 must be 0 to 7"),
        ("src,dst,bytes,start\n3,3,1M,0 us\n", "flow 1: rank 3 sends to itself"),
        ("0->1 size 5\n", ":1: 0->1 size 5: must have a size, and either a start or a trigger"),
        ("0->1 start 0 size 5 colour 3\n", ":1: 'colour' is unknown; known: start"),
        ("0->1 trigger 4 size 5\n", ":1: trigger 4 is not there"),
        ("0->1 trigger 4 size 5\ntrigger id 4 oneshot\n", ":1: trigger 4 is never activated"),
        ("0->1 trigger 4 size 5\ntrigger id 4 multishot\n", ":2: trigger id 4 multishot: a trigger must be"),
        ("0->1 trigger 4 size 5 recv_done_trigger 4\ntrigger id 4 oneshot\n", "flow 1 waits for itself in a circle"),
        ("0->1 start 0 size 5\nfailure 3\n", ":2: failure 3: must be Nodes"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(text: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(CommbenchError) as caught:
        simulate_flows(written(tmp_path, text), "star-8", network="packet", engine="reference")
    assert error in str(caught.value)


def test_words_that_are_no_incast() -> None:
    for word in ("incast:", "incast:4", "incast:0,1M", "incast:x,1M"):
        with pytest.raises(CommbenchError, match="must be incast:SENDERS,SIZE, such as incast:16,1M"):
            read_flows(word)
    with pytest.raises(CommbenchError, match="no-such-file: No such file or directory; give a CSV"):
        read_flows("no-such-file")


def test_flows_that_leave_the_network_open_are_told_which_it_was() -> None:
    networks = ("auto:swift", "packet:swift")
    crowded, packets = (simulate_flows("incast:4,64K", "star-8", network=given) for given in networks)
    assert (crowded.network, crowded.time_s, crowded.slowdown) == ("packet:swift", packets.time_s, packets.slowdown)
    assert "leaf0 -> h0/nic0 has up to 4 senders at once" in crowded.network_why
    alone = simulate_flows("incast:1,64K", "star-8", network="auto")
    assert (alone.network, alone.fluid_time_s, packets.network_why) == ("fluid", None, "")
    done = CliRunner().invoke(app, ["sim", "flows", "incast:1,64K", "-t", "star-8", "--network", "auto"])
    assert "network fluid: no port is sent more than it can drain" in done.stderr


def test_an_incast_by_hand(tmp_path: Path) -> None:
    """Four times 64 KiB into one port of 12.5 GB/s, and 16 packets of 4178 bytes each; alone as one message is."""
    out = tmp_path / "each.csv"
    settings = "packet:none,header=0,xoff=4M"
    done = simulate_flows("incast:4,64K", "star-8", network=settings, engine="reference", table=out)
    packet_s = 4096 / 12.5e9
    last_s = 2e-6 + packet_s + 64 * packet_s  # two latencies, one packet to the switch, all 64 out of it
    assert done.time_s == pytest.approx(last_s, rel=1e-6)
    alone_s = 2e-6 + packet_s + 16 * packet_s
    assert done.slowdown["max"] == pytest.approx(last_s / alone_s, rel=1e-6)
    assert done.fluid_time_s == pytest.approx(2e-6 + 4 * 65536 / 12.5e9)
    assert (done.counted["drops"], done.counted["pauses"]) == (0, 0)
    assert done.counted["deepest_queue_bytes"] == 49 * 4096  # four come while one leaves, sixteen times
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [int(row["src"]) for row in rows] == [1, 2, 3, 4]
    assert max(float(row["end_s"]) for row in rows) == done.time_s


def test_a_chain_waits_for_answers_as_well(tmp_path: Path) -> None:
    """0 -> 1, then its answer, then 1 -> 2, then 2 -> 3: three messages of a packet, and the way back of one answer."""
    done = simulate_flows(written(tmp_path, MATRIX), "star-8", network="packet:none,header=0", engine="reference")
    crossing_s = (100 + 200 + 300) * 2 / 12.5e9
    assert done.time_s == pytest.approx(1e-6 + 3 * 2e-6 + 2e-6 + crossing_s, rel=1e-9)
    assert done.slowdown["max"] == 1.0


def test_the_verb_prints_a_table_and_an_object() -> None:
    words = ["sim", "flows", "incast:4,64K", "-t", "star-8", "--engine", "reference"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "4 flows, 256 KiB" in found.stdout
    assert "before" in found.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (told["kind"], told["flows"], told["network"]) == ("simulated-flows", 4, "packet:none")
    assert set(told["completion_s"]) == {"mean", "p50", "p95", "p99", "max"}


def test_a_record_keeps_every_flow_and_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "flows.jsonl"
    words = ["sim", "flows", written(tmp_path, TABLE), "-t", "star-8", "--out", str(out), "--json"]
    told = CliRunner().invoke(app, words)
    (record,) = read_records(out)
    assert isinstance(record, SimulatedFlows)
    assert record_from_json(record.to_json(), "line 1") == record
    assert len(record.completions_s) == len(record.slowdowns) == record.flows == 2
    assert max(record.completions_s) == record.completion_s["max"]
    line = json.loads(told.stdout)
    assert line.keys().isdisjoint({"completions_s", "slowdowns"}), "what is told of every flow is for the file"
    assert line["run"] == record.run


def test_what_is_written_is_told_by_the_ending() -> None:
    done = CliRunner().invoke(app, ["sim", "flows", "incast:2,64K", "-t", "star-8", "--out", "flows.txt"])
    assert isinstance(done.exception, InputError)
    assert "must end in .jsonl (the record) or .csv" in str(done.exception)


def test_the_commands_of_the_page_on_networks_run(tmp_path: Path) -> None:
    page = (ROOT / "docs/fluid-or-packets.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- tested -->\n```console\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3  # NDP, TCP, and flows of the user's own
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for line in "".join(blocks).splitlines():
        done = commbench(*line.removeprefix("$ commbench ").split(), folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "<h2>Single flows</h2>" in (tmp_path / "flows.html").read_text(encoding="utf-8")
