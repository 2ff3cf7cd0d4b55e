# SPDX-License-Identifier: Apache-2.0
"""``sim COLLECTIVE --page`` and ``--trace``: whatever was simulated has a page, and says what is not on it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOWN = str(ROOT / "sims/spine-link-down.yaml")
NEIGHBOUR = str(ROOT / "sims/busy-neighbour.yaml")


@pytest.mark.parametrize(
    ("words", "sections"),
    [
        (("-t", "fat-tree-16"), {"curves", "terms", "topology", "ranks"}),
        (("-t", "dgx-h100-x2"), {"curves", "terms", "topology"}),
        (("-t", "fat-tree-16", "--detail", "folded"), {"curves", "topology"}),
        (("-t", "fat-tree-16", "--detail", "collective"), {"curves", "topology"}),
        (("-t", "fat-tree-16", "--jobs", "2"), {"curves", "topology", "ranks"}),
        (("-t", "fat-tree-16", "--scenario", DOWN), {"curves", "topology", "ranks"}),
        (("-t", "fat-tree-16", "--scenario", NEIGHBOUR), {"curves", "topology", "ranks"}),
    ],
    ids=["transfers", "library", "folded", "aggregate", "jobs", "link down", "neighbour"],
)
def test_a_page_has_what_was_simulated(words: tuple[str, ...], sections: set[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    given = ["sim", "all-reduce", *words, "-b", "1M", "-e", "4M", "--page", str(page), "--json"]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["kind"] for one in told] == ["simulated", "simulated", "simulated", "report"]
    text = page.read_text("utf-8")
    known = {"curves", "terms", "topology", "ranks"}
    assert {name for name in known if f'<section id="{name}">' in text} == sections
    if "terms" not in sections and "scenario" in " ".join(words):
        assert "not here: --explain follows the transfers" in text


def test_the_trace_is_of_the_largest_size(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    given = ["sim", "all-reduce", "-t", "star-8", "-b", "1M", "-e", "4M", "--trace", str(trace)]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    assert f"trace: {trace}" in done.stderr
    (record,) = json.loads(trace.read_text("utf-8"))["otherData"]["records"]
    assert record["size_bytes"] == 4 * 2**20


def test_a_trace_of_no_transfers_is_refused(tmp_path: Path) -> None:
    given = ["sim", "all-reduce", "-t", "dgx-h100", "-b", "1M", "-e", "1M", "--trace", str(tmp_path / "t.json")]
    done = CliRunner().invoke(app, given)
    assert "give --detail transfer" in str(done.exception)
    assert not list(tmp_path.iterdir())
