# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of live pipeline stages, in one process: right whatever the order, and every slip shows."""

from collections.abc import Iterable

import pytest

from commbench.workload.pipeline.check import lockstep
from commbench.workload.pipeline.registry import PIPELINES, build_pipeline
from commbench.workload.pipeline.schedule import Action, Pass

torch = pytest.importorskip("torch")

from commbench.live.stage import LiveStage, StageShape, count_wrong, inputs, targets  # noqa: E402  needs torch

SHAPE = StageShape(tokens=6, hidden=8, layers=2)
CPU = torch.device("cpu")


class Pipeline:
    """All stages in this process, and what they have made."""

    def __init__(self, num_stages: int) -> None:
        self.stages = [LiveStage(SHAPE, number, CPU) for number in range(num_stages)]
        self.there: dict[tuple[str, int, int], torch.Tensor] = {}

    def run(self, actions: Iterable[Action]) -> None:
        last = len(self.stages) - 1
        for action in actions:
            s, k, stage = action.stage, action.microbatch, self.stages[action.stage]
            if action.kind is Pass.FORWARD:
                self.there["F", s, k] = stage.forward(k, inputs(SHAPE, k) if s == 0 else self.there["F", s - 1, k])
            elif action.kind is Pass.WEIGHT:
                stage.backward_weight(k)
            else:
                gradient = targets(SHAPE, k) if s == last else self.there["I", s + 1, k]
                self.there["I", s, k] = stage.backward_input(k, gradient)
                if action.kind is Pass.BACKWARD:
                    stage.backward_weight(k)

    def wrong(self, microbatches: int) -> list[int]:
        return [
            count_wrong(stage.gradients, SHAPE, s, num_stages=len(self.stages), microbatches=microbatches)
            for s, stage in enumerate(self.stages)
        ]


@pytest.mark.parametrize("name", PIPELINES)
def test_gradients_are_exact_in_the_order_of_every_schedule(name: str) -> None:
    schedule = build_pipeline(name, 2, 4)
    pipeline = Pipeline(schedule.num_stages)
    pipeline.run(part for row in lockstep(schedule) for step in row if step is not None for part in step.parts)
    assert pipeline.wrong(4) == [0] * schedule.num_stages


def passes(num_stages: int, microbatches: int) -> list[Action]:
    down = [Action(s, Pass.FORWARD, k) for k in range(microbatches) for s in range(num_stages)]
    return down + [Action(s, Pass.BACKWARD, k) for k in range(microbatches) for s in reversed(range(num_stages))]


def test_nothing_is_wrong_without_a_slip() -> None:
    pipeline = Pipeline(3)
    pipeline.run(passes(3, 4))
    assert pipeline.wrong(4) == [0, 0, 0]


def test_a_microbatch_that_is_left_out_shows_on_every_stage() -> None:
    pipeline = Pipeline(3)
    pipeline.run(action for action in passes(3, 4) if action.microbatch != 2)
    assert all(pipeline.wrong(4))


def test_a_microbatch_that_runs_twice_shows_on_every_stage() -> None:
    pipeline = Pipeline(3)
    pipeline.run([*passes(3, 4), *(action for action in passes(3, 4) if action.microbatch == 1)])
    assert all(pipeline.wrong(4))


@pytest.mark.parametrize(("kind", "shows"), [("F", [False, True, True]), ("I", [True, False, False])])
def test_exchanged_messages_show_behind_the_slip(kind: str, shows: list[bool]) -> None:
    """LiveStage 0's outputs, or stage 1's gradients, of microbatches 0 and 1 arrive in each other's place."""
    pipeline, at = Pipeline(3), 0 if kind == "F" else 1
    actions = passes(3, 2)
    cut = 1 + actions.index(Action(at, Pass.FORWARD if kind == "F" else Pass.BACKWARD, 1))
    swap = {0: 1, 1: 0}
    if kind == "F":
        pipeline.run(Action(0, Pass.FORWARD, k) for k in range(2))
        rest = [action for action in actions if action not in {Action(0, Pass.FORWARD, k) for k in range(2)}]
    else:
        first = [a for a in actions[:cut] if not (a.stage == 0 and a.kind is Pass.BACKWARD)]
        pipeline.run(first)
        rest = [action for action in actions if action not in first]
    there = {k: pipeline.there[kind, at, k] for k in range(2)}
    for k in range(2):
        pipeline.there[kind, at, k] = there[swap[k]]
    pipeline.run(rest)
    assert [wrong > 0 for wrong in pipeline.wrong(2)] == shows


def test_a_single_wrong_value_shows() -> None:
    pipeline = Pipeline(2)
    pipeline.run(passes(2, 2))
    pipeline.stages[1].gradients[0][3, 5] += 1
    assert pipeline.wrong(2) == [0, 1]
