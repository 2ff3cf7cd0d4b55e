# SPDX-License-Identifier: Apache-2.0
"""``emulate TOPOLOGY run pipeline`` from the outside: the step is as long as its twin's on the same links, a stage that
dies is named, and nothing is left behind.

Links are slow and ranks have priority, so that it is right on a busy machine too.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.cli.main import app
from commbench.errors import InputError
from commbench.results.journal import read_records
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.records import Measured
from commbench.validate.lab_pipeline import FIT_SIZES
from tests.emulate.fabrics import leftovers, namespaces

ROOT = Path(__file__).parents[2]
IN_DOCS = re.compile(r"^    sudo commbench (emulate \S+ run pipeline .*--no-preflight.*)$", re.MULTILINE)


def commbench(command: str, folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Run a command in a lab on record in ``folder``, and see that nothing is left."""
    before = namespaces()
    search = os.pathsep.join([str(folder), str(ROOT)])
    env = os.environ | {"PYTHONPATH": search, "COMMBENCH_STATE": str(folder), "TMPDIR": str(folder)}
    words = [sys.executable, "-m", "commbench", *shlex.split(command), "--out", "r.jsonl"]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(folder, before) == []
    return done


@pytest.mark.measured
@pytest.mark.root
@pytest.mark.live
def test_the_command_of_the_docs_agrees_with_its_twin(tmp_path: Path) -> None:
    """3 stages, 4 microbatches, 13 ms for an activation: without the links the step would be a fifth shorter."""
    pytest.importorskip("torch")
    (command,) = IN_DOCS.findall((ROOT / "docs" / "emulate.md").read_text(encoding="utf-8"))
    assert "--max-error 0.1" in command
    done = commbench(f"{command} --json", tmp_path, 0)
    assert "packets were lost" not in done.stderr
    records = read_records(tmp_path / "r.jsonl")
    points, (measured,), (simulated,), (compared,) = (
        [record for record in records if isinstance(record, kind)]
        for kind in (Measured, PipelineMeasured, PipelineSimulated, PipelineCompared)
    )
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == [r.kind for r in records[-3:]]
    assert [(p.size_bytes, p.algorithm, p.ranks, p.wrong) for p in points] == [(s, "native", 3, 0) for s in FIT_SIZES]
    lab = measured.environment["emulated"]
    assert (lab["provenance"], lab["topology"], lab["hosts"]) == ("emulated", "star-8", [0, 1, 2])
    assert points[0].environment["emulated"] == {**lab, "idle": points[0].environment["emulated"]["idle"]}
    assert 0 <= points[0].environment["emulated"]["idle"] <= 1
    assert (measured.ranks, measured.activation_bytes, measured.wrong) == (3, 2**15, 0)
    assert simulated.network["kind"] == "lab"
    assert simulated.network["latency_s"] < 1e-3
    assert compared.fabric == "star-8 d-mod-k at 20 Mbit/s"
    assert compared.max_error == 0.1
    assert abs(compared.error) <= 0.1
    assert compared.idle_s["transfer"] > 0.15 * compared.measured_s


DIES = """
import os, signal, sys
if sys.orig_argv[5:6] == ["commbench.live.child"]:
    from commbench.live.stage import LiveStage
    whole = LiveStage.backward_input
    def dies(self, microbatch, gradient):
        if microbatch == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, microbatch, gradient)
    LiveStage.backward_input = dies
"""


@pytest.mark.root
@pytest.mark.live
def test_a_stage_that_dies_in_the_lab_is_named(tmp_path: Path) -> None:
    """The others end, the lab is gone (see :func:`commbench`), and what was measured before is kept."""
    pytest.importorskip("torch")
    (tmp_path / "sitecustomize.py").write_text(DIES)
    command = "emulate star-8 run pipeline --nproc 2 -m 4 --rate 20Mbit/s --no-preflight"
    said = commbench(command, tmp_path, 3).stderr
    assert re.search(r"error: rank 1 was killed by signal 9 \(SIGKILL\) at 16 KiB, .*stage 1B2", said), said
    kinds = [record.kind for record in read_records(tmp_path / "r.jsonl")]
    assert kinds == [*["measured"] * len(FIT_SIZES), "failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--nproc 9", "--nproc 9 is outside 2..8, the hosts of star-8"),
        ("--nproc 1", "--nproc 1 is outside 2..8"),
        ("--hosts 0;1", "--hosts '0;1': give ranks of the topology, such as 0,4,8,12"),
        ("--hosts 0,8", "--hosts 0,8: two or more different ones of 0..7"),
        ("--hosts 0,0", "--hosts 0,0: two or more different ones of 0..7"),
        ("--hosts 3", "--hosts 3: two or more different ones of 0..7"),
        ("--hosts 0,1 --nproc 3", "--nproc 3, but --hosts 0,1 are 2"),
        ("--schedule pipedream", "pipeline schedule 'pipedream' is unknown"),
        ("--forward 20", "'20' is not a duration"),
        ("--rate auto --no-preflight", "--rate auto needs the preflight"),
        ("--mtu 100 --rate 5Mbit/s --no-preflight", "--mtu 100 must be from 576 to 65535 bytes"),
    ],
)
@pytest.mark.root
def test_bad_input_is_refused_before_anything_is_made(arguments: str, message: str) -> None:
    before = namespaces()
    with pytest.raises(InputError, match=re.escape(message)):
        app(["emulate", "star-8", "run", "pipeline", *arguments.split()], standalone_mode=False)
    assert namespaces() == before


def test_there_is_no_backend_to_choose(capsys: pytest.CaptureFixture[str]) -> None:
    """All options of ``run pipeline`` but one, and the lab's."""
    app(["emulate", "star-8", "run", "pipeline", "--help"], standalone_mode=False)
    help_ = capsys.readouterr().out
    app(["run", "pipeline", "--help"], standalone_mode=False)
    live = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z-]+", help_)) == live - {"--backend"} | {
        "--hosts", "--rate", "--routing", "--mtu", "--seed", "--preflight", "--no-preflight",
    }  # fmt: skip
