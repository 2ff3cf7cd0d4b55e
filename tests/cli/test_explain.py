# SPDX-License-Identifier: Apache-2.0
"""The verb: why B takes longer than A, in terms that add up to the difference to the picosecond."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.errors import InputError
from commbench.experiments.explain import Explanation, explain
from commbench.report.explained import differing, render_explained, sentence
from commbench.results.journal import Journal
from commbench.results.pipeline_records import PipelineCompared
from commbench.results.records import Record
from commbench.topology.load import load_fabric
from commbench.units import PS_PER_S
from tests.cases import simulate_collective
from tests.report import samples
from tests.report.test_live_steps import TRAFFIC
from tests.training.plans import plan, simulate

MIB = 2**20
IDLE = {"schedule": 0.01, "imbalance": 0.002, "transfer": -0.001, "host": 0.003}
PIPELINE = PipelineCompared(
    run="r", schedule="1f1b", executor="schedule", compute="delay", ranks=2, stages=2, microbatches=4, measured_s=0.13,
    spread_s=0.001, simulated_s=0.129, measured_bubble=0.1, simulated_bubble=0.1, clock_free_bubble=None, idle_s=IDLE,
    max_points=3,
)  # fmt: skip


def ring(topology: str = "fat-tree-16", algorithm: str = "ring", size: int = 64 * MIB) -> Record:
    return simulate_collective(load_fabric(topology), "all-reduce", algorithm, size, explain=True).record


def write(folder: Path, name: str, *records: Record) -> Path:
    path = folder / f"{name}.jsonl"
    for record in records:
        Journal(path).append(record)
    return path


def explained(folder: Path, a: Record, b: Record) -> Explanation:
    (found,) = explain(write(folder, "a", a), write(folder, "b", b), print)
    return found


@pytest.mark.parametrize(
    ("a", "b", "times"),
    [
        (lambda: ring(), lambda: ring(algorithm="double-binary-tree"), "time_s"),
        (lambda: ring(), lambda: ring("leaf-spine-16-4to1"), "time_s"),
        (lambda: simulate(plan(tp=2, pp=2, dp=4)).record, lambda: simulate(plan(tp=4, dp=4)).record, "iteration_s"),
        (lambda: PIPELINE, lambda: replace(PIPELINE, measured_s=0.15, idle_s=IDLE | {"host": 0.02}), "measured_s"),
        (lambda: TRAFFIC, lambda: replace(TRAFFIC, samples_s=((0.3, 0.5),) * 4), "time_s"),
    ],
    ids=["algorithms", "fabrics", "steps", "pipelines", "blocks"],
)
def test_the_terms_add_up_to_both_times_and_to_the_difference(a, b, times: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, second = a(), b()
    found = explained(tmp_path, first, second)
    ps = [round(getattr(record, times) * PS_PER_S) for record in (first, second)]
    assert [sum(t.a_ps for t in found.terms), sum(t.b_ps for t in found.terms)] == ps
    assert sum(t.difference_ps for t in found.terms) == ps[1] - ps[0] == found.difference_ps != 0


def test_a_tree_on_a_fat_tree_pays_for_the_wire(tmp_path: Path) -> None:
    found = explained(tmp_path, ring(), ring(algorithm="double-binary-tree"))
    told = sentence(found, "ring", "tree").replace("\N{NO-BREAK SPACE}", " ")
    assert told.startswith("all-reduce of 64 MiB: ring takes 10.19 ms, tree ")
    assert ("algorithm", "ring", "double-binary-tree") in differing(found)
    assert {"run", "topology"}.isdisjoint(name for name, *_ in differing(found))


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["explain", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_table_fits_80_columns_and_json_says_the_same(tmp_path: Path) -> None:
    files = [write(tmp_path, "one", ring()), write(tmp_path, "two", ring("leaf-spine-16-4to1"))]
    table = run(*map(str, files))
    assert max(map(len, table.splitlines())) <= 80
    assert "topology: fat-tree-16 in A, leaf-spine-16-4to1 in B" in " ".join(table.split())
    told = json.loads(run(*map(str, files), "--json"))
    assert (told["kind"], told["schema"], told["what"]) == ("explained", 1, "all-reduce of 64 MiB")
    differences = [term["difference_s"] for term in told["terms"].values()]
    assert sum(differences) == pytest.approx(told["difference_s"], abs=1e-15)
    shown = {row[0]: float(row[-2]) for row in (line.split() for line in table.splitlines() if line[0] == " ")}
    assert shown["wire"] == pytest.approx(1e6 * told["terms"]["wire"]["difference_s"], abs=0.01)
    assert shown["time"] == pytest.approx(1e6 * told["difference_s"], abs=0.01)


def test_the_page_has_every_term_and_both_ends(tmp_path: Path) -> None:
    files = [write(tmp_path, "one", ring()), write(tmp_path, "<b>two", ring("leaf-spine-16-4to1"))]
    found = explain(*files, print)
    page = render_explained(found, names=("one", "<b>two"), command="commbench explain")
    assert "<b>two" not in page
    for term in found[0].terms:
        if term.difference_ps:
            assert f'data-ps="{term.difference_ps}"' in page
    assert f'data-ps="{found[0].a_ps}"' in page
    assert f'data-ps="{found[0].b_ps}"' in page


def test_experiment_files_are_simulated(tmp_path: Path) -> None:
    files = []
    for name in ("fat-tree-16", "leaf-spine-16-4to1"):
        files.append(tmp_path / f"{name}.yaml")
        workload = "{collective: all-to-all, algorithm: direct}"
        files[-1].write_text(f"cluster: {name}\nlibrary: ideal\nworkload: {workload}\nsizes: [1M, 16M]\n", "utf-8")
    found = explain(*files, print)
    assert [one.what for one in found] == ["all-to-all of 1 MiB", "all-to-all of 16 MiB"]
    assert all(max(one.terms, key=lambda t: t.difference_ps).name == "contention" for one in found)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([samples.measured()], [ring()], r"a\.jsonl: no result in it has terms; those of `commbench sim"),
        ([ring()], [ring(size=MIB)], "nothing to compare: .*a.jsonl has all-reduce of 64 MiB; .*all-reduce of 1 MiB"),
        ([ring()], [ring(), ring(algorithm="double-binary-tree")], "of 64 MiB: .* has 1 such results and .* 2"),
    ],
    ids=["no terms", "nothing alike", "several"],
)
def test_what_cannot_be_explained_is_refused(a: list[Record], b: list[Record], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        explain(write(tmp_path, "a", *a), write(tmp_path, "b", *b), print)
