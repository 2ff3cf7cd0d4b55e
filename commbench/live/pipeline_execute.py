# SPDX-License-Identifier: Apache-2.0
"""The live executor of any pipeline schedule: passes on real stages, activations and gradients over torch.distributed.

What is sent follows from the order of the passes (``workload.pipeline.schedule``). All messages from one rank to
another go in the order in which the sender makes them; the receiver has a buffer for each and posts all receives
before the step begins, so a send starts when its data is there, whatever the receiver does, and no tags are needed.
NCCL runs what two ranks exchange one after the other, in both directions alike: there every direction has a group.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist

from commbench.live.progress import Progress
from commbench.live.session import Session
from commbench.live.stage import Shape, Stage, inputs, targets
from commbench.live.timing import Clock
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, Result, Step, gives, needs

__all__ = ["Channels", "Marks", "Recorder", "ScheduleRunner", "StepRunner", "directed_pairs", "open_channels"]

Channels = Mapping[tuple[int, int], dist.ProcessGroup]
"""The group for messages from one rank to another."""

Marks = list[tuple[Action, Any, Any]]
"""(action, begin, end) with marks of the device's clock."""

T = TypeVar("T")


class StepRunner(Protocol):
    """Runs one step of a pipeline on this rank: commbench's executor or torch's."""

    def prepare(self) -> None:
        """Gradients to zero and whatever else need not be timed."""

    def run(self) -> None:
        """One step."""

    def gradients(self, stage: int) -> list[torch.Tensor]:
        """Gradients of the weights of a stage that this rank holds."""


class Recorder:
    """Marks begin and end of every pass, and makes it last as long as it must.

    Args:
        clock: of the device.
        progress: told of every pass before it waits and when it runs.
        lasts_s: seconds of a pass, 0 for as long as its products take.
        sleep_over_s: what a sleep lasts too long.
    """

    def __init__(
        self, clock: Clock, progress: Progress, lasts_s: Callable[[Action], float], sleep_over_s: float
    ) -> None:
        self.marks: Marks = []
        self._clock, self._progress = clock, progress
        self._lasts_s, self._over_s = lasts_s, sleep_over_s

    def waits(self, action: Action) -> None:
        """The rank waits for what the pass needs."""
        self._progress.reach(f"waits to run stage {action}")

    def run(self, action: Action, work: Callable[[], T]) -> T:
        """Do the work of a pass."""
        self._progress.reach(f"stage {action}")
        began = time.perf_counter()
        begin = self._clock.mark()
        result = work()
        left = self._lasts_s(action) - self._over_s - (time.perf_counter() - began)
        if left > 0:
            time.sleep(left)
        self.marks.append((action, begin, self._clock.mark()))
        return result


def _next_stage(action: Action) -> int:
    """The stage that waits for an action's result."""
    return action.stage + (1 if action.kind is Pass.FORWARD else -1)


def _messages(schedule: PipelineSchedule, rank: int) -> list[tuple[int, Result]]:
    """(receiver, result) of every message that a rank sends, in order."""
    found = []
    for step in schedule.orders[rank]:
        for action in step.parts:
            result, to_stage = gives(action), _next_stage(action)
            if result is not None and 0 <= to_stage < schedule.num_stages:
                peer = schedule.rank_of_stage[to_stage]
                if peer != rank:
                    found.append((peer, result))
    return found


def directed_pairs(schedule: PipelineSchedule) -> list[tuple[int, int]]:
    """(sender, receiver) of all ranks that talk, sorted."""
    return sorted({(rank, peer) for rank in range(schedule.num_ranks) for peer, _ in _messages(schedule, rank)})


def open_channels(schedule: PipelineSchedule, session: Session) -> Channels:
    """The groups of a schedule's messages; every rank calls this."""
    pairs = directed_pairs(schedule)
    if session.facts.backend != "nccl":
        return dict.fromkeys(pairs, session.data)
    return {pair: dist.new_group(list(pair), backend="nccl") for pair in pairs}


