# SPDX-License-Identifier: Apache-2.0
"""A run whose background flow does not go on fails, and says so; what was measured without it is not kept."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from commbench.emulate.clock import FaultClock
from commbench.emulate.state import list_testbeds
from commbench.emulate.testbed import Testbed
from commbench.emulate.watch import blank
from commbench.errors import CommbenchError, RunError
from commbench.topology.faults import FaultScript, KilledRank, SlowRank
from tests.emulate.fabrics import leftovers, namespaces, plan_of
from tests.emulate.test_emulate_run import long_run, measured

STAR = {"kind": "star", "hosts": 2}


@pytest.mark.root
@pytest.mark.live
@pytest.mark.parametrize(
    ("number", "how"),
    [(signal.SIGKILL, "was killed by signal 9 (SIGKILL)"), (signal.SIGSTOP, "was stopped by a signal")],
)
def test_a_run_without_its_background_flow_fails(number: signal.Signals, how: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    before = namespaces()
    with long_run(tmp_path) as (process, _):
        (state,) = list_testbeds(tmp_path)
        (flow,) = [p for p in state.processes if p.what == "background flow 3:0"]
        time.sleep(0.5)
        os.kill(flow.pid, number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 3
    assert f"error: background flow 3:0 {how}, " in said
    assert "s after its start, at 20" in said
    assert "no records since then" in said
    assert [record.size_bytes for record in measured(tmp_path / "r.jsonl")] == [4096]
    assert leftovers(tmp_path, before) == []


@pytest.mark.root
def test_a_flow_that_has_sent_all_is_well(tmp_path: Path) -> None:
    with Testbed(plan_of(STAR, num_background=2), folder=tmp_path) as testbed:
        flow = testbed.start_flow(0, 1, 1000, 1)
        assert flow.wait(10) == 0
        testbed.require_flows()
        endless = testbed.start_flow(0, 1, 0, 2)
        testbed.require_flows()
        endless.terminate()
        endless.wait(10)
        with pytest.raises(RunError, match=r"background flow 0:1 was killed by signal 15 \(SIGTERM\), \d+\.\d s after"):
            testbed.require_flows()


@pytest.mark.root
def test_a_preflight_whose_flow_ends_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commbench.emulate import preflight

    def kill_one(seconds: float) -> None:
        for state in list_testbeds(tmp_path):
            for flow in state.processes[:1]:
                os.kill(flow.pid, signal.SIGKILL)
        time.monotonic()

    monkeypatch.setattr(preflight.time, "sleep", kill_one)
    with pytest.raises(RunError, match="background flow 0:1 was killed by signal 9"):
        preflight.measure_capacity(folder=tmp_path)


def test_only_the_records_of_these_runs_become_blank(tmp_path: Path) -> None:
    """Since a place, and so that what others write stays whole and where it is."""
    journal = tmp_path / "r.jsonl"
    lines = [json.dumps({"run": run, "n": n}).encode() for n, run in enumerate(["a", "a", "b", "c", "a"])]
    journal.write_bytes(b"\n".join(lines) + b'\n{"run": "a", "cut')
    assert blank(journal, len(lines[0]) + 1, {"a", "c"}) == 3
    left = journal.read_bytes().split(b"\n")
    assert [line.strip() for line in left] == [lines[0], b"", lines[2], b"", b"", b'{"run": "a", "cut']
    assert [len(line) for line in left[:-1]] == [len(line) for line in lines]
    assert blank(tmp_path / "never-made.jsonl", 0, {"a"}) == 0


def test_a_fault_script_that_cannot_go_on_fails_the_run(tmp_path: Path) -> None:
    """Whatever its thread dies of. Faults after the end of a run are named."""
    failed: list[CommbenchError] = []
    said: list[str] = []

    def pid_of(rank: int) -> int:
        raise ZeroDivisionError("a fault of ours")

    script = FaultScript((KilledRank(0, 1), SlowRank(10**15, 0, 0.5)), "x.yaml")
    clock = FaultClock(None, script, first_plane=1, pid_of=pid_of, tell=said.append, fail=failed.append)  # type: ignore[arg-type]
    clock.start(time.monotonic())
    deadline = time.monotonic() + 5
    while not failed and time.monotonic() < deadline:
        time.sleep(0.01)
    clock.close()
    assert [str(error) for error in failed] == [
        "x.yaml: the faults cannot go on: ZeroDivisionError: a fault of ours"
    ]
    assert said == ["warning: 2 of the faults were not applied, the first at 0 s: the run ended before"]
