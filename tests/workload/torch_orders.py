# SPDX-License-Identifier: Apache-2.0
"""The orders that the installed torch.distributed.pipelining runs, as text; import it only where torch is there.

Schedules of several stages per rank build their lists in the constructor. GPipe and 1F1B have an executor of their own
instead (the list that ``_get_pipeline_order`` draws of 1F1B begins with microbatch 1 on the last rank, in 2.13), so a
stage that records is driven through it.
"""

from types import SimpleNamespace
from typing import Any

from torch.distributed.pipelining import schedules

__all__ = ["Recorder", "torch_orders"]


class Recorder:
    """A stage that notes which pass of which microbatch it was asked for, and sends nothing."""

    submod = None
    has_backward = True

    def __init__(self, stage: int, num_stages: int, num_ranks: int) -> None:
        self.stage_index, self.num_stages = stage, num_stages
        self.group_size, self.group_rank = num_ranks, stage % num_ranks
        self.is_first, self.is_last = stage == 0, stage == num_stages - 1
        self.seen: list[str] = []

    def forward_one_chunk(self, microbatch: int, *args: Any, **kwargs: Any) -> None:
        self.seen.append(f"{self.stage_index}F{microbatch}")

    def backward_one_chunk(self, microbatch: int, **kwargs: Any) -> None:
        self.seen.append(f"{self.stage_index}B{microbatch}")

    def nothing_to_send(self, microbatch: int) -> list[Any]:
        return []

    get_fwd_recv_ops = get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = nothing_to_send

    def perform_reduce_grad(self, factor: int) -> None:
        pass


def torch_orders(name: str, num_ranks: int, num_microbatches: int, per_rank: int) -> list[list[str]]:
    """Per rank the passes of torch's schedule ``name``, written as torch writes them."""
    schedule_class = schedules.get_schedule_class(name)
    if issubclass(schedule_class, schedules.PipelineScheduleSingle):
        return [_recorded(schedule_class, num_ranks, num_microbatches, rank) for rank in range(num_ranks)]
    num_stages = num_ranks * per_rank
    stages = [Recorder(i * num_ranks, num_stages, num_ranks) for i in range(per_rank)]
    schedule = schedule_class(stages, num_microbatches)
    return [
        [str(action) for action in schedule.pipeline_order[rank] if action is not None] for rank in range(num_ranks)
    ]


def _recorded(schedule_class: Any, num_ranks: int, num_microbatches: int, rank: int) -> list[str]:
    stage = Recorder(rank, num_ranks, num_ranks)
    schedule = schedule_class(stage, num_microbatches)
    schedule._initialize_stage = lambda *args: None  # would open connections
    empty = [SimpleNamespace() for _ in range(num_microbatches)]
    schedule._step_microbatches(empty, [{} for _ in range(num_microbatches)], return_outputs=False)
    return stage.seen
