# SPDX-License-Identifier: Apache-2.0
"""``emulate`` from the outside: real ranks on real TCP over an emulated fabric, and nothing left behind at any end.

Links are slow (20 Mbit/s), so that the link is what is measured also where two processors do everything.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from typer.exceptions import TyperException

from commbench.cli.main import app
from commbench.collectives.registry import build_schedule
from commbench.emulate.jobs import EmulatedJob, run_jobs
from commbench.emulate.state import list_testbeds
from commbench.emulate.testbed import Testbed
from commbench.errors import InputError
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.results.journal import read_records
from commbench.results.records import Measured
from tests.emulate.fabrics import leaf_spine, leftovers, namespaces, plan_of, written

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
KIB = 2**10
PAYLOAD = 1448 / (1514 + 66 / 2)
"""Payload of a full frame over its bytes and those of half an acknowledgement, which a ring's other half sends back:
MTU 1500 less IPv4 20 and TCP 32 with timestamps; an acknowledgement for two segments (RFC 9293, 3.8.6.3)."""


def command(fabric: Path, *arguments: str, quick: bool = True) -> list[str]:
    options = ["--rate", "own", "--no-preflight"] if quick else []
    return [sys.executable, "-m", "commbench", "emulate", str(fabric), "run", *arguments, *options, "--out", "r.jsonl"]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COMMBENCH_STATE": str(folder), "TMPDIR": str(folder)}


def run(arguments: list[str], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    before = namespaces()
    env = environment(folder)
    done = subprocess.run(arguments, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(folder, before) == []
    return done


def measured(path: Path) -> list[Measured]:
    return [record for record in read_records(path) if isinstance(record, Measured)]


def mbit(record: Measured) -> float:
    assert record.busbw_GBps is not None
    return record.busbw_GBps * 8000


@pytest.mark.measured
def test_an_all_reduce_on_a_leaf_spine(tmp_path: Path) -> None:
    """What `run` writes, with the fabric in it; and the ring reaches what TCP leaves of the link's rate."""
    fabric = written(tmp_path, leaf_spine(4, spines=2))
    given = ["all-reduce", "-b", "64K", "-e", "256K", "-f", "4", "-n", "3", "--rate", "own", "--json"]
    done = run(command(fabric, *given, quick=False), tmp_path)
    records = measured(tmp_path / "r.jsonl")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [json.loads(r.to_json()) for r in records]
    assert [(r.size_bytes, r.ranks, r.wrong, r.backend) for r in records] == [
        (64 * KIB, 4, 0, "gloo"),
        (2**18, 4, 0, "gloo"),
    ]
    about = records[0].environment["emulated"]
    assert (about["provenance"], about["topology"], about["scale"]) == ("emulated", "small-leaf-spine", 1.0)
    assert (about["jobs"], about["hosts"], about["job"]) == ([[0, 1, 2, 3]], [0, 1, 2, 3], 0)
    assert about["capacity_bytes_per_s"] > about["total_rate_bytes_per_s"] == 16 * 20e6 / 8
    assert 0.85 * 20 * PAYLOAD < mbit(records[-1]) < 1.03 * 20 * PAYLOAD


@pytest.mark.measured
def test_two_jobs_share_a_trunk(tmp_path: Path) -> None:
    """Rings 0-2 and 1-3 cross one trunk of a host's rate: each gets half of it, and in the same journal."""
    fabric = written(tmp_path, leaf_spine(4, oversubscription=2.0))
    given = ["all-reduce", "-b", "256K", "-e", "256K", "-n", "5", "--jobs", "0,2/1,3", "--json"]
    done = run(command(fabric, *given), tmp_path)
    shown = sorted(json.loads(line)["run"] for line in done.stdout.splitlines())
    assert [run_id.rpartition("-")[2] for run_id in shown] == ["job0", "job1"]  # each once
    records = measured(tmp_path / "r.jsonl")
    assert {(r.run, tuple(r.environment["emulated"]["hosts"])) for r in records} == {
        (shown[0], (0, 2)),
        (shown[1], (1, 3)),
    }
    for record in records:
        assert 0.85 * 10 * PAYLOAD < mbit(record) < 1.15 * 10 * PAYLOAD


