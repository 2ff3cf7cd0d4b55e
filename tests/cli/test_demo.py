# SPDX-License-Identifier: Apache-2.0
"""The demo begins with what can be judged: an emulated fabric, or kept records of some where none can be made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commbench.cli import demo
from commbench.emulate import privilege
from commbench.errors import RunError
from commbench.report.headlines import verdicts
from commbench.results.journal import read_records
from commbench.results.judged import Health
from commbench.results.records import Compared, Measured, Record, Summary
from commbench.results.reported import Reported
from commbench.results.steps import SimulatedStep
from commbench.validate import lab_runs
from commbench.validate.campaign import Validation
from tests.validate.remembered import remembering


@pytest.fixture(autouse=True, scope="module")
def _remembering() -> Iterator[None]:
    with remembering():
        yield


def judged(records: list[Record]) -> dict[bool, int]:
    """Summaries by their verdict, and at least one point for each."""
    summaries = [r for r in records if isinstance(r, Summary)]
    assert sum(isinstance(r, Compared) for r in records) >= len(summaries)
    return {ok: sum(s.ok is ok for s in summaries) for ok in (True, False)}


def refuse(*arguments: object, **given: object) -> None:
    raise RunError("the lab cannot be made")


@pytest.mark.parametrize("how", ["not permitted", "the kernel refuses"])
def test_without_a_fabric_the_kept_records_are_judged_again(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privilege, "missing", lambda: "not permitted" if how == "not permitted" else "")
    monkeypatch.setattr(lab_runs, "measure_in_labs", refuse)
    found = demo._emulated(tmp_path / "e.jsonl", json=False)
    assert judged(found) == {True: 2, False: 0}
    said = capsys.readouterr()
    assert "no fabric can be emulated here: " + ("not" if how == "not permitted" else "the lab") in said.err
    assert "judging again what was measured on emulated fabrics elsewhere: " in said.err
    assert said.out.count("): ok\n") == 2


def test_without_kept_records_nothing_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is installed without its reports."""
    monkeypatch.setattr(privilege, "missing", lambda: "not permitted")
    monkeypatch.setattr("commbench.experiments.demo.KEPT", tmp_path / "none.jsonl")
    assert demo._emulated(tmp_path / "e.jsonl", json=False) == []


@pytest.mark.measured
@pytest.mark.root
@pytest.mark.live
def test_with_root_a_star_is_measured_and_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("COMMBENCH_STATE", str(tmp_path))
    found = demo._emulated(tmp_path / "e.jsonl", json=True)
    (summary,) = [r for r in found if isinstance(r, Summary)]
    assert summary.points == 4
    assert summary.median_abs_error < 0.1  # the demo judges with 3 %; here it is that the points are of this star
    measured = [r for r in read_records(tmp_path / "e.jsonl") if isinstance(r, Measured)]
    rates = [r.environment["emulated"]["rate_mbit"] for r in measured]
    assert rates.count(max(rates)) == 7  # and those that kept the processors busy once more, at lower rates


@pytest.mark.parametrize("crowded", [True, False])
def test_more_ranks_than_cores_are_shown_and_not_judged(crowded: bool, capsys: pytest.CaptureFixture[str]) -> None:
    point = Compared(
        collective="all-reduce", algorithm="ring", backend="gloo", ranks=4, size_bytes=2**20, slices=1,
        measured_s=0.002, spread_s=0.001, simulated_s=0.001, set="test", region="knee", busbw_factor=1.5,
        topology="here-4",
    )  # fmt: skip
    summary = Summary(
        points=1, median_abs_error=0.5, p95_abs_error=0.5, max_median_abs_error=0.1, max_p95_abs_error=0.3, ok=False
    )
    found = Validation(machine=None, compared=(point,), summary=summary, num_native=0)  # type: ignore[arg-type]
    records = demo._own_verdict(found, crowded, json=False)
    said = capsys.readouterr()
    assert ("FELL SHORT" in said.out) is not crowded
    assert ("more ranks than cores: shown, not judged" in said.err) is crowded
    assert verdicts(records)[0].tone == ("plain" if crowded else "bad")


def test_a_real_cluster_stands_beside_the_model_of_its_library(capsys: pytest.CaptureFixture[str]) -> None:
    records = demo._cluster(json=False)
    assert sum(isinstance(record, Reported) for record in records) == 64
    (health,) = [record for record in records if isinstance(record, Health)]
    assert (health.verdict, health.points) == ("ok", 32)
    assert abs(health.plateau_ratio - 1) < 0.05
    assert "16 GiB" in capsys.readouterr().out


def test_without_its_figures_no_cluster_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commbench.experiments.demo.CLUSTER", tmp_path / "none.jsonl")
    assert demo._cluster(json=False) == []


def test_a_step_of_a_thousand_gpus_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    (step,) = demo._step(json=True)
    assert isinstance(step, SimulatedStep)
    assert (step.ranks, step.bubble_of_ideal) == (1024, pytest.approx(0.1014, abs=0.02))
    assert json.loads(capsys.readouterr().out)["kind"] == "simulated-step"
