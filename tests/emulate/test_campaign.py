# SPDX-License-Identifier: Apache-2.0
"""A part of the emulated campaign, from the testbed to the verdict: it fails where simulator and packets disagree.

Rates are low and ranks have priority, so that it is right on a busy machine too.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.results.journal import Journal
from commbench.results.kinds import record_from_json
from commbench.results.records import Compared, Measured, Summary
from tests.emulate.fabrics import leftovers, namespaces

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


def validate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commbench", "validate", "--emulated", "--json", "--out", "out", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "COMMBENCH_STATE": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.measured
def test_the_simulator_agrees_with_real_packets(tmp_path: Path) -> None:
    before = namespaces()
    done = validate(tmp_path, "--part", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert leftovers(tmp_path, before) == []
    records = [record_from_json(line, "stdout") for line in done.stdout.splitlines()]
    compared = [r for r in records if isinstance(r, Compared)]
    assert len(compared) >= 20  # and those of busy processors once more, at lower rates
    assert {r.topology for r in compared} == {"star-8", "leaf-spine-16-4to1"}
    sets = [r.set for r in compared]
    assert sets.count("fit") >= 3  # those at a low rate leave the processors idle; of the others most do
    assert all(r.ok for r in records if isinstance(r, Summary))
    assert max(abs(r.error) for r in compared if r.set != "busy") < 0.2

    again = validate(tmp_path, "--part", "smoke")  # nothing is measured twice
    assert again.stdout == done.stdout
    assert "Mbit/s:" not in again.stderr

    path = tmp_path / "out" / "runs.jsonl"
    runs = [record_from_json(line, "runs") for line in path.read_text(encoding="utf-8").splitlines()]
    slower = tmp_path / "slower.jsonl"
    for run in runs:
        assert isinstance(run, Measured)
        late = 1.0 if run.algorithm == "native" and run.collective == "all-reduce" else 1.2
        Journal(slower).append(replace(run, samples_s=tuple(tuple(late * t for t in row) for row in run.samples_s)))
    wrong = validate(tmp_path, str(slower))
    assert wrong.returncode == 1
    assert not all(json.loads(line).get("ok", True) for line in wrong.stdout.splitlines())
    assert "fell short" in wrong.stderr