@pytest.mark.measured
def test_a_fault_script_and_a_background_flow(tmp_path: Path) -> None:
    """The link of a ring of two at half its rate from the middle of the run on: iterations take twice as long after."""
    fabric = written(tmp_path, {"kind": "star", "hosts": 3})
    (tmp_path / "faults.yaml").write_text(
        "faults:\n"
        "  - {kind: link, at: 1 s, src: leaf0, dst: h1/nic0, direction: both, factor: 0.5}\n"
        "  - {kind: background, at: 1 s, src: 2, dst: 0, size: 1K}\n"
    )
    given = ["all-reduce", "--nproc", "2", "-b", "256K", "-e", "256K", "-n", "16", "--faults", "faults.yaml"]
    done = run(command(fabric, *given), tmp_path)
    (record,) = measured(tmp_path / "r.jsonl")
    times = record.slowest_s
    ended = [sum(times[: i + 1]) for i in range(len(times))]
    before = [t for t, end in zip(times, ended, strict=True) if end < 0.9]
    after = [t for t, end in zip(times, ended, strict=True) if end > 1.5]
    assert median(after) / median(before) == pytest.approx(2, rel=0.1)
    said = [line for line in done.stderr.splitlines() if line.startswith("fault at 1 s")]
    assert [line.partition(": ")[2] for line in said] == [
        "link leaf0 -> h1/nic0 at 50% of its rate",
        "link h1/nic0 -> leaf0 at 50% of its rate",
        "rank 2's host sends 1 KiB to rank 0's",
    ]
    assert len(record.environment["emulated"]["faults"]) == 3


def test_a_rank_killed_by_the_script(tmp_path: Path) -> None:
    fabric = written(tmp_path, {"kind": "star", "hosts": 2})
    (tmp_path / "faults.yaml").write_text(
        "faults:\n  - {kind: slow-rank, at: 0 s, rank: 0, factor: 0.5}\n  - {kind: killed-rank, at: 300 ms, rank: 1}\n"
    )
    done = run(command(fabric, "all-reduce", "-b", "1M", "-n", "9", "-e", "1M", "--faults", "faults.yaml"), tmp_path, 3)
    assert "error: rank 1 was killed by signal 9 (SIGKILL) at 1 MiB, timed iteration" in done.stderr


@pytest.mark.measured
def test_channels_use_the_rails(tmp_path: Path) -> None:
    """A ring in two channels on hosts with two NICs, each on its own switch: each rail carries half."""
    before = namespaces()
    plan = plan_of({"kind": "rail-only", "hosts": 3}, nics=2)
    with Testbed(plan, folder=tmp_path) as testbed:
        run_plan = Plan(
            collective="all-reduce",
            ranks=3,
            sizes_bytes=(3 * 2**17,),
            out=tmp_path / "r.jsonl",
            run="r",
            schedule=build_schedule("all-reduce", "ring", 3, channels=2),
            iters=3,
            warmup=0,
        )
        ((record,),) = run_jobs(testbed, [EmulatedJob(run_plan, (0, 1, 2), Observer())])
        assert record.wrong == 0
        sent = {part.src: part.num_bytes for part in testbed.link_counters() if part.pair == ("h0/nic0", "h1/nic0")}
        sent |= {part.src: part.num_bytes for part in testbed.link_counters() if part.pair == ("h0/nic1", "h1/nic1")}
    assert sent["h0/nic0"] / sent["h0/nic1"] == pytest.approx(1, rel=0.05)
    assert mbit(record) > 1.5 * 20  # what one NIC could not have carried
    assert leftovers(tmp_path, before) == []


