# SPDX-License-Identifier: Apache-2.0
"""Every command in README.md runs, and every output shown there is what its command prints."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from commbench.results.journal import read_records
from commbench.results.pipeline_records import PipelineCompared
from commbench.results.records import Summary
from commbench.results.tensor_parallel_records import TensorParallelCompared

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- tested(?P<how>: \w+)? -->\n```console\n(?P<body>.*?)```", re.DOTALL)
OUTPUT = re.compile(r"<!-- output of: (?P<command>.*?) -->\n```text\n(?P<text>.*?)```", re.DOTALL)
MAKE_ONLY = {"make demo", "make test"}  # `make test` runs this test; CI runs both


def commands(how: str) -> list[str]:
    """The commands of the README's blocks of one kind."""
    blocks = [match for match in BLOCK.finditer(README) if (match["how"] or "").removeprefix(": ") == how]
    return [line.removeprefix("$ ") for block in blocks for line in block["body"].splitlines()]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    launchers = {"commbench": ["-m", "commbench"], "torchrun": ["-m", "torch.distributed.run"]}
    program = [sys.executable, *launchers[words[0]], *words[1:]]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_validation_figures_are_those_of_the_records_that_are_kept() -> None:
    (summary,) = (r for r in read_records(ROOT / "reports/loopback/validation.jsonl") if isinstance(r, Summary))
    text = " ".join(README.split())
    assert f"{summary.points} test points" in text
    for figure in (
        f"median |error| {summary.median_abs_error * 100:.1f} %, 95th percentile {summary.p95_abs_error * 100:.1f} %",
        f"the median is {summary.groups['ranks']['4']['median_abs_error'] * 100:.1f} %",
        f"on 3 ranks it is {summary.groups['ranks']['3']['median_abs_error'] * 100:.1f} %",
    ):
        assert figure in text
    assert not summary.ok


def test_the_error_of_the_library_is_that_of_its_page() -> None:
    page = (ROOT / "docs/nccl-accuracy.md").read_text(encoding="utf-8")
    row = re.search(r"^\| left out \|(?:[^|]*\|){3} ([\d.]+) / ", page, re.MULTILINE)
    assert row is not None
    assert f"from 1 MiB up is {row[1]} % in the median" in " ".join(README.split())


def test_the_emulated_figures_are_those_of_the_records_that_are_kept() -> None:
    summaries = [r for r in read_records(ROOT / "reports/emulated/validation.jsonl") if isinstance(r, Summary)]
    alone, shared, packets, one_queue = summaries
    first = f"{alone.points + shared.points} test points, median error {alone.median_abs_error * 100:.1f} %"
    text = " ".join(README.split())
    assert f"{first} ({shared.median_abs_error * 100:.1f} % where links are shared)" in text
    assert f"95th percentile {alone.p95_abs_error * 100:.1f} % ({shared.p95_abs_error * 100:.1f} %)" in text
    page = (ROOT / "docs/emulated-validation.md").read_text(encoding="utf-8")
    for label, one in (("no link shared", alone), ("links shared", shared)):
        figures = f"{one.median_abs_error * 100:.1f} % | {one.p95_abs_error * 100:.1f} %"
        assert f"| {label} ({one.points}) | {figures} |" in page
        assert one.ok
    by_packets = f"{packets.median_abs_error * 100:.1f} % and {packets.p95_abs_error * 100:.1f} %"
    assert f"by packets (`--network packet:tcp`) {by_packets} for all of them" in text
    for label, one in (("both by packets", packets), ("one queue at every port, by packets", one_queue)):
        figures = f"{one.median_abs_error * 100:.1f} % | {one.p95_abs_error * 100:.1f} %"
        assert f"| {label} ({one.points}) | {figures} |" in page


def test_the_tensor_parallel_figures_are_those_of_the_records_that_are_kept() -> None:
    errors = [
        abs(record.error)
        for record in read_records(ROOT / "reports/tensor-parallel/five-runs.jsonl")
        if isinstance(record, TensorParallelCompared)
    ]
    figures = f"{len(errors)} figures: |error| {median(errors) * 100:.1f} % in the median, {max(errors) * 100:.1f} % at"
    assert figures in " ".join(README.split())