class ScheduleRunner:
    """One rank's part of a pipeline schedule.

    Args:
        schedule: the orders of all ranks.
        shape: of activation and weights.
        session: rank, device.
        channels: from :func:`open_channels`.
        recorder: told of every pass.
    """

    def __init__(
        self, schedule: PipelineSchedule, shape: Shape, session: Session, channels: Channels, recorder: Recorder
    ) -> None:
        self._schedule, self._rank, self._device = schedule, session.rank, session.device
        self._channels, self._recorder = channels, recorder
        self._stages = {s: Stage(shape, s, session.device) for s in schedule.stages_of(session.rank)}
        self._root = self._made(shape, inputs, 0)
        self._loss = self._made(shape, targets, schedule.num_stages - 1)
        self._buffers = {
            result: (sender, torch.empty(shape.tokens, shape.hidden, device=session.device))
            for sender in range(schedule.num_ranks)
            for receiver, result in _messages(schedule, sender)
            if receiver == session.rank
        }
        self._arriving: dict[Result, dist.Work] = {}
        self._here: dict[Result, torch.Tensor] = {}
        self._leaving: list[dist.Work] = []

    def _made(self, shape: Shape, make: Callable[[Shape, int], torch.Tensor], stage: int) -> list[torch.Tensor]:
        """What a stage of this rank reads from outside the pipeline, per microbatch."""
        if stage not in self._stages:
            return []
        return [make(shape, microbatch).to(self._device) for microbatch in range(self._schedule.num_microbatches)]

    def gradients(self, stage: int) -> list[torch.Tensor]:
        """Gradients of a stage's weights."""
        return self._stages[stage].gradients

    def prepare(self) -> None:
        """Gradients to zero; post all receives, per sender in its order."""
        for stage in self._stages.values():
            stage.reset()
        for result, (sender, buffer) in self._buffers.items():
            work = dist.irecv(buffer, sender, group=self._channels[sender, self._rank])
            assert work is not None  # this rank is in the group
            self._arriving[result] = work

    def run(self) -> None:
        """One step."""
        for step in self._schedule.orders[self._rank]:
            self._await(step)
            made = [(action, self._recorder.run(action, lambda action=action: self._compute(action)))  # type: ignore[misc]
                    for action in step.parts]  # fmt: skip
            for action, tensor in made:
                self._hand_on(action, tensor)
        for work in self._leaving:
            work.wait()
        self._leaving.clear()
        self._here.clear()

    def _await(self, step: Step) -> None:
        self._recorder.waits(step.parts[-1])
        for action in step.parts:
            for result in needs(action, self._schedule.num_stages):
                if result in self._arriving:
                    self._arriving.pop(result).wait()
                    self._here[result] = self._buffers[result][1]

    def _compute(self, action: Action) -> torch.Tensor | None:
        number, microbatch = action.stage, action.microbatch
        stage = self._stages[number]
        if action.kind is Pass.FORWARD:
            x = self._root[microbatch] if number == 0 else self._here.pop((Pass.FORWARD, number - 1, microbatch))
            return stage.forward(microbatch, x)
        if action.kind is Pass.WEIGHT:
            stage.backward_weight(microbatch)
            return None
        last = number == self._schedule.num_stages - 1
        gradient = self._loss[microbatch] if last else self._here.pop((Pass.INPUT, number + 1, microbatch))
        gradient = stage.backward_input(microbatch, gradient)
        if action.kind is Pass.BACKWARD:
            stage.backward_weight(microbatch)
        return gradient

    def _hand_on(self, action: Action, tensor: torch.Tensor | None) -> None:
        """Bring an action's result to the stage that waits for it."""
        result, to_stage = gives(action), _next_stage(action)
        if result is None or tensor is None or not 0 <= to_stage < self._schedule.num_stages:
            return
        peer = self._schedule.rank_of_stage[to_stage]
        if peer == self._rank:
            self._here[result] = tensor
            return
        work = dist.isend(tensor, peer, group=self._channels[self._rank, peer])
        assert work is not None  # this rank is in the group
        self._leaving.append(work)
