# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/live.md run, and what it says of launchers is what the code looks for."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.live.rank_info import _LAUNCHERS

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- tested -->\n```console\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", "".join(BLOCKS), re.M)
PROGRAMS = {"commbench": "commbench", "torchrun": "torch.distributed.run"}


@pytest.mark.live
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, tmp_path: Path) -> None:
    program, *words = shlex.split(command)
    whole = [sys.executable, "-m", PROGRAMS[program], *words]
    done = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "# Avg bus bandwidth" in done.stdout


def test_every_launcher_stands_there() -> None:
    assert len(COMMANDS) == 2
    for launcher in _LAUNCHERS:
        assert all(f"`{name}`" in PAGE for name in (launcher.rank, *launcher.local)), launcher.name