@contextmanager
def long_run(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run of many iterations, once it is measuring: its process, and those of its ranks."""
    fabric = written(folder, leaf_spine(4))
    given = ["all-reduce", "--nproc", "2", "-b", "4K", "-e", "1M", "-f", "256", "-n", "200", "-w", "0"]
    process = subprocess.Popen(
        command(fabric, *given, "--background", "3:0"),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (folder / "r.jsonl").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (state,) = list_testbeds(folder)
        assert {p.what for p in state.processes} == {"rank", "background flow 3:0"}
        assert all(p.alive for p in state.processes)
        yield process, [p.pid for p in state.processes if p.what == "rank"]
    finally:
        process.kill()
        process.communicate()


def test_a_killed_rank_leaves_nothing(tmp_path: Path) -> None:
    before = namespaces()
    with long_run(tmp_path) as (process, ranks):
        os.kill(ranks[1], signal.SIGKILL)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 3
    assert "error: rank 1 was killed by signal 9 (SIGKILL)" in said
    assert len(measured(tmp_path / "r.jsonl")) == 1
    assert leftovers(tmp_path, before) == []


ENDS = [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", ENDS)
def test_a_run_that_is_told_to_end_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """SIGHUP is what a dropped SSH session sends. Told more than once, it ends in the same way."""
    before = namespaces()
    with long_run(tmp_path) as (process, _):
        for each in (number, *ENDS):
            process.send_signal(each)
            time.sleep(0.02)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert leftovers(tmp_path, before) == []
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "fabric.yaml"}


def test_a_preflight_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    """Its testbed is made before that of the run."""
    before = namespaces()
    fabric = written(tmp_path, {"kind": "star", "hosts": 2})
    process = subprocess.Popen(
        command(fabric, "all-reduce", "-b", "4K", "--rate", "1Mbit/s", quick=False),
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(p.what.startswith("background") for testbed in list_testbeds(tmp_path) for p in testbed.processes):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGHUP
    assert "Traceback" not in said
    assert leftovers(tmp_path, before) == []


def test_a_run_whose_reader_has_gone_leaves_nothing(tmp_path: Path) -> None:
    before = namespaces()
    with long_run(tmp_path) as (process, ranks):
        os.kill(process.pid, signal.SIGPIPE)  # by itself it ends nothing
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        os.kill(ranks[1], signal.SIGKILL)  # what is said of it nobody reads
        process.communicate(timeout=30)
    assert leftovers(tmp_path, before) == []
    kept = {path.name for path in tmp_path.iterdir() if not path.match("r.*.output.txt")}  # of other ranks
    assert kept == {"r.jsonl", "fabric.yaml"}


def test_after_the_parent_was_killed_clean_leaves_nothing(tmp_path: Path) -> None:
    """The ranks and the flow die with the parent; the namespaces stay until they are cleaned away."""
    before = namespaces()
    clean = [sys.executable, "-m", "commbench", "emulate", "--clean"]
    with long_run(tmp_path) as (process, _):
        busy = subprocess.run(clean, env=environment(tmp_path), capture_output=True, text=True, check=True)
        assert "left alone" in busy.stderr
        process.kill()
        process.communicate()
    (state,) = list_testbeds(tmp_path)
    assert set(state.namespaces) == namespaces() - before
    done = subprocess.run(clean, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert "7 namespaces removed" in done.stderr
    assert leftovers(tmp_path, before) == []
    assert not any(p.alive for p in state.processes)
    again = subprocess.run(clean, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert "nothing to clean" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("emulate", "give a topology and what to do"),
        ("emulate star-8", "give a topology and what to do"),
        ("emulate --clean star-8", "--clean takes no topology; got 'star-8'"),
        ("emulate dgx-h100-x2 run all-reduce", "h0/gpu0 is a gpu; only plain hosts"),
        ("emulate star-8 run all-reduce --jobs 3", "8 ranks do not make so many equal jobs"),
        ("emulate star-8 run all-reduce --background 0", "--background '0': give two ranks, such as 0:5"),
        ("emulate star-8 run all-reduce --background 0:8", "two different ranks of 0..7"),
        ("emulate star-8 run all-reduce --rate auto --no-preflight", "--rate auto needs the preflight"),
        ("emulate star-8 run all-reduce --rate own", "the processors would be measured, not the links; give --rate"),
        ("emulate star-8 run all-reduce --rate 5", "'5' is not a bandwidth"),
        ("emulate star-8 run all-reduce --rate 1bit/s", "can have 1 kbit/s to 1 Tbit/s"),
        ("emulate star-8 run all-reduce --rate 1e300Gbit/s", "must be from 1 bit/s to 1,000,000 TB/s"),
        ("emulate star-8 run pipeline --rate 2bit/s", "h0/nic0 -> leaf0 would have 2 bit/s"),
        ("emulate star-8 run all-reduce --routing static", "routing 'static' is unknown"),
        ("emulate star-8 run all-reduce --root 1 --rate 5Mbit/s --no-preflight", "--root 1 has no meaning"),
        ("emulate star-8 run all-reduce --channels 2 --rate 5Mbit/s --no-preflight", "--channels 2 has no meaning"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(arguments: str, message: str) -> None:
    before = namespaces()
    with pytest.raises(InputError, match=re.escape(message)):
        app(arguments.split(), standalone_mode=False)
    assert namespaces() == before


@pytest.mark.parametrize("seed", ["-1", "0", "4294967296", "1e3"])
@pytest.mark.parametrize("what", ["all-reduce", "pipeline"])
def test_a_seed_that_the_kernel_cannot_take_is_refused(what: str, seed: str) -> None:
    with pytest.raises(TyperException) as caught:
        app(["emulate", "star-8", "run", what, "--seed", seed], standalone_mode=False)
    assert "'--seed'" in caught.value.format_message()
