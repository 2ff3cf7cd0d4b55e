# SPDX-License-Identifier: Apache-2.0
"""The same stages run by torch.distributed.pipelining, with begin and end of every pass.

The methods of torch's stage that compute are wrapped; receives are waited for before them and sends follow them, so a
pass holds what torch does for it (autograd, bookkeeping) and no waiting for other ranks.
"""

from typing import Any

import torch
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, get_schedule_class

from commbench.live.pipeline_execute import Recorder
from commbench.live.session import Session
from commbench.live.stage import StageShape, inputs, targets, weights_of
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule

__all__ = ["TorchRunner"]


class _Products(torch.nn.Module):
    """y = x W, once per layer."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight in self.weights:
            x = x @ weight
        return x


class _RecordedStage(PipelineStage):
    """torch's stage, its passes recorded."""

    recorder: Recorder

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        call = super().forward_one_chunk
        return self._record(Pass.FORWARD, fwd_chunk_id, lambda: call(fwd_chunk_id, *args, **kwargs))

    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        call, kind = super().backward_one_chunk, Pass.BACKWARD if kwargs.get("full_backward", True) else Pass.INPUT
        return self._record(kind, bwd_chunk_id, lambda: call(bwd_chunk_id, *args, **kwargs))

    def backward_weight_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        call = super().backward_weight_one_chunk
        return self._record(Pass.WEIGHT, bwd_chunk_id, lambda: call(bwd_chunk_id, *args, **kwargs))

    def _record(self, kind: Pass, microbatch: int, work: Any) -> Any:
        return self.recorder.run(Action(self.stage_index, kind, microbatch), work)


class TorchRunner:
    """One rank's part of a schedule of torch.distributed.pipelining.

    Args:
        torch_name: of the schedule, as ``get_schedule_class`` knows it.
        schedule: the same as data, for the places of the stages and the number of microbatches.
        shape: of activation and weights.
        session: rank, device and group.
        recorder: told of every pass.
    """

    def __init__(
        self, torch_name: str, schedule: PipelineSchedule, shape: StageShape, session: Session, recorder: Recorder
    ) -> None:
        self._stages = [
            self._stage(number, schedule, shape, session, recorder) for number in schedule.stages_of(session.rank)
        ]
        scheduler = get_schedule_class(torch_name)
        several = issubclass(scheduler, PipelineScheduleMulti)
        self._step = scheduler(
            self._stages if several else self._stages[0],
            schedule.num_microbatches,
            loss_fn=lambda output, target: (output * target).sum(),
            scale_grads=False,
        ).step
        microbatches = range(schedule.num_microbatches)
        numbers = [stage.stage_index for stage in self._stages]
        self._arguments: tuple[torch.Tensor, ...] = ()
        self._target: dict[str, Any] = {}
        if 0 in numbers:
            self._arguments = (torch.cat([inputs(shape, k) for k in microbatches]).to(session.device),)
        if schedule.num_stages - 1 in numbers:
            self._target = {
                "target": torch.cat([targets(shape, k) for k in microbatches]).to(session.device),
                "losses": [],
            }

    def _stage(
        self, number: int, schedule: PipelineSchedule, shape: StageShape, session: Session, recorder: Recorder
    ) -> _RecordedStage:
        activation = torch.zeros(shape.tokens, shape.hidden, device=session.device, requires_grad=number > 0)
        stage = _RecordedStage(
            _Products([weight.to(session.device) for weight in weights_of(shape, number)]),
            number,
            schedule.num_stages,
            session.device,
            input_args=activation,
            output_args=torch.zeros_like(activation).requires_grad_(),
            group=session.data,
        )
        stage.recorder = recorder
        return stage

    def prepare(self) -> None:
        """Gradients away."""
        for stage in self._stages:
            stage.submod.zero_grad(set_to_none=True)

    def run(self) -> None:
        """One step."""
        if self._target:
            self._target["losses"].clear()
        self._step(*self._arguments, **self._target, return_outputs=False)

    def gradients(self, stage: int) -> list[torch.Tensor]:
        """Gradients of a stage's weights; zeros where autograd has left none."""
        module = next(one.submod for one in self._stages if one.stage_index == stage)
        return [torch.zeros_like(one) if one.grad is None else one.grad for one in module.parameters()]