def test_the_pipeline_figures_are_those_of_the_records_that_are_kept() -> None:
    pairs = [r for r in read_records(ROOT / "reports/pipeline/runs.jsonl") if isinstance(r, PipelineCompared)]
    bubbles = max(abs(pair.points) for pair in pairs if not pair.fabric)
    errors = [abs(pair.error) for pair in pairs if pair.fabric]
    assert f"measured and simulated bubble differ by {bubbles:.1f} points at most" in " ".join(README.split())
    assert f"{len(errors)} steps, |error| {median(errors) * 100:.1f} % in the median" in " ".join(README.split())
    assert f"and {max(errors) * 100:.1f} % at most" in " ".join(README.split())


def test_the_figures_of_the_benchmarks_are_those_of_the_records_that_are_kept() -> None:
    found = [json.loads(line) for line in (ROOT / "reports/bench/bench.jsonl").read_text("utf-8").splitlines()]
    thousand, many = _step(found, 1024), _step(found, 16384)
    text = " ".join(README.split())
    assert f"1,024 GPUs take {min(thousand['walls_s']):.1f} s and 16,384 take {min(many['walls_s']):.1f} s" in text
    page = " ".join((ROOT / "docs/training.md").read_text(encoding="utf-8").split())
    assert (
        f"1,024 GPUs and 96 microbatches {min(thousand['walls_s']):.1f} s and {thousand['peak_bytes'] / 2**20:.0f} MiB"
        in page
    )
    assert f"16,384 GPUs {min(many['walls_s']):.1f} s and {many['peak_bytes'] / 2**20:.0f} MiB" in page
    peak = max(o["ours"]["peak_bytes"] for o in found if o.get("ours") and o["case"] == "in order")
    assert f"the largest ring of `make bench` takes {peak / 2**20:.0f} MiB" in text


def _step(found: list[dict[str, Any]], ranks: int) -> dict[str, Any]:
    (step,) = (o for o in found if o.get("kind") == "training-step" and o["ranks"] == ranks)
    return step


def test_no_command_of_the_readme_is_left_out() -> None:
    shown = set(re.findall(r"^\$ (.*?)(?:\s+#.*)?$", README, re.MULTILINE))
    assert shown == {*commands(""), *commands("live"), *commands("slow"), *MAKE_ONLY}


@pytest.mark.parametrize("command", commands(""))
def test_command_runs(command: str, tmp_path: Path) -> None:
    for folder in ("docs", "reports", "sims"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or list(tmp_path.iterdir())


@pytest.mark.live
@pytest.mark.parametrize("command", commands("live"))
def test_live_command_runs(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*.jsonl"))


@pytest.mark.parametrize("match", list(OUTPUT.finditer(README)), ids=lambda match: match["command"])
def test_output_is_what_the_command_prints(match: re.Match[str]) -> None:
    done = run(match["command"], ROOT)
    printed = done.stderr + done.stdout
    wall = re.compile(r"\d+\.\d{3}$", re.MULTILINE)  # the last column is real seconds, different every time
    assert wall.sub("W", printed) == wall.sub("W", match["text"])


def test_the_commands_of_the_page_on_topology_files_run_one_after_the_other(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "topology-files.md").read_text(encoding="utf-8")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    script = "\n".join(line.removeprefix("$ ") for block in BLOCK.finditer(page) for line in block["body"].splitlines())
    program = f'commbench() {{ "{sys.executable}" -m commbench "$@"; }}\nset -e\n{script}'
    done = subprocess.run(["sh", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))["properties"]


def test_the_python_example_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    """A ring of 32 ranks: 2 (n - 1) / n of the buffer over the eight 50 GB/s NICs of a host, and latencies."""
    (source,) = re.findall(r"<!-- tested python -->\n```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, *table = done.stdout.splitlines()
    assert 2 * 31 / 32 * 2**26 / 400e9 * 1e6 < float(first.split()[0]) < 1000
    assert any(line.startswith("transfer") for line in table)
