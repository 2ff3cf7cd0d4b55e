# SPDX-License-Identifier: Apache-2.0
"""Every pipeline schedule by name, with what it asks of ranks, microbatches and stages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from commbench.errors import InputError, unknown
from commbench.workload.pipeline import builders, vee
from commbench.workload.pipeline.schedule import PipelineSchedule, Step

__all__ = ["ALIASES", "PIPELINES", "Pipeline", "build_pipeline", "get_pipeline"]

Builder = Callable[[int, int, int, int], list[Step]]
"""(ranks, microbatches, stages per rank, rank) -> the steps of that rank."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One pipeline schedule.

    Attributes:
        name: as users type it. summary: one line for people.
        build: the steps of one rank.
        stages_per_rank: what it is made for; 0 where any number will do.
        least_stages: of those, the fewest that make sense: with one it would be no better than a plainer schedule.
        splits: whether it uses input and weight gradients apart (I and W).
        least_microbatches: (ranks, stages) -> the fewest it can run.
        multiple: whether the microbatches must be a multiple of the ranks where a rank has several stages.
        torch_name: its name for torch.distributed.pipelining.get_schedule_class (2.13); "" where torch has none.
    """

    name: str
    summary: str
    build: Builder
    stages_per_rank: int = 1
    least_stages: int = 1
    splits: bool = False
    least_microbatches: Callable[[int, int], int] = lambda ranks, stages: 1
    multiple: bool = False
    torch_name: str = ""


def _stages(ranks: int, stages: int) -> int:
    return stages


_ALL = (
    Pipeline("gpipe", "all forwards, then all backwards", builders.gpipe, torch_name="GPipe"),
    Pipeline(
        "1f1b",
        "one forward, one backward: the activations of p microbatches at most",
        builders.one_f_one_b,
        torch_name="1F1B",
    ),
    Pipeline(
        "interleaved-1f1b",
        "1F1B over several stages per rank: the bubble divided by their number",
        builders.interleaved_1f1b,
        stages_per_rank=0,
        least_stages=2,
        multiple=True,
        torch_name="Interleaved1F1B",
    ),
    Pipeline(
        "looped-bfs",
        "all microbatches through one stage of a rank, then through its next",
        builders.looped_bfs,
        stages_per_rank=0,
        least_stages=2,
        torch_name="LoopedBFS",
    ),
    Pipeline(
        "zb-h1",
        "weight gradients fill part of the bubble, with the memory of 1F1B",
        builders.zb_h1,
        stages_per_rank=0,
        splits=True,
        multiple=True,
        torch_name="InterleavedZeroBubble",
    ),
    Pipeline(
        "zb-h2",
        "weight gradients fill the whole bubble, with the activations of 2p - 1 microbatches",
        builders.zb_h2,
        splits=True,
        least_microbatches=lambda ranks, stages: 2 * ranks - 1,
    ),
    Pipeline(
        "zbv",
        "zero bubble on a V of two stages per rank, with the memory of 1F1B",
        vee.zbv,
        stages_per_rank=2,
        splits=True,
        torch_name="ZBVZeroBubble",
    ),
    Pipeline(
        "dualpipev",
        "forward and backward of two microbatches overlapped, on a V of two stages per rank",
        vee.dualpipe_v,
        stages_per_rank=2,
        splits=True,
        least_microbatches=_stages,
        torch_name="DualPipeV",
    ),
)
PIPELINES: Mapping[str, Pipeline] = MappingProxyType({pipeline.name: pipeline for pipeline in _ALL})
ALIASES: Mapping[str, str] = MappingProxyType(
    {"interleaved": "interleaved-1f1b", "zero-bubble": "zb-h1", "zbv-zero-bubble": "zbv"}
)
"""Other names that people use."""


def get_pipeline(name: str) -> Pipeline:
    """The pipeline schedule of that name, in any case.

    Raises:
        InputError: the name is unknown; lists the known ones.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known not in PIPELINES:
        raise InputError(f"pipeline schedule {name!r} {unknown(name, PIPELINES)}")
    return PIPELINES[known]


def build_pipeline(
    name: str, num_ranks: int, num_microbatches: int, stages_per_rank: int | None = None
) -> PipelineSchedule:
    """A named schedule for ``num_ranks`` ranks.

    Args:
        name: a key of :data:`PIPELINES`.
        num_ranks: ranks of the pipeline.
        num_microbatches: microbatches of a step.
        stages_per_rank: stages on every rank; None takes what the schedule is made for (1 where any number will do).

    Raises:
        InputError: what the schedule cannot run; names it, the rule and the numbers.
    """
    pipeline = get_pipeline(name)
    per_rank = (pipeline.stages_per_rank or 1) if stages_per_rank is None else stages_per_rank
    _check(pipeline, num_ranks, num_microbatches, per_rank)
    orders = [tuple(pipeline.build(num_ranks, num_microbatches, per_rank, rank)) for rank in range(num_ranks)]
    return PipelineSchedule(pipeline.name, num_microbatches, tuple(orders))


def _check(pipeline: Pipeline, ranks: int, microbatches: int, per_rank: int) -> None:
    head = f"pipeline schedule {pipeline.name}:"
    if min(ranks, microbatches, per_rank) < 1:
        raise InputError(
            f"{head} ranks, microbatches and stages per rank must be at least 1, "
            f"not {ranks}, {microbatches} and {per_rank}"
        )
    if pipeline.stages_per_rank and per_rank != pipeline.stages_per_rank:
        raise InputError(f"{head} it has {pipeline.stages_per_rank} stages per rank, not {per_rank}")
    least = pipeline.least_microbatches(ranks, ranks * per_rank)
    if microbatches < least:
        raise InputError(
            f"{head} {microbatches} microbatches are too few for {ranks} ranks and {ranks * per_rank} stages; "
            f"it needs at least {least}"
        )
    if pipeline.multiple and per_rank > 1 and microbatches % ranks:
        raise InputError(
            f"{head} {microbatches} microbatches are not a multiple of {ranks} ranks, "
            f"as {per_rank} stages per rank need"
        )
