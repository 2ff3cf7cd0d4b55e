# SPDX-License-Identifier: Apache-2.0
"""``compare``: only like with like, slower only beyond noise, and the history of many runs."""

import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from commbench.results.journal import Journal, read_records
from commbench.results.records import Measured
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective
from tests.cli.commands import commbench
from tests.report.samples import ENVIRONMENT, measured

ROOT = Path(__file__).parents[2]
MIB = 2**20
SIZES = (MIB, 4 * MIB, 16 * MIB)


def run(
    folder: Path,
    name: str,
    factors: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    noise: float = 0.01,
    seed: int = 0,
    **changes: Any,
) -> str:
    """A run of three sizes, each so many times as long as 1 ms per MiB, 20 iterations with this noise; its file."""
    path = folder / name
    path.unlink(missing_ok=True)
    draw = random.Random(f"{name} {seed}")
    for size, factor in zip(SIZES, factors, strict=True):
        middle = 1e-3 * size / MIB * factor
        row = tuple(middle * (1 + draw.gauss(0, noise)) for _ in range(20))
        Journal(path).append(measured(size=size, samples_s=(row,) * 4, run=name, **changes))
    return name


def compared(folder: Path, *arguments: str, code: int) -> list[dict[str, Any]]:
    done = commbench("compare", *arguments, "--json", folder=folder)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def test_a_run_that_is_as_fast_passes(tmp_path: Path) -> None:
    *points, end = compared(tmp_path, run(tmp_path, "a"), run(tmp_path, "b"), code=0)
    assert [one["verdict"] for one in points] == ["same"] * 3
    assert (end["slower"], end["faster"], end["ok"]) == (0, 0, True)
    assert end["ratio"] == pytest.approx(1.0, abs=0.01)


def test_one_slow_size_fails(tmp_path: Path) -> None:
    *points, end = compared(tmp_path, run(tmp_path, "a"), run(tmp_path, "b", (1.0, 1.2, 1.0)), code=1)
    assert [one["verdict"] for one in points] == ["same", "slower", "same"]
    assert points[1]["change"] == pytest.approx(0.2, abs=0.02)
    assert (end["slower"], end["ok"]) == (1, False)


def test_slower_in_total_fails_though_no_size_is_beyond_its_own_noise(tmp_path: Path) -> None:
    """8 % at every size, with noise for which a single size may differ by more."""
    old, new = run(tmp_path, "a", noise=0.12), run(tmp_path, "b", (1.3, 1.3, 1.3), noise=0.12)
    *points, end = compared(tmp_path, old, new, code=1)
    assert all(one["tolerance"] > 0.05 for one in points)
    assert end["verdict"] == "slower"
    assert end["tolerance"] < max(one["tolerance"] for one in points)


def test_noise_is_no_regression(tmp_path: Path) -> None:
    """7 % slower in the median, where samples scatter by 30 %: three standard errors of both sides are more."""
    old, new = run(tmp_path, "a", noise=0.3), run(tmp_path, "b", (1.07, 1.07, 1.07), noise=0.3, seed=2)
    *points, _ = compared(tmp_path, old, new, code=0)
    assert {one["verdict"] for one in points} == {"same"}


@pytest.mark.parametrize(("factor", "verdict"), [(1.245, "same"), (1.28, "slower")])
def test_runs_that_scatter_tell_how_far_one_more_may_be_off(factor: float, verdict: str, tmp_path: Path) -> None:
    """Five old ones from -10 to +10 %: s = 1.4826 x 0.0513 of logarithms. The new one is another draw (s), the old
    side's median is known to s sqrt(pi / 2 / 5): three times both together are 26.2 %.
    """
    old = [run(tmp_path, f"old{n}", (f, f, f), noise=1e-4) for n, f in enumerate((0.9, 0.95, 1.0, 1.05, 1.1))]
    *points, end = compared(tmp_path, *old, run(tmp_path, "new", (factor,) * 3, noise=1e-4), code=verdict == "slower")
    assert {one["verdict"] for one in points} == {verdict}
    assert [one["tolerance"] for one in points] == pytest.approx([0.262] * 3, abs=0.002)
    assert end["verdict"] == verdict


def test_faster_is_told_and_passes(tmp_path: Path) -> None:
    *points, end = compared(tmp_path, run(tmp_path, "a"), run(tmp_path, "b", (0.5, 0.5, 0.5)), code=0)
    assert [one["verdict"] for one in points] == ["faster"] * 3
    assert end["verdict"] == "faster"


