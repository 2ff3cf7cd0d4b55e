# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.training_steps``: what it measures and derives. No speed is judged."""

import json
from dataclasses import replace

from benchmarks.page import sections
from benchmarks.tables import text
from benchmarks.training_steps import QUICK_CASES, TrainingStep, step_table, training_steps
from benchmarks.verdicts import fell_short

STEP = TrainingStep(
    arguments="--model m", ranks=1024, operations=7, walls_s=(3.0, 2.0), peak_bytes=2**20, time_s=0.5,
    unfolded_walls_s=(9.0, 8.0), unfolded_peak_bytes=2**21, unfolded_time_s=0.5,
)  # fmt: skip


def test_both_ways_of_the_small_step_give_the_same_time() -> None:
    told: list[str] = []
    (step,) = training_steps(QUICK_CASES, 1, told.append)
    assert told == [f"sim train {QUICK_CASES[0].arguments}"]
    assert (step.ranks, step.operations) == (32, 3333)
    assert step.same
    assert step.time_s == step.unfolded_time_s == 0.125802241102
    assert len(step.walls_s) == len(step.unfolded_walls_s) == 1


def test_a_time_that_folding_changed_falls_short() -> None:
    other = replace(STEP, unfolded_time_s=0.6)
    assert fell_short([STEP]) == []
    assert fell_short([STEP, other]) == ["sim train --model m: folded 0.5 s, every rank alone 0.6 s"]


def test_the_page_has_a_section_of_them() -> None:
    (section,) = sections([STEP])
    assert (section.anchor, [table.name for table in section.tables]) == ("training", ["training"])


def test_the_ratio_is_of_the_best_walls_and_a_difference_shows() -> None:
    assert (STEP.ratio, STEP.same) == (4.0, True)
    other = replace(STEP, unfolded_time_s=0.6)
    alone = replace(STEP, unfolded_walls_s=(), unfolded_peak_bytes=None, unfolded_time_s=None)
    assert [json.loads(step.to_json())["same"] for step in (STEP, other, alone)] == [True, False, True]
    assert json.loads(alone.to_json())["ratio"] is None
    rows = text(step_table([STEP, other, alone])).splitlines()[-3:]
    assert [row.split()[-1] for row in rows] == ["yes", "NO", "run"]
    assert rows[0].split() == [
        "model",
        "m",
        "1,024",
        "7",
        "2.000",
        "s",
        "1",
        "MiB",
        "8.000",
        "s",
        "2",
        "MiB",
        "4.00",
        "×",
        "yes",
    ]
