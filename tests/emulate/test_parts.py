# SPDX-License-Identifier: Apache-2.0
"""What the testbed decides without a kernel: ranks of jobs, rates that a machine carries, what is on record."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from commbench.emulate.jobs import jobs_of
from commbench.emulate.preflight import LADDER, Capacity, Idleness, fitting, require_carried
from commbench.emulate.state import Process, TestbedState, clean, list_testbeds, process, state_folder, write
from commbench.errors import InputError, RunError
from commbench.live import job_barrier
from commbench.live.job_barrier import JobBarrier
from tests.emulate.fabrics import MBIT, leaf_spine, plan_of, topology_of

EIGHT = topology_of({"kind": "star", "hosts": 8})


@pytest.mark.parametrize(
    ("text", "count", "jobs"),
    [
        ("1", None, [(0, 1, 2, 3, 4, 5, 6, 7)]),
        ("1", 3, [(0, 1, 2)]),
        ("2", None, [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("0,4,1,5", None, [(0, 4, 1, 5)]),
        ("0,1,4/7,2", None, [(0, 1, 4), (7, 2)]),
    ],
)
def test_jobs(text: str, count: int | None, jobs: list[tuple[int, ...]]) -> None:
    assert jobs_of(text, count, EIGHT) == jobs


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("3", None, "--jobs 3: 8 ranks do not make so many equal jobs"),
        ("4", 4, "--jobs 4: 4 ranks"),
        ("0", None, "--jobs 0: 8 ranks"),
        ("two", None, "give a number of jobs, or ranks such as"),
        ("0,1/1,2", None, "rank 1 is given twice; a host runs one rank"),
        ("0,8", None, "rank 8 is outside 0..7"),
        ("0,1/2", None, "a job needs two ranks or more"),
        ("1", 9, "--nproc 9 is outside 2..8"),
        ("1", 1, "--nproc 1 is outside 2..8"),
    ],
)
def test_jobs_that_cannot_be(text: str, count: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jobs_of(text, count, EIGHT)


def test_a_lab_that_would_measure_the_processor_is_refused() -> None:
    """4 hosts at 20 and two trunks of 40, both ways: 320 Mbit/s. Half of 500 is 250, at 15.6 Mbit/s per host."""
    plan = plan_of(leaf_spine(4))
    require_carried(plan, Capacity(640 * MBIT, 2, 2, 1500))
    with pytest.raises(InputError) as caught:
        require_carried(plan, Capacity(500 * MBIT, 2, 2, 1500))
    for part in ("12 link directions", "320 Mbit/s", "2 cores", "500 Mbit/s", "50%", "250 Mbit/s", "--rate 15Mbit/s"):
        assert part in str(caught.value)


def test_the_fastest_rate_of_the_ladder_that_fits() -> None:
    """The sum is 16 times the hosts' rate: 0.5 x 480 carries 15, so 10 of the ladder; 0.5 x 640 the file's own 20."""
    plan = plan_of(leaf_spine(4))
    assert fitting(plan, Capacity(640 * MBIT, 2, 2, 1500)) == plan
    found = fitting(plan, Capacity(480 * MBIT, 2, 2, 1500))
    assert (found.host_rate, found.scale) == (10 * MBIT, 0.5)
    with pytest.raises(InputError, match="the processors would be measured"):
        fitting(plan, Capacity(MBIT, 2, 2, 1500))
    assert LADDER[0] == 50 * MBIT


def test_idleness_is_what_nobody_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 ticks 100 were idle; time before counts for nothing."""
    lines = iter(
        ["cpu  1000 0 500 9000 0 0 0 0 0 0\ncpu0 1 1 1 1\n", "cpu  1200 0 550 9100 10 0 40 0 0 0\ncpu0 1 1 1 1\n"]
    )
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: next(lines))
    assert Idleness().share() == 100 / 400


def gone(folder: Path, testbed: str = "cb1") -> TestbedState:
    """A testbed on record whose owner has ended: no process was started at that time."""
    host, leaf = f"{testbed}-h0", f"{testbed}-leaf0"
    state = TestbedState(testbed, Process(2, -5, "commbench"), (host, leaf), {host: ("nic0",)})
    write(state, folder)
    return state


def test_what_is_on_record_is_read_back(tmp_path: Path) -> None:
    state = gone(tmp_path).with_processes([process(os.getpid(), "rank")])
    write(state, tmp_path)
    (found,) = list_testbeds(tmp_path)
    assert (found.lab, found.owner, found.namespaces, found.processes) == (
        state.lab,
        state.owner,
        state.namespaces,
        state.processes,
    )
    assert [p.alive for p in (found.owner, *found.processes)] == [False, True]


def test_cleaning_twice_is_cleaning_once(tmp_path: Path) -> None:
    """Also where the namespaces on record were never made."""
    gone(tmp_path)
    said: list[str] = []
    assert clean(tmp_path, said.append) == 1
    assert said == ["cb1: 2 namespaces removed, 0 processes ended"]
    assert clean(tmp_path, said.append) == 0
    assert list_testbeds(tmp_path) == []
    assert clean(tmp_path / "never-made", said.append) == 0


def test_a_lab_in_use_is_left_alone(tmp_path: Path) -> None:
    state = TestbedState("cb2", process(os.getpid(), "commbench"), ("cb2-h0",))
    write(state, tmp_path)
    said: list[str] = []
    assert clean(tmp_path, said.append) == 0
    assert said == [f"cb2: left alone, process {os.getpid()} is using it"]
    assert [testbed.lab for testbed in list_testbeds(tmp_path)] == ["cb2"]


