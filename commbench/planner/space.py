# SPDX-License-Identifier: Apache-2.0
"""All strategies that a model, a world and a global batch allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from commbench.errors import InputError
from commbench.planner.strategy import AXES, Strategy
from commbench.workload.pipeline.registry import get_pipeline
from commbench.workload.transformer import RECOMPUTE, Execution, Transformer

__all__ = ["SCHEDULES", "Space", "strategies"]

SCHEDULES = ("1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "zbv", "dualpipev")
_MOST_MICROBATCH = 16
_MOST_STAGES = 16  # per rank
_LONG = 32_768  # tokens of a sequence, from which on it is worth splitting


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What strategies are made for.

    Attributes:
        model: what is trained. run: how a rank executes it where a strategy says nothing.
        ranks: GPUs that there are. host: GPUs of a host; tensor groups take two at most. global_batch: of a step.
        fixed: of AXES, those that are given. schedules: pipeline schedules to choose from.
        fewer: whether fewer data-parallel ranks than would fit are tried, too.
    """

    model: Transformer
    run: Execution
    ranks: int
    host: int
    global_batch: int
    fixed: Mapping[str, Any] = field(default_factory=dict)
    schedules: Sequence[str] = SCHEDULES
    fewer: bool = False

    def choices(self, axis: str, known: Sequence[Any]) -> list[Any]:
        """What an axis may be: what is given, or all that is known."""
        return [self.fixed[axis]] if axis in self.fixed else list(known)


def strategies(space: Space) -> list[Strategy]:
    """All strategies.

    Raises:
        InputError: what is given allows none; says which rule it broke.
    """
    unknown = set(space.fixed) - set(AXES)
    assert not unknown, unknown
    found = [
        strategy
        for tp, cp, pp in product(_tensor(space), _context(space), space.choices("pp", _pipes(space)))
        if tp * cp * pp <= space.ranks
        for dp in _data(space, tp * cp * pp)
        for strategy in _of_degrees(space, tp, cp, pp, dp)
    ]
    if not found:
        raise InputError(_why_none(space))
    return found


def _tensor(space: Space) -> list[int]:
    most = min(space.model.num_heads, space.ranks, 2 * space.host)
    heads = [tp for tp in range(1, most + 1) if space.host % tp == 0 or tp % space.host == 0]  # whole hosts, or within
    return space.choices("tp", [tp for tp in heads if not _problem(space, tp, 1)])


def _problem(space: Space, tp: int, ep: int, cp: int = 1) -> str:
    """Why the model cannot be split so; "" where it can."""
    try:
        replace(space.run, tp=tp, cp=cp, ep=ep, sequence_parallel=False).check_model(space.model)
    except InputError as error:
        return str(error)
    return ""


def _context(space: Space) -> list[int]:
    longest = space.run.sequence // _LONG if space.model.num_experts == 1 else max(8, space.run.sequence // _LONG)
    known = [1] + [2**k for k in range(1, 8) if 2**k <= longest and space.run.sequence % 2 ** (k + 1) == 0]
    return space.choices("cp", known)


def _pipes(space: Space) -> list[int]:
    """Ranks of a pipeline over which the layers can be spread evenly, embedding and head as none or as one each."""
    layers = space.model.num_layers
    return [pp for pp in range(1, min(layers, space.ranks) + 1) if layers % pp == 0 or (layers + 2) % pp == 0]


def _data(space: Space, width: int) -> list[int]:
    if "dp" in space.fixed:
        return [space.fixed["dp"]] if space.fixed["dp"] * width <= space.ranks else []
    most = space.ranks // width
    found = [dp for dp in range(most, 0, -1) if space.global_batch % dp == 0]
    return found if space.fewer else found[:1]


