# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/training.md runs, and the scenarios that ship for steps make them longer."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.commands import commbench
from tests.cli.test_bad_input import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PLANS = re.findall(r"^\$ commbench (plan .*)$", PAGE, re.MULTILINE)
COMMANDS = re.findall(r"^\$ commbench (sim train .*)$", PAGE, re.MULTILINE)
SCENARIOS = sorted((ROOT / "sims" / "training").glob("*.yaml"))


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Command -> iteration time."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "sims").symlink_to(ROOT / "sims")
    found = {}
    for command in COMMANDS:
        done = commbench(*shlex.split(command), "--json", folder=folder)
        assert done.returncode == 0, done.stderr
        found[command] = json.loads(done.stdout)["iteration_s"]
    return found


def test_no_command_and_no_scenario_is_left_out(figures: dict[str, float]) -> None:
    assert len(figures) == PAGE.count("commbench sim train --") == 17
    named = {name for command in COMMANDS for name in re.findall(r"--scenario (\S+)", command)}
    assert named == {str(Path("sims/training") / path.name) for path in SCENARIOS}


def test_what_goes_wrong_makes_the_step_longer(figures: dict[str, float]) -> None:
    healthy = figures[COMMANDS[0]]
    disturbed = [time_s for command, time_s in figures.items() if command.startswith(f"{COMMANDS[0]} --")]
    assert len(disturbed) == 3
    assert all(healthy < time_s < 1.5 * healthy for time_s in disturbed)


@pytest.mark.parametrize("command", PLANS)
def test_a_plan_finds_a_strategy(command: str, tmp_path: Path) -> None:
    done = commbench(*shlex.split(command), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "best" in done.stdout
    assert "latent attention as in training" in done.stdout.replace("\n#  ", "")