@pytest.mark.parametrize("text", ["", "[]", '{"lab": "x"}'])
def test_a_file_that_is_no_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunError, match=r"x\.json: is no record of a testbed"):
        clean(tmp_path, print)


def test_no_namespace_of_others_is_ever_removed(tmp_path: Path) -> None:
    write(TestbedState("cb3", Process(2, -5, "commbench"), ("cb3-h0", "someone-else")), tmp_path)
    with pytest.raises(RunError, match="'someone-else' is not named after the testbed cb3"):
        clean(tmp_path, print)


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "every process": lambda r: r | {"processes": [{"pid": -1, "started": None, "what": "rank"}]},
    "every process, at a time": lambda r: r | {"processes": [{"pid": -1, "started": 5, "what": "rank"}]},
    "a group": lambda r: r | {"processes": [{"pid": 0, "started": 5, "what": "rank"}]},
    "the first process": lambda r: r | {"processes": [{"pid": 1, "started": 5, "what": "rank"}]},
    "a truth": lambda r: r | {"processes": [{"pid": True, "started": 5, "what": "rank"}]},
    "a text": lambda r: r | {"owner": r["owner"] | {"pid": "2"}},
    "a way out": lambda r: r | {"lab": "../cb1", "namespaces": []},
    "another's name": lambda r: r | {"lab": "cb7", "namespaces": []},
    "a pattern": lambda r: r | {"lab": "cb.*", "namespaces": ["cb.*-h0"]},
    "a namespace of others": lambda r: r | {"namespaces": ["cb1-h0", "default"]},
    "a path": lambda r: r | {"namespaces": ["cb1-h0/../../../etc/passwd"]},
    "an unknown key": lambda r: r | {"sudo": True},
    "no mapping": lambda r: [r],
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_record_is_named_and_others_are_cleaned(
    forge: Callable[[dict[str, Any]], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append((pid, number)))
    gone(tmp_path)
    path = tmp_path / "cb1.json"
    path.write_text(json.dumps(forge(json.loads(path.read_text()))))
    gone(tmp_path, "cb0")
    gone(tmp_path, "cb2")
    said: list[str] = []
    with pytest.raises(RunError, match=r"cb1\.json: "):
        clean(tmp_path, said.append)
    assert [line.partition(":")[0] for line in said] == ["cb0", "cb2"]
    assert [file.name for file in tmp_path.iterdir()] == ["cb1.json"]
    assert signalled == []


def test_files_that_cannot_be_records(tmp_path: Path) -> None:
    """None of them is read, or waited for."""
    gone(tmp_path, "cb0")
    os.mkfifo(tmp_path / "cb1.json")
    (tmp_path / "cb2.json").mkdir()
    (tmp_path / "cb3.json").symlink_to("/dev/zero")
    (tmp_path / "cb4.json").write_bytes(b"\xff\xfe")
    (tmp_path / "cb5.json").write_text("[" * 100_000)
    gone(tmp_path, "cb6")
    said: list[str] = []
    with pytest.raises(RunError) as caught:
        clean(tmp_path, said.append)
    assert [line.partition(":")[0] for line in said] == ["cb0", "cb6"]
    assert all(f"cb{number}.json: is no record" in str(caught.value) for number in range(1, 6))


def test_a_process_of_others_is_not_ended(tmp_path: Path) -> None:
    """Neither one that commbench has not started, nor one that was started at another time."""
    waits = [sys.executable, "-c", "input()"]
    commands = (waits, [*waits, "commbench.live.child"], [*waits, "commbench.live.child"])
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in commands]
    try:
        found = [process(p.pid, "rank") for p in started]
        found[1] = replace(found[1], started=found[1].started - 1)
        write(gone(tmp_path).with_processes(found), tmp_path)
        said: list[str] = []
        assert clean(tmp_path, said.append) == 1
        assert said == ["cb1: 2 namespaces removed, 1 processes ended"]
        assert [p.poll() for p in started] == [None, None, -signal.SIGKILL]
    finally:
        for p in started:
            p.communicate(b"\n")


def test_where_labs_are_on_record() -> None:
    assert state_folder({}) == Path("/run/commbench")
    assert state_folder({"COMMBENCH_STATE": "/x"}) == Path("/x")


def test_runs_that_have_met_go_on_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long after the last the others look for it."""
    monkeypatch.setattr(job_barrier, "_POLL_S", 0.08)
    passed: dict[tuple[int, int], float] = {}

    def go(number: int) -> None:
        barrier = JobBarrier(tmp_path, number, 2)
        for turn in range(5):
            time.sleep(0.03 * number)
            barrier.wait(lambda: None)
            passed[number, turn] = time.monotonic()

    threads = [threading.Thread(target=go, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert median(abs(passed[0, turn] - passed[1, turn]) for turn in range(5)) < 0.02


def test_runs_meet_at_the_gate_before_every_size(tmp_path: Path) -> None:
    """Runs of 3 and 2 sizes: nobody passes round r before both are there, and a run that has left holds nobody."""
    order: list[tuple[str, int, int]] = []

    def go(number: int, rounds: int) -> None:
        barrier = JobBarrier.of(JobBarrier(tmp_path, number, 2).variables)
        assert barrier is not None
        for turn in range(rounds):
            order.append(("came", number, turn))
            barrier.wait(lambda: None)
            order.append(("passed", number, turn))
        barrier.leave()

    threads = [threading.Thread(target=go, args=(number, rounds)) for number, rounds in ((0, 3), (1, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for turn in range(2):
        came = max(order.index(("came", number, turn)) for number in range(2))
        assert came < min(order.index(("passed", number, turn)) for number in range(2))
    assert ("passed", 0, 2) in order
    assert JobBarrier.of({}) is None
