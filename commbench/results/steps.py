# SPDX-License-Identifier: Apache-2.0
"""The record of a simulated training step (DESIGN section 9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

from commbench.results.records import Record
from commbench.results.shapes import Shaped
from commbench.results.spans import UnitSpan
from commbench.results.values import (
    Bytes,
    Count,
    Factor,
    Flop,
    Lasting,
    Name,
    Positive,
    Ratio,
    Seconds,
    Share,
    Whole,
    Within,
)

__all__ = ["SimulatedStep"]

@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedStep(Record):
    """One simulated training step.

    Attributes:
        model, topology, device, dtype: what on what. ranks: GPUs.
        tp, cp, ep, dp, pp: parallel degrees. schedule, stages_per_rank, microbatches: of the pipeline.
        micro_batch, global_batch, sequence: sequences and tokens. zero, recompute, sequence_parallel: how it is run.
        settings: what else was chosen, by name: layers of every stage, flash, bucket, algorithms ...
        library: that decided how collectives go, and how long they take.
        efficiency: shares of the device's promises that were given. slowdown: of compute beside a collective.
        iteration_s: from the common start to the end of the last rank.
        model_flops: FLOP that the step needs. hardware_flops: that are executed. peak_flops: of one device, per second.
        bubble_of_ideal, bubble_of_total: idle time of the pipeline over its busy time and over its length.
        bubble_of_span: the same over the longest span of a stage, as the zero-bubble papers count; None in old records.
        time_s: a rank's step by what it does, mean over ranks; adds up to iteration_s.
        exposed_s: by kind, communication with no compute on that rank, mean over ranks.
        critical_s: the critical path by kind of operation; adds up to iteration_s.
        memory_bytes: by kind, of the rank that needs most. memory_by_position: of all pipeline positions.
        capacity_bytes: memory of a device. margin_bytes: of it, that the step cannot have: context, buffers, fragments.
        remedy: options with which a step that does not fit would.
        busiest_links: by kind of link (joins): the busiest link, its bytes and utilisation; links of the kind that
            carry anything, and their mean_utilisation.
        folded: what was simulated as one, in words. notes: what a reader must know to judge the figures.
        routing, placement, engine, scenario, scenario_digest, jitter, seed: as of Simulated, jitter of compute.
        operations: simulated.
        wall_s: real seconds that it took.
        spans: every pass; only in record files. positions: pipeline position of every unit in them.
    """

    kind: ClassVar[str] = "simulated-step"

    model: Name
    topology: Name
    device: Name
    dtype: Name
    ranks: Count
    tp: Count
    cp: Count
    ep: Count
    dp: Count
    pp: Count
    schedule: Name
    stages_per_rank: Count
    microbatches: Count
    micro_batch: Count
    global_batch: Count
    sequence: Count
    zero: Annotated[int, Within(ge=0, le=3)]
    recompute: Name
    sequence_parallel: bool
    attention: Name
    efficiency: Mapping[str, Factor | str]
    slowdown: Factor
    iteration_s: Lasting
    model_flops: Flop
    hardware_flops: Flop
    peak_flops: Positive
    bubble_of_ideal: Ratio
    bubble_of_total: Share
    bubble_of_span: Ratio | None = None
    time_s: Mapping[str, Seconds]
    exposed_s: Mapping[str, Seconds]
    critical_s: Mapping[str, Seconds]
    memory_bytes: Mapping[str, Bytes]
    memory_by_position: tuple[Mapping[str, Bytes], ...]
    capacity_bytes: Annotated[int, Within(ge=1, le=2**60)]
    busiest_links: tuple[Annotated[Mapping[str, Any], Shaped("LinkUse")], ...]
    folded: str
    notes: tuple[str, ...]
    routing: Name
    placement: Name
    engine: Name
    scenario: str
    seed: int
    operations: Whole
    wall_s: Seconds
    library: Name = "ideal"
    margin_bytes: Bytes = 0
    remedy: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    scenario_digest: str = ""
    jitter: Share = 0.0
    positions: tuple[Whole, ...] = ()
    spans: tuple[UnitSpan, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for use in self.memory_by_position:
            if use.keys() != self.memory_bytes.keys():
                raise ValueError("memory_by_position must have the kinds of memory_bytes at every position")
        for unit, stage, _, _, begin, end in self.spans:
            if unit >= len(self.positions) or stage >= self.pp * self.stages_per_rank or end < begin:
                raise ValueError(f"spans: unit {unit}, stage {stage} is no pass of this pipeline, or ends too early")
        if self.spans and not max(span[5] for span in self.spans) > 0:
            raise ValueError("spans must last longer than nothing")

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """Tokens of the step over its time and the GPUs."""
        return self.global_batch * self.sequence / self.iteration_s / self.ranks

    @property
    def mfu(self) -> float:
        """Model FLOP utilisation: FLOP that the step needs over what the devices promise in its time."""
        return self.model_flops / (self.iteration_s * self.ranks * self.peak_flops)

    @property
    def hfu(self) -> float:
        """Hardware FLOP utilisation: the same with the FLOP that are executed, recomputation among them."""
        return self.hardware_flops / (self.iteration_s * self.ranks * self.peak_flops)

    @property
    def fits(self) -> bool:
        """Whether the rank that needs most memory has it."""
        return sum(self.memory_bytes.values()) + self.margin_bytes <= self.capacity_bytes

    def derived(self) -> dict[str, Any]:
        """Utilisation, throughput, and whether it fits."""
        return {
            "tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
            "mfu": self.mfu,
            "hfu": self.hfu,
            "fits": self.fits,
        }

    def without_spans(self) -> Self:
        """The same without its passes, for standard output."""
        return replace(self, spans=(), positions=())