def _of_degrees(space: Space, tp: int, cp: int, pp: int, dp: int) -> Iterator[Strategy]:
    if space.global_batch % dp:
        return
    each = space.global_batch // dp
    sizes = [size for size in range(1, _MOST_MICROBATCH + 1) if each % size == 0]
    experts = [ep for ep in range(1, space.model.num_experts + 1) if space.model.num_experts % ep == 0]
    parallel = [False, True] if tp > 1 and space.run.sequence // cp % tp == 0 else [False]
    stages = ["none", "selective", "full"] + (["per-op"] if "per-op" in space.fixed.values() else [])
    assert set(stages) <= set(RECOMPUTE)
    for ep in space.choices("ep", experts):
        if cp * dp % ep or _problem(space, tp, ep, cp):
            continue
        zeros = space.choices("zero", (0, 1, 2, 3) if dp * cp > 1 else (0,))
        for size in space.choices("microbatch", sizes):
            if each % size:
                continue
            for schedule, per_rank, layers in _pipelines(space, pp, each // size):
                for recompute, zero, split in product(
                    space.choices("recompute", stages), zeros, space.choices("sequence_parallel", parallel)
                ):
                    yield Strategy(
                        tp=tp, cp=cp, ep=ep, dp=dp, pp=pp, microbatch=size, microbatches=each // size,
                        schedule=schedule, stages_per_rank=per_rank, layers=layers, recompute=recompute, zero=zero,
                        sequence_parallel=split,
                    )  # fmt: skip


def _pipelines(space: Space, pp: int, microbatches: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Schedule, stages per rank and layers of every stage."""
    if pp == 1:
        asked = space.fixed.get("schedule", "1f1b")
        if asked == "1f1b" and space.fixed.get("stages_per_rank", 1) == 1:
            yield "1f1b", 1, (space.model.num_layers,)
        return
    for name in space.choices("schedule", space.schedules):
        pipeline = get_pipeline(name)
        each = [pipeline.stages_per_rank] if pipeline.stages_per_rank else range(1, _MOST_STAGES + 1)
        for per_rank in space.choices("stages_per_rank", each):
            if pipeline.stages_per_rank not in (0, per_rank) or per_rank < pipeline.least_stages:
                continue
            if microbatches < pipeline.least_microbatches(pp, pp * per_rank):
                continue
            if pipeline.multiple and per_rank > 1 and microbatches % pp:
                continue
            layers = _spread(space.model.num_layers, pp * per_rank)
            if layers:
                yield pipeline.name, per_rank, layers


def _spread(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of every stage: equal, or with embedding and head counted as one each; nothing where neither goes."""
    if layers % stages == 0:
        return (layers // stages,) * stages
    each, more = divmod(layers + 2, stages)
    return () if more or each < 2 or stages < 2 else (each - 1, *(each,) * (stages - 2), each - 1)


def _why_none(space: Space) -> str:
    """The first rule that what is given breaks."""
    fixed, model = space.fixed, space.model
    given = ", ".join(f"--{key.replace('_', '-')} {value}" for key, value in fixed.items()) or "nothing fixed"
    head = f"no strategy for {model.name} on {space.ranks:,} GPUs, global batch {space.global_batch}, with {given}: "
    tp, cp, pp, dp = (fixed.get(axis, 1) for axis in ("tp", "cp", "pp", "dp"))
    problem = _problem(space, tp, fixed.get("ep", 1), cp)
    if problem:
        return head + problem
    if tp * cp * pp * dp > space.ranks:
        return head + f"tp {tp} x cp {cp} x pp {pp} x dp {dp} = {tp * cp * pp * dp} are more GPUs than there are"
    if space.global_batch % (dp * fixed.get("microbatch", 1)):
        return head + (
            f"--global-batch {space.global_batch} is no multiple of dp {dp} x microbatch {fixed.get('microbatch', 1)}"
        )
    if pp > 1 and not any(_spread(model.num_layers, pp * v) for v in range(1, _MOST_STAGES + 1)):
        fits = ", ".join(map(str, _pipes(space)))
        return head + f"{model.num_layers} layers cannot be spread evenly over pp {pp}; pp can be {fits}"
    return head + "the schedule, its stages and the microbatches that are left do not belong together; fix fewer"
