# SPDX-License-Identifier: Apache-2.0
"""The record of a simulated step: sums, what stays off standard output, and the way through a file."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.results.journal import Journal, read_records
from commbench.results.steps import SimulatedStep
from commbench.workload.formats import FORMATS
from commbench.workload.memory import MemoryUse
from commbench.workload.step_plan import num_microbatches
from tests.cases import star
from tests.training.plans import plan, simulate


@pytest.fixture(scope="module")
def record() -> SimulatedStep:
    return simulate(plan(tp=2, pp=2, dp=4, recompute="full"), slowdown=1.1).record


def test_times_and_critical_path_add_up_to_the_step(record: SimulatedStep) -> None:
    assert sum(record.time_s.values()) == pytest.approx(record.iteration_s, rel=1e-9)
    assert sum(record.critical_s.values()) == pytest.approx(record.iteration_s, rel=1e-9)
    assert list(record.time_s) == [
        "forward",
        "recompute",
        "backward",
        "optimizer",
        "tensor",
        "pipeline",
        "data",
        "idle",
    ]
    assert list(record.exposed_s) == ["tensor", "pipeline", "data"]
    for kind, time_s in record.exposed_s.items():  # where two are exposed at once, time_s counts the first alone
        assert record.time_s[kind] <= time_s + 1e-15


def test_memory_is_that_of_the_fullest_position(record: SimulatedStep) -> None:
    assert list(record.memory_bytes) == [f.name for f in fields(MemoryUse)]
    totals = [sum(use.values()) for use in record.memory_by_position]
    assert len(totals) == 2
    assert sum(record.memory_bytes.values()) == max(totals)
    assert record.fits
    assert not replace(record, capacity_bytes=max(totals) - 1).fits


def test_a_step_that_just_fits_is_told_so() -> None:
    step = plan()
    need = max(use.total for use in step.memory())
    for memory, told in ((need - 1, False), (need, True), (need * 100 // 96, True), (need * 100 // 94, False)):
        found = simulate(replace(step, device=replace(step.device, memory_bytes=memory))).record
        assert any("memory is nearly full" in note for note in found.notes) is told


def test_every_pass_has_a_span_and_they_are_kept_off_standard_output(record: SimulatedStep) -> None:
    assert len(record.spans) == 2 * 2 * record.microbatches
    assert record.positions == (0, 1)
    shown = json.loads(record.without_spans().to_json())
    assert shown["kind"] == "simulated-step"
    assert shown["spans"] == shown["positions"] == []
    assert shown["mfu"] == record.mfu
    keys = {"iteration_s", "bubble_of_ideal", "bubble_of_total", "exposed_s", "memory_bytes", "fits", "hfu"}
    assert keys <= shown.keys()


def test_a_record_survives_a_file(record: SimulatedStep, tmp_path: Path) -> None:
    Journal(tmp_path / "steps.jsonl").append(record)
    assert read_records(tmp_path / "steps.jsonl") == [record]


def test_links_are_told_by_what_they_join(record: SimulatedStep) -> None:
    joins = [one["joins"] for one in record.busiest_links]
    assert len(set(joins)) == len(joins)
    assert joins[0] in ("gpu -> nvswitch", "nvswitch -> gpu")
    assert [one["utilisation"] for one in record.busiest_links] == sorted(
        (one["utilisation"] for one in record.busiest_links), reverse=True
    )
    assert all(0 < one["mean_utilisation"] <= one["utilisation"] <= 1 for one in record.busiest_links)


def test_links_of_a_tree_are_told_likewise() -> None:
    step = plan(dp=16, batch=16)
    graph, tree = (simulate(step, name).record.busiest_links for name in ("fat-tree-16", "fat-tree-16"))
    assert {one["joins"] for one in tree} >= {"cpu -> nic", "nic -> leaf", "leaf -> nic", "nic -> cpu"}
    assert graph == tree


def test_a_step_without_links_has_none() -> None:
    record = simulate(plan(), star(1)).record
    assert record.busiest_links == ()
    assert record.exposed_s == {}
    assert record.time_s["idle"] == pytest.approx(0, abs=1e-15)
    assert record.bubble_of_ideal == pytest.approx(0)


@pytest.mark.parametrize(
    ("batch", "message"),
    [((10, 4, 2), "--global-batch 10 is not a multiple of --microbatch 4 x --dp 2 = 8"), ((0, 1, 1), "at least 1")],
)
def test_batches_that_cannot_be_split_are_refused(batch: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        num_microbatches(*batch)


def test_plans_that_do_not_fit_are_refused() -> None:
    good = plan(tp=2, pp=2)
    with pytest.raises(InputError, match="the execution's tp, cp and ep are not those of the degrees"):
        replace(good, degrees=replace(good.degrees, tp=4))
    with pytest.raises(InputError, match="2 stages do not fit pp 2 and layers of 1 stages"):
        replace(good, layers=(8,))
    with pytest.raises(InputError, match="device round has no peak for dtype 'fp8'"):
        replace(good, run=replace(good.run, formats=FORMATS["fp8"]))
    with pytest.raises(InputError, match="--scatter-gather: with --sequence-parallel"):
        plan(tp=2, sequence_parallel=True, scatter_gather=True)
