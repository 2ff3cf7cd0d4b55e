# SPDX-License-Identifier: Apache-2.0
"""How children are started: nothing that lies in the current folder becomes code of theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import commbench
from commbench.live.start import module_command
from tests import hostile

ROOT = Path(__file__).parents[2]


def test_every_child_of_the_package_is_started_by_the_one_command() -> None:
    starters = [path for path in (ROOT / "commbench").rglob("*.py") if "sys.executable" in path.read_text()]
    assert [path.relative_to(ROOT).as_posix() for path in starters] == ["commbench/live/start.py"]


def test_a_module_runs_as_a_program_of_this_package(tmp_path: Path) -> None:
    mark = hostile.fill(tmp_path / "cwd")
    command = module_command("commbench", "--version")
    done = subprocess.run(command, cwd=tmp_path / "cwd", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"commbench {commbench.__version__}\n"), done.stderr
    assert not mark.exists(), mark.read_text()


def test_what_the_user_put_on_the_path_comes_first_as_ever(tmp_path: Path) -> None:
    (tmp_path / "commbench.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.stdout.write('mine ')")
    command = module_command("commbench", "--version")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said == f"mine commbench {commbench.__version__}\n"


MINE = """
from commbench.collectives.registry import build_schedule

def build(request):
    return build_schedule("all-reduce", "ring", request.num_ranks)
"""
EMULATED = "emulate star-8 run all-reduce --background 0:1 --rate 20Mbit/s --no-preflight"


@pytest.mark.live
@pytest.mark.parametrize("verb", ["run all-reduce", pytest.param(EMULATED, marks=pytest.mark.root)])
def test_ranks_load_nothing_from_the_current_folder(verb: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    here = tmp_path / "cwd"
    mark = hostile.fill(here)
    (here / "mine.py").write_text(MINE)
    options = "--nproc 2 -a mine.py -b 1K -e 1K -n 1 -w 0 --out r.jsonl"
    command = [sys.executable, "-P", "-m", "commbench", *verb.split(), *options.split()]
    env = os.environ | {"PYTHONPATH": str(ROOT), "COMMBENCH_STATE": str(tmp_path)}
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not mark.exists(), mark.read_text()