def test_what_is_not_the_same_thing_is_not_compared(tmp_path: Path) -> None:
    other = run(tmp_path, "b", dtype="bfloat16", num_elements=MIB // 2)
    assert "a and b have no point in common; dtype: old float32, new bfloat16" in refused(
        commbench("compare", run(tmp_path, "a"), other, folder=tmp_path)
    )


def test_points_of_one_side_alone_are_listed_apart(tmp_path: Path) -> None:
    old, new = run(tmp_path, "a"), run(tmp_path, "b")
    Journal(tmp_path / "b").append(measured(size=64 * MIB, run="b"))
    *points, end = compared(tmp_path, old, new, code=0)
    assert len(points) == 3
    assert end["apart"] == ["only new: all-reduce, 4 ranks, algorithm ring: 64 MiB"]


@pytest.mark.parametrize(
    ("changes", "words", "setting"),
    [
        ({"backend": "nccl", "environment": ENVIRONMENT | {"nccl": "2.27.5"}},
         "library differs: old gloo 2.13.0+cpu, new nccl 2.27.5", "library"),
        ({"environment": ENVIRONMENT | {"cpu_model": "other"}}, "device differs: old AMD EPYC", "device"),
        ({"environment": ENVIRONMENT | {"hosts": ["a", "a", "b", "b"]}}, "hosts differs: old 1, new 2", "hosts"),
    ],
)  # fmt: skip
def test_another_setting_is_refused_unless_it_is_the_question(
    tmp_path: Path, changes: dict[str, Any], words: str, setting: str
) -> None:
    old, new = run(tmp_path, "a"), run(tmp_path, "b", **changes)
    error = refused(commbench("compare", old, new, folder=tmp_path))
    assert words in error
    assert f"give --across {setting} if that is the question" in error
    *_, end = compared(tmp_path, old, new, "--across", setting, code=0)
    assert words in end["notes"][0]


def test_the_last_of_many_is_held_against_the_median_of_those_before(tmp_path: Path) -> None:
    """Runs that scatter by 10 % have a tolerance to match, though the samples of each are quiet."""
    files = [run(tmp_path, f"r{i}", (f, f, f)) for i, f in enumerate((1.0, 1.2, 0.9, 1.1, 1.0))]
    *points, end = compared(tmp_path, *files, run(tmp_path, "new", (1.15, 1.15, 1.15)), code=0)
    assert all(len(one["history_s"]) == 6 for one in points)
    assert points[0]["old_s"] == pytest.approx(1e-3, rel=0.02)
    assert points[0]["tolerance"] > 0.15
    quiet = [run(tmp_path, f"q{i}") for i in range(5)]
    *points, end = compared(tmp_path, *quiet, "new", code=1)
    assert end["slower"] == 3


def test_table_and_page(tmp_path: Path) -> None:
    files = [run(tmp_path, f"r{i}") for i in range(6)]
    done = commbench("compare", *files, run(tmp_path, "new", (1.5, 1.0, 1.0)), "--out", "c.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("SLOWER") == 2  # that size, and in total
    assert "error: slower: 1 of 3 points" in done.stderr
    page = commbench("report", "c.jsonl", "--out", "c.html", folder=tmp_path)
    assert page.returncode == 0, page.stderr
    html = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "What changed" in html
    assert "time by run" in html
    assert all(isinstance(r, object) for r in read_records(tmp_path / "c.jsonl"))


def test_logs_and_simulations_are_compared_too(tmp_path: Path) -> None:
    log = str(ROOT / "docs" / "all-reduce-8.log")
    (tmp_path / "copy.log").write_text(Path(log).read_text(encoding="utf-8"), encoding="utf-8")
    *_, end = compared(tmp_path, log, "copy.log", code=0)
    assert end["ratio"] == 1.0
    assert end["notes"] == ["no samples tell the noise of both sides: the tolerance is 5%"]
    for name, topology in (("star", "star-8"), ("tree", "fat-tree-16")):
        fabric = load_fabric(topology)
        found = simulate_collective(fabric, "all-reduce", "ring", MIB, num_ranks=8, keep_trace=False, run_id=name)
        Journal(tmp_path / name).append(found.record)
    assert "topology differs: old star-8, new fat-tree-16" in refused(
        commbench("compare", "star", "tree", folder=tmp_path)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("a", "a: give two files or more"),
        ("a a", "a: given twice"),
        ("a none.jsonl", "none.jsonl: cannot be read"),
        ("a empty", "empty: nothing to compare"),
        ("a b --across colour", "--across 'colour' is unknown"),
    ],
)
def test_what_cannot_be_compared_is_told(tmp_path: Path, arguments: str, words: str) -> None:
    run(tmp_path, "a")
    run(tmp_path, "b")
    (tmp_path / "empty").write_text("")
    assert words in refused(commbench("compare", *arguments.split(), folder=tmp_path))


def test_wrong_values_are_told(tmp_path: Path) -> None:
    *_, end = compared(tmp_path, run(tmp_path, "a"), run(tmp_path, "b", wrong=7), code=1)
    assert (end["wrong"], end["slower"], end["ok"]) == (3, 0, False)
    assert any("3 records have wrong values" in note for note in end["notes"])
    assert isinstance(next(iter(read_records(tmp_path / "b"))), Measured)
