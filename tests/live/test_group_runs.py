# SPDX-License-Identifier: Apache-2.0
"""Pairs, incasts and groups from the command to what reads their records: a table, a diagnosis, the simulator."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.calibrate.fit import predict_s
from commbench.calibrate.machine import Machine
from commbench.cli.group_table import group_row, summary_of_groups
from commbench.compare.definition import point_of
from commbench.diagnose.measurement import measurements_of
from commbench.errors import InputError
from commbench.experiments.leaves import leaf_of
from commbench.live.group_job import GroupJob
from commbench.live.kinds import job_of
from commbench.report.grouped import group_parts
from commbench.report.page import ReportInput, render
from commbench.results.grouped import by_distance, group_text, is_alone, slowdowns
from commbench.results.journal import read_records
from commbench.results.records import Measured
from commbench.topology.load import load_fabric
from tests.report import samples

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
FABRIC = ROOT / "docs" / "leaf-spine-6.yaml"
MACHINE = Machine(
    name="m", cores=4, message_overhead_s=1e-6, latency_s=1e-5, bandwidth=1e9, reduction=1e9, source="test"
)


def a_pair(one: int, other: int, beside: tuple[tuple[int, int], ...] = (), time_s: float = 1e-3) -> Measured:
    """A send-recv of two ranks on hosts of their own, others beside them."""
    members = [[[f"h{rank}", 0] for rank in pair] for pair in ((one, other), *beside)]
    told = {"experiment": "pairwise", "number": 0, "groups": len(members), "ranks": [one, other],
            "distance": "same leaf" if other == one + 1 else "other leaves"}  # fmt: skip
    hosts = [f"h{one}", f"h{other}"]
    environment = {"members": members[0], "beside": members[1:], "hosts": hosts, "round": told}
    return samples.measured(collective="send-recv", algorithm="direct", ranks=2, size=2**16, busbw_factor=1.0,
                            samples_s=((time_s,) * 5,) * 2, warmup_s=(),
                            environment=samples.ENVIRONMENT | environment)  # fmt: skip


def test_the_time_of_a_pair_is_predicted_with_those_beside_it() -> None:
    """All ranks of a machine share its memory: two pairs at once take about twice as long, and a file says who."""
    alone, beside = (predict_s(MACHINE, a_pair(0, 3, others)) for others in ((), ((1, 2),)))
    assert 1.8 < beside / alone < 2.1
    assert point_of(a_pair(0, 3)).definition != point_of(a_pair(0, 3, ((1, 2),))).definition


def test_a_diagnosis_reads_where_pairs_sat_and_what_ran_beside_them() -> None:
    fabric = load_fabric(str(FABRIC))
    (one,) = measurements_of([a_pair(0, 3, ((1, 2),))], fabric, None)
    assert one.groups == ((0, 3), (1, 2))


def test_figures_by_distance_and_the_page() -> None:
    records = [a_pair(0, 1, time_s=1e-3), a_pair(2, 3, time_s=2e-3), a_pair(0, 2, time_s=4e-3)]
    near, far = by_distance(records)
    assert (near.distance, near.pairs) == ("same leaf", 2)
    assert (group_text(near.slowest), group_text(near.fastest)) == ("2-3", "0-1")
    assert (far.pairs, far.median_GBps) == (1, pytest.approx(2**16 / 4e-3 / 1e9))
    assert "2 pairs, median" in "\n".join(summary_of_groups(records))
    (part,) = group_parts(records)
    assert len(part.pictures) == 1
    page = render(ReportInput(title="t", records=records))
    assert "Every pair of ranks" in page
    assert "2 pairs (same leaf), each alone, 64 KiB: 32.77 MB/s (ranks 2-3) to 65.54 MB/s; 1 pair" in page
    assert "Bandwidth and time by size" not in page  # pairs are no curve
    assert max(map(len, [group_row(one) for one in records] + summary_of_groups(records))) <= 80


def test_leaves_come_from_the_topology(tmp_path: Path) -> None:
    found = leaf_of(str(FABRIC), None)
    assert (found["h0 0"], found["h1 0"]) == ("leaf0", "leaf0")
    assert found["h2 0"] == "leaf1"
    names = tmp_path / "hosts"
    names.write_text("".join(f"node{i}\n" for i in range(6)), encoding="utf-8")
    assert leaf_of(str(FABRIC), names)["node5 0"] == "leaf2"
    with pytest.raises(InputError, match="has no NIC with a switch"):
        leaf_of("dgx-h100", None)


def job(**options: object) -> GroupJob:
    given = {"ranks": 4, "out": Path("r.jsonl"), "run": "r", "experiment": "pairwise", "collective": "send-recv",
             "algorithm": "direct", "sizes_bytes": (64,)}  # fmt: skip
    return GroupJob(**(given | options))  # type: ignore[arg-type]


def test_a_job_survives_its_way_and_names_hosts_that_the_topology_has_not() -> None:
    one = job(leaf_of={"a 0": "leaf0"}, senders=(1,))
    assert job_of(one.to_json()) == one
    with pytest.raises(InputError, match="no endpoint 1 of host 'a'"):
        one.rounds([("a", 0), ("a", 1)])
    assert one.distance(("a", 0), ("a", 1)) == "same host"
    with pytest.raises(InputError, match="--how 'once'"):
        job(how="once")
    with pytest.raises(InputError, match="run pairwise needs 2 ranks or more"):
        job(ranks=1)


def test_a_sender_of_an_incast_sends_the_size_whatever_their_number() -> None:
    incast = job(experiment="incast", collective="gather", sizes_bytes=(64,))
    assert [incast.plan(n, 64).sizes_bytes for n in (2, 3, 4)] == [(128,), (192,), (256,)]


def run(folder: Path, *words: str) -> list[Measured]:
    command = [sys.executable, "-m", "commbench", "run", *words, "-n", "2", "-w", "1", "--json", "--out", "r.jsonl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    records = [one for one in read_records(folder / "r.jsonl") if isinstance(one, Measured)]
    assert [json.loads(line)["size_bytes"] for line in done.stdout.splitlines()] == [r.size_bytes for r in records]
    return records


@pytest.mark.live
def test_every_pair_is_measured_and_tells_who_ran_beside_it(tmp_path: Path) -> None:
    records = run(tmp_path, "pairwise", "--nproc", "4", "-b", "4K", "--how", "both")
    assert {r.wrong for r in records} == {0}
    assert [is_alone(r) for r in records] == [False] * 6 + [True] * 6
    host = socket.gethostname()
    first = records[0].environment
    assert (first["members"], first["beside"]) == ([(host, 0), (host, 3)], [[(host, 1), (host, 2)]])
    assert first["round"]["distance"] == "same host"
    assert first["hosts"] == [host, host]


@pytest.mark.live
def test_groups_are_measured_at_once_and_alone(tmp_path: Path) -> None:
    records = run(tmp_path, "multi", "all-reduce", "--groups", "0-1/3,2", "--nproc", "4", "-b", "4K", "--how", "both",
                  "--algorithm", "ring")  # fmt: skip
    assert [(group_text(r), is_alone(r)) for r in records] == [
        ("0-1", False), ("3,2", False), ("0-1", True), ("3,2", True)
    ]  # fmt: skip
    (slow,) = slowdowns(records)
    assert set(slow.factors) == {"0-1", "3,2"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pairwise", "--hosts", "names"], "--hosts names names the hosts of a topology: give --topology too"),
        (["incast", "--senders", "some"], "--senders 'some': give numbers of senders"),
        (["incast", "--receiver", "9"], r"--receiver 9 is outside the ranks 0..3"),
        (["multi", "all-reduce", "--groups", "node", "-a", "mine.txt"], "algorithm 'mine.txt' is unknown"),
    ],
)
def test_a_bad_option_is_told(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from commbench.cli.main import outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert outcome(["run", *words]) == 2
    assert said in capsys.readouterr().err
