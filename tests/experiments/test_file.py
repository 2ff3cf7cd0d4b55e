# SPDX-License-Identifier: Apache-2.0
"""Experiment files: every combination in the file's order, and what is wrong by its line."""

import json
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.cluster import make_cluster
from commbench.errors import InputError
from commbench.experiments.file import read_experiment
from commbench.experiments.simulated import CollectiveOptions
from commbench.experiments.step_given import StepOptions
from commbench.results.journal import read_records
from commbench.topology.load import load_fabric

ROOT = Path(__file__).parents[2]
COLLECTIVE = """\
cluster: {topology: star-8, ranks: [2, 4]}
library: ideal
workload: {collective: allreduce, algorithm: [ring, double-binary-tree]}
seed: 3
sizes: [1K, 2048]
"""
STEP = """\
cluster: dgx-h100
library: ideal
workload:
  model: gpt3-125m
  tp: [1, 2]
  dp: 4
  pp: 2
  layers: [6, 6]
  microbatch: 1
  global-batch: 8
  device: h100
  assume-efficiencies: true
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "x.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_lists_are_combined_in_the_order_of_the_file(tmp_path: Path) -> None:
    runs = read_experiment(written(tmp_path, COLLECTIVE))
    found = [(r.options.ranks, r.options.algorithm, r.size) for r in runs if isinstance(r.options, CollectiveOptions)]
    assert found == list(product((2, 4), ("ring", "double-binary-tree"), ("1K", "2048")))
    assert {(run.options.topology, run.options.seed) for run in runs} == {("star-8", 3)}


def test_a_training_step_is_a_workload_and_its_layers_are_no_sweep(tmp_path: Path) -> None:
    runs = read_experiment(written(tmp_path, STEP))
    options = [run.options for run in runs]
    assert all(isinstance(each, StepOptions) for each in options)
    assert [(each.tp, each.layers) for each in options if isinstance(each, StepOptions)] == [(1, "6,6"), (2, "6,6")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("library: ideal", "library: mpi"), "line 2: library 'mpi' is unknown; known: ideal, nccl, rccl"),
        (("library: ideal\n", ""), "library must be given"),
        (("seed: 3", "sed: 3"), "line 4: key 'sed' is unknown; did you mean seed?"),
        (("ranks: [2, 4]", "rank: 2"), "line 1: cluster.rank is no key of a cluster; known: topology, ranks"),
        (("ranks: [2, 4]", "ranks: [2, x]"), "line 1: ranks: 'x' must be a whole number"),
        (("[ring, double-binary-tree]", "[ring, 5]"), "line 3: algorithm: 5 must be text"),
        (("workload: {", "workload: {chanels: 2, "), "line 3: key 'chanels' is unknown; did you mean channels?"),
        (("workload: {", "workload: {seed: 2, "), "line 3: workload.seed stands on its own, not in a workload"),
        (("allreduce", "all-reduse"), "line 3: collective 'all-reduse' is unknown"),
        (("[1K, 2048]", "[1K, 1Q]"), "line 5: '1Q' is not a size"),
        (("sizes: [1K, 2048]\n", ""), "line 3: all-reduce needs sizes"),
        (("sizes: [1K, 2048]", f"sizes: {[1024] * 3000}"), "its lists make 12,000 runs; must be 1 to 10,000"),
        (("collective: allreduce, ", "model: x, "), "line 5: sizes has no meaning for a training step"),
        (("topology: star-8, ", ""), "topology must be given"),
        (("{collective: allreduce, algorithm: [ring, double-binary-tree]}", "ring"), "workload must be a mapping"),
        (("collective: allreduce", "collective: [5]"), "line 3: collective: 5 must be text"),
        (("[ring, double-binary-tree]", "[]"), "its lists make 0 runs"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in COLLECTIVE
    with pytest.raises(InputError) as caught:
        read_experiment(written(tmp_path, COLLECTIVE.replace(*change)))
    assert said in str(caught.value)
    assert str(tmp_path / "x.yaml") in str(caught.value)


def test_every_run_has_a_record_that_says_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("faults:\n  - {kind: slow-rank, at: 0 s, rank: 1, factor: 0.5}\n")
    file = written(tmp_path, COLLECTIVE + "scenario: [none, slow.yaml]\n")
    done = CliRunner().invoke(app, ["sim", str(file), "--json", "--out", str(tmp_path / "r.jsonl")])
    assert done.exit_code == 0, done.output
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(shown) == 16
    assert len({tuple(each[key] for key in ("ranks", "algorithm", "size_bytes", "scenario")) for each in shown}) == 16
    assert {each["scenario"] for each in shown} == {"", "slow"}, "a path is taken from the folder of the file"
    kept = read_records(tmp_path / "r.jsonl")
    assert len(kept) == 16
    assert len({record.run for record in kept}) == 1


def test_a_run_is_what_the_same_options_give(tmp_path: Path) -> None:
    def times(*words: str) -> list[float]:
        done = CliRunner().invoke(app, ["sim", *words, "--json"])
        assert done.exit_code == 0, done.output
        shown = [json.loads(line) for line in done.stdout.splitlines()]
        return [each["time_s" if each["kind"] == "simulated" else "iteration_s"] for each in shown]

    words = ["-t", "star-8", "-g", "4", "-a", "ring", "--seed", "3", "-b", "1K", "-e", "2K"]
    assert times(str(written(tmp_path, COLLECTIVE)))[4:6] == times("all-reduce", *words)
    step = "--model gpt3-125m -t dgx-h100 --dp 4 --pp 2 --layers 6,6 --microbatch 1 --global-batch 8 --device h100"
    found = times(str(written(tmp_path, STEP.replace("[1, 2]", "1"))))
    assert found == times("train", *step.split(), "--assume-efficiencies")


def test_what_cannot_run_names_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, COLLECTIVE.replace("star-8", "star-9000"))
    done = CliRunner().invoke(app, ["sim", str(file)])
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(f"{file}: topology 'star-9000': not found")


@pytest.mark.parametrize("file", sorted((ROOT / "sims" / "experiments").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_experiments_are_read(file: Path) -> None:
    assert len(read_experiment(file)) > 1


def test_a_name_too_long_for_a_file_is_no_file(tmp_path: Path) -> None:
    """The file system raises an error of its own for it, which no reader may pass on."""
    name = "x" * 300
    workload = f"{{collective: all-reduce, algorithm: {name}}}"
    path = written(tmp_path, f"cluster: star-8\nlibrary: ideal\nworkload: {workload}\nsizes: 1M\n")
    (run,) = read_experiment(path)
    assert isinstance(run.options, CollectiveOptions)
    assert run.options.algorithm == name
    star = load_fabric("star-8")
    with pytest.raises(InputError, match=r"placement 'xxx.* is unknown"):
        make_cluster(star, placement=name)


def test_a_library_with_a_model_is_one_of_those_that_are_swept(tmp_path: Path) -> None:
    text = "cluster: dgx-h100-x2\nlibrary: [ideal, nccl]\nworkload: {collective: all-reduce}\nsizes: 1M\n"
    found = [run.options for run in read_experiment(written(tmp_path, text))]
    assert [each.library for each in found if isinstance(each, CollectiveOptions)] == ["ideal", "nccl"]
    step = "{model: gpt3-125m, device: h100, tp: 8, microbatch: 1, global-batch: 8, assume-efficiencies: true}"
    text = f"cluster: dgx-h100-x2\nlibrary: nccl\nworkload: {step}\n"
    (run,) = read_experiment(written(tmp_path, text))
    assert run.options.library == "nccl"
