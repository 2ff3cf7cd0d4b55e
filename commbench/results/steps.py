# SPDX-License-Identifier: Apache-2.0
"""The record of a simulated training step (DESIGN section 9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from commbench.results.records import Record

__all__ = ["SimulatedStep"]

Span = tuple[int, int, str, int, float, float]
"""Unit, stage, letter of the pass, microbatch, begin and end in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedStep(Record):
    """One simulated training step.

    Attributes:
        model, topology, device, dtype: what on what. ranks: GPUs.
        tp, cp, ep, dp, pp: parallel degrees. schedule, stages_per_rank, microbatches: of the pipeline.
        micro_batch, global_batch, sequence: sequences and tokens. zero, recompute, sequence_parallel: how it is run.
        settings: what else was chosen, by name: layers of every stage, flash, bucket, algorithms ...
        efficiency: shares of the device's promises that were given. slowdown: of compute beside a collective.
        iteration_s: from the common start to the end of the last rank.
        model_flops: FLOP that the step needs. hardware_flops: that are executed. peak_flops: of one device, per second.
        bubble_of_ideal, bubble_of_total: idle time of the pipeline over its busy time and over its length.
        time_s: a rank's step by what it does, mean over ranks; adds up to iteration_s.
        exposed_s: by kind, communication with no compute on that rank, mean over ranks.
        critical_s: the critical path by kind of operation; adds up to iteration_s.
        memory_bytes: by kind, of the rank that needs most. memory_by_position: of all pipeline positions.
        capacity_bytes: memory of a device.
        busiest_links: by kind of link (joins): the busiest link, its bytes and utilisation; links of the kind that
            carry anything, and their mean_utilisation.
        folded: what was simulated as one, in words. notes: what a reader must know to judge the figures.
        routing, placement, engine, scenario, scenario_digest, jitter, seed: as of Simulated, jitter of compute.
        operations: simulated.
        wall_s: real seconds that it took.
        spans: every pass; only in record files. positions: pipeline position of every unit in them.
    """

    kind: ClassVar[str] = "simulated-step"

    model: str
    topology: str
    device: str
    dtype: str
    ranks: int
    tp: int
    cp: int
    ep: int
    dp: int
    pp: int
    schedule: str
    stages_per_rank: int
    microbatches: int
    micro_batch: int
    global_batch: int
    sequence: int
    zero: int
    recompute: str
    sequence_parallel: bool
    attention: str
    efficiency: Mapping[str, float | str]
    slowdown: float
    iteration_s: float
    model_flops: int
    hardware_flops: int
    peak_flops: float
    bubble_of_ideal: float
    bubble_of_total: float
    time_s: Mapping[str, float]
    exposed_s: Mapping[str, float]
    critical_s: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    memory_by_position: tuple[Mapping[str, int], ...]
    capacity_bytes: int
    busiest_links: tuple[Mapping[str, Any], ...]
    folded: str
    notes: tuple[str, ...]
    routing: str
    placement: str
    engine: str
    scenario: str
    seed: int
    operations: int
    wall_s: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    scenario_digest: str = ""
    jitter: float = 0.0
    positions: tuple[int, ...] = ()
    spans: tuple[Span, ...] = field(default=(), repr=False)

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
        return sum(self.memory_bytes.values()) <= self.capacity_bytes

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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """See Record.from_json; lists become tuples again."""
        lists = ("memory_by_position", "busiest_links", "notes", "positions")
        turned = {name: tuple(data[name]) for name in lists if name in data}
        turned["spans"] = tuple(tuple(row) for row in data.get("spans", ()))
        return super(SimulatedStep, cls).from_json({**data, **turned})
