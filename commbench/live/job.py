# SPDX-License-Identifier: Apache-2.0
"""What live ranks are to do: an immutable description that every rank gets the same copy of.

:class:`LiveJob` is what all of them have; here are those of pipelines, tensor parallelism and overlap, and
:class:`~commbench.live.plan.Plan` is that of one collective over some sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from commbench.errors import InputError, unknown
from commbench.live.backend import AUTO, BACKENDS, usable

__all__ = [
    "EXECUTORS",
    "LARGEST_INPUT",
    "METHODS",
    "LiveJob",
    "OverlapJob",
    "PipelineJob",
    "TensorParallelJob",
    "require_known",
    "require_least",
]

_MOST_ITERATIONS = 10**6  # every sample is kept
_LONGEST_S = 10**6  # 11 days; gloo counts milliseconds in 32 bits
_BEYOND_S = 60.0
EXECUTORS = ("schedule", "torch")
METHODS = ("hand", "dtensor")
COMPUTES = ("delay", "matmul")
LARGEST_INPUT = 4  # of activations and gradients in the pipeline, whole numbers from -4 to 4
EXACT_FLOAT32 = 2**24  # every integer up to here is a float32 (IEEE 754)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJob:
    """What all jobs have.

    Attributes:
        ranks: world size.
        out: journal that records are appended to.
        run: identifier of this invocation, in every record.
        backend: a key of ``backend.BACKENDS``, or "auto": nccl if every rank has a GPU of its own, else gloo.
        iters, warmup: timed and warm-up iterations.
        timeout_s: seconds without progress after which a rank counts as hung.
        join_timeout_s: the same until every rank has reached its first size: loading torch is no hang.
        check: whether values are checked.
        facts: what whoever starts the run knows of the place, for the environment of every record; JSON values.

    Raises:
        InputError: a value that no run can have; names option, value and rule.
    """

    kind: ClassVar[str]

    ranks: int
    out: Path
    run: str
    backend: str = AUTO
    iters: int = 5
    warmup: int = 1
    timeout_s: float = 300.0
    join_timeout_s: float = 120.0
    check: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_known("--backend", self.backend, (AUTO, *BACKENDS))
        require_least(1, ("--nproc", self.ranks), ("--iters", self.iters))
        require_least(0, ("--warmup", self.warmup))
        for option, number in (("--iters", self.iters), ("--warmup", self.warmup)):
            if number > _MOST_ITERATIONS:
                raise InputError(f"{option} {number} must be at most {_MOST_ITERATIONS}")
        for option, limit_s in (("--timeout", self.timeout_s), ("--join-timeout", self.join_timeout_s)):
            if not 0 < limit_s <= _LONGEST_S:
                raise InputError(f"{option} {limit_s:g} must be above 0 and at most {_LONGEST_S} seconds")

    @property
    def torch_timeout_s(self) -> float:
        """After which torch gives up on a rank: later than whoever watches over the ranks, for those know more."""
        return max(self.timeout_s, self.join_timeout_s) + _BEYOND_S

    @property
    def on_host(self) -> bool:
        """Whether it is for CPUs, whatever devices ranks have."""
        return False

    def to_json(self) -> str:
        """The job as text, for a rank in another process."""
        return json.dumps({"kind": self.kind} | {f.name: getattr(self, f.name) for f in fields(self)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The job that :meth:`to_json` wrote."""
        data = json.loads(text)
        del data["kind"]
        return cls(**{name: _frozen(value) for name, value in data.items()} | {"out": Path(data["out"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineJob(LiveJob):
    """One pipeline schedule on live ranks.

    Attributes:
        schedule: its name. microbatches: of a step. order: its orders as CSV (``workload.pipeline.text``).
        double: the orders for twice the microbatches, for the clock-free method; "" where there are none.
        executors: who runs it: "schedule" is commbench's executor, "torch" is torch.distributed.pipelining.
        torch_name: name of the schedule there, "" where it has none.
        compute: "delay": every pass lasts as long as ``delays_s`` says, most of it asleep, so that more stages than
            cores truly overlap; "matmul": passes are as long as their products take.
        delays_s: seconds of F, I and W of one microbatch on one stage; B lasts I + W.
        slow: (stage, factor) of stages whose delays are longer.
        tokens, hidden: an activation is tokens x hidden float32. layers: products of hidden x hidden on each stage.
    """

    kind: ClassVar[str] = "pipeline"

    schedule: str
    microbatches: int
    order: str
    double: str = ""
    executors: tuple[str, ...] = EXECUTORS[:1]
    torch_name: str = ""
    compute: str = "delay"
    delays_s: tuple[float, float, float] = (0.02, 0.02, 0.02)
    slow: tuple[tuple[int, float], ...] = ()
    tokens: int = 64
    hidden: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        LiveJob.__post_init__(self)
        require_known("--compute", self.compute, COMPUTES)
        for executor in self.executors:
            require_known("--executor", executor, EXECUTORS)
        require_least(1, ("--tokens", self.tokens), ("--hidden", self.hidden), ("--layers", self.layers))
        if not all(delay > 0 for delay in self.delays_s) or not all(factor > 0 for _, factor in self.slow):
            raise InputError(f"delays {self.delays_s} and factors of --slow {self.slow} must be above 0")
        if self.compute == "matmul" and self.slow:
            raise InputError("--slow makes delays longer; it has no meaning with --compute matmul")
        if "torch" in self.executors and not self.torch_name:
            raise InputError(f"torch.distributed.pipelining has no schedule {self.schedule}; use --executor schedule")
        if "torch" in self.executors and self.schedule == "1f1b" and self.microbatches < self.ranks:
            raise InputError(
                f"torch's 1f1b has no fewer microbatches ({self.microbatches}) than ranks ({self.ranks}); "
                "use --executor schedule"
            )
        if self.on_host and self.backend not in (AUTO, *usable(on_host=True)):
            raise InputError(
                f"--compute delay puts CPU ranks to sleep; with --backend {self.backend} give --compute matmul"
            )
        total = LARGEST_INPUT**2 * self.tokens * 2 * self.microbatches
        if self.check and total > EXACT_FLOAT32:
            raise InputError(
                f"--tokens {self.tokens} x {2 * self.microbatches} microbatches: sums of the check may reach {total}, "
                f"float32 is exact up to {EXACT_FLOAT32}; give fewer tokens or --no-check"
            )

    @property
    def on_host(self) -> bool:
        """Delays put CPU ranks to sleep; a GPU would see none of it."""
        return self.compute == "delay"

    @property
    def activation_bytes(self) -> int:
        """Bytes of one microbatch between two stages."""
        return 4 * self.tokens * self.hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParallelJob(LiveJob):
    """One transformer block, split over all ranks, forward and backward of one microbatch.

    Attributes:
        hidden, heads, ffn: widths of the residual stream and of the MLP, and attention heads.
        sequence, micro_batch: tokens of a sequence, and sequences.
        dtype: of weights and activations; gradients are checked in float64 whatever it is.
        methods: "hand" (collectives called where Megatron has them) and "dtensor" (torch.distributed.tensor).
        sequence_parallel: which of without and with are run.
    """

    kind: ClassVar[str] = "tensor-parallel"

    hidden: int
    heads: int
    ffn: int
    sequence: int
    micro_batch: int
    dtype: str = "float32"
    methods: tuple[str, ...] = METHODS
    sequence_parallel: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        LiveJob.__post_init__(self)
        for method in self.methods:
            require_known("--method", method, METHODS)
        require_known("--dtype", self.dtype, ("float32", "float64", "bfloat16", "float16"))
        sizes = ("hidden", "heads", "ffn", "sequence", "micro_batch")
        require_least(1, *((f"--{name.replace('_', '-')}", getattr(self, name)) for name in sizes))
        if self.hidden % self.heads:
            raise InputError(f"--hidden {self.hidden} is not divisible by --heads {self.heads}")
        for name in ("heads", "ffn"):
            if getattr(self, name) % self.ranks:
                raise InputError(f"--{name} {getattr(self, name)} is not divisible by tp {self.ranks}")
        if True in self.sequence_parallel and self.sequence % self.ranks:
            raise InputError(
                f"--sequence {self.sequence} is not divisible by tp {self.ranks}, as sequence parallelism needs"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapJob(LiveJob):
    """A matrix product and an all-reduce, each alone and both at once.

    Attributes:
        m, n, k, dtype: of the product (m x k) by (k x n). size_bytes: of the all-reduce, float32.
    """

    kind: ClassVar[str] = "overlap"

    m: int = 1024
    n: int = 1024
    k: int = 1024
    dtype: str = "float32"
    size_bytes: int = 2**24

    def __post_init__(self) -> None:
        LiveJob.__post_init__(self)
        require_known("--dtype", self.dtype, ("float32", "float64", "bfloat16", "float16"))
        require_least(1, ("-m", self.m), ("-n", self.n), ("-k", self.k))
        if self.size_bytes < 4 or self.size_bytes % 4:
            raise InputError(f"-b {self.size_bytes} bytes must be one or more whole elements of float32 (4 bytes)")


def _frozen(value: Any) -> Any:
    """Lists as tuples, as the fields have them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def require_known(option: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones.

    Raises:
        InputError: names option, value and the known words.
    """
    if value not in known:
        raise InputError(f"{option} {value!r} {unknown(value, known)}")


def require_least(least: int, *numbers: tuple[str, int]) -> None:
    """Refuse (option, number) pairs whose number is below ``least``.

    Raises:
        InputError: names option, number and bound.
    """
    for option, number in numbers:
        if number < least:
            raise InputError(f"{option} {number} must be at least {least}")
