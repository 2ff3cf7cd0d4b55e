# SPDX-License-Identifier: Apache-2.0
"""The live executor of any pipeline schedule: passes on real stages, activations and gradients over torch.distributed.

What is sent follows from the order of the passes (``workload.pipeline.schedule``). All messages from one rank to
another go in the order in which the sender makes them; the receiver has a buffer for each and posts all receives
before its first pass, so a send starts when its data is there, whatever the receiver does, and no tags are needed.
Where work is enqueued (NCCL) they are posted after the device has settled, for it would wait for them too; elsewhere
before the ranks meet.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist

from commbench.live.backend import Pair, Posting
from commbench.live.progress import Progress
from commbench.live.session import Session
from commbench.live.stage import LiveStage, StageShape, inputs, targets
from commbench.live.timing import Clock
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, Result, Step, gives, needs

__all__ = ["Channels", "Marks", "Recorder", "ScheduleRunner", "StepRunner", "directed_pairs", "wait"]

Marks = list[tuple[Action, Any, Any]]
"""(action, begin, end) with marks of the device's clock."""

Works = list[Any]
"""Of torch.distributed, of one message."""

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


def directed_pairs(schedule: PipelineSchedule) -> list[Pair]:
    """Of all ranks that talk, sorted."""
    return sorted({(rank, peer) for rank in range(schedule.num_ranks) for peer, _ in _messages(schedule, rank)})


class Channels:
    """What carries the messages of a schedule; every rank makes it.

    Args:
        schedule: the orders of all ranks. session: this rank's.
    """

    def __init__(self, schedule: PipelineSchedule, session: Session) -> None:
        self._rank, self._backend = session.rank, session.backend
        pairs = directed_pairs(schedule)
        self._groups = session.backend.open_pairs(pairs, session.data, session.device, session.timeout_s)

    def send(self, tensor: torch.Tensor, receiver: int) -> Works:
        """Post a message to another rank."""
        return self._post((self._rank, receiver), receiver, tensor, sends=True)

    def receive(self, tensor: torch.Tensor, sender: int) -> Works:
        """Post where the next message from another rank goes."""
        return self._post((sender, self._rank), sender, tensor, sends=False)

    def _post(self, pair: Pair, peer: int, tensor: torch.Tensor, *, sends: bool) -> Works:
        group = self._groups[pair]
        return self._backend.bind([Posting(sends, tensor, dist.get_group_rank(group, peer))], group)()


def wait(works: Works) -> None:
    """Wait for all of them, as the backend waits."""
    for work in works:
        work.wait()


class ScheduleRunner:
    """One rank's part of a pipeline schedule.

    Args:
        schedule: the orders of all ranks.
        shape: of activation and weights.
        session: rank, device.
        channels: to the other ranks.
        recorder: told of every pass.
    """

    def __init__(
        self, schedule: PipelineSchedule, shape: StageShape, session: Session, channels: Channels, recorder: Recorder
    ) -> None:
        self._schedule, self._device, self._enqueues = schedule, session.device, session.backend.streams
        self._rank, self._channels, self._recorder = session.rank, channels, recorder
        self._stages = {s: LiveStage(shape, s, session.device) for s in schedule.stages_of(session.rank)}
        self._root = self._made(shape, inputs, 0)
        self._loss = self._made(shape, targets, schedule.num_stages - 1)
        self._buffers = {
            result: (sender, torch.empty(shape.tokens, shape.hidden, device=session.device))
            for sender in range(schedule.num_ranks)
            for receiver, result in _messages(schedule, sender)
            if receiver == session.rank
        }
        self._arriving: dict[Result, Works] = {}
        self._here: dict[Result, torch.Tensor] = {}
        self._leaving: list[Works] = []

    def _made(
        self, shape: StageShape, make: Callable[[StageShape, int], torch.Tensor], stage: int
    ) -> list[torch.Tensor]:
        """What a stage of this rank reads from outside the pipeline, per microbatch."""
        if stage not in self._stages:
            return []
        return [make(shape, microbatch).to(self._device) for microbatch in range(self._schedule.num_microbatches)]

    def gradients(self, stage: int) -> list[torch.Tensor]:
        """Gradients of a stage's weights."""
        return self._stages[stage].gradients

    def prepare(self) -> None:
        """Gradients to zero; post the receives where nobody settles before the step."""
        for stage in self._stages.values():
            stage.reset()
        if not self._enqueues:
            self._post_receives()

    def _post_receives(self) -> None:
        """All of them, per sender in its order."""
        for result, (sender, buffer) in self._buffers.items():
            self._arriving[result] = self._channels.receive(buffer, sender)

    def run(self) -> None:
        """One step."""
        if self._enqueues:
            self._post_receives()
        for step in self._schedule.orders[self._rank]:
            self._await(step)
            made = [(action, self._recorder.run(action, lambda action=action: self._compute(action)))  # type: ignore[misc]
                    for action in step.parts]  # fmt: skip
            for action, tensor in made:
                self._hand_on(action, tensor)
        for works in self._leaving:
            wait(works)
        self._leaving.clear()
        self._here.clear()

    def _await(self, step: Step) -> None:
        self._recorder.waits(step.parts[-1])
        for action in step.parts:
            for result in needs(action, self._schedule.num_stages):
                if result in self._arriving:
                    wait(self._arriving.pop(result))
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
        self._leaving.append(self._channels.send(tensor, peer))
