# SPDX-License-Identifier: Apache-2.0
"""The record of a plan: which strategy to take, how that was found, and what it proves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from commbench.results.records import Record
from commbench.results.values import Bytes, Count, Factor, Lasting, Name, Positive, Ratio, Seconds, Whole

__all__ = ["TERMS", "Forced", "Planned", "PlannedStep"]

TERMS = ("compute", "host", "exposed communication", "bubble", "optimizer")
"""What an estimate consists of, as it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A strategy and what it takes.

    Attributes:
        words, how: degrees and microbatch, and the rest, in short.
        command: the options of ``sim train`` that ask for it. options: the same, by name.
        ranks: GPUs that it uses. estimated_s, bound_s: by closed form, and at least. simulated_s: exactly; None where
            that was not done. memory_bytes: of the fullest rank, margin included.
        tokens_per_s_per_gpu: of the GPUs that it uses, by the best time that is known.
        terms: what the estimate consists of, on the busiest rank; empty where nobody asked.
        cost: of a million tokens, in the price's currency; None without a price.
    """

    words: Name
    how: Name
    command: str
    options: Mapping[str, Any]
    ranks: Count
    estimated_s: Lasting
    bound_s: Seconds
    simulated_s: Lasting | None
    memory_bytes: Bytes
    tokens_per_s_per_gpu: Positive
    terms: Mapping[str, float] = field(default_factory=dict)
    cost: float | None = None

    @property
    def time_s(self) -> float:
        """Simulated where it was, else estimated."""
        return self.estimated_s if self.simulated_s is None else self.simulated_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What if: the best strategy under another condition, by closed form.

    Attributes:
        what: the condition. words: the best strategy under it; "" where there is none within the search.
        change: of its objective against that of the best by closed form without the condition; None without one.
    """

    what: Name
    words: str
    change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Record):
    """Which strategy to take.

    Attributes:
        model, topology, device, dtype, ranks, global_batch, sequence: what on what.
        objective: "time", "tokens-per-gpu" or "cost". price: of a GPU-hour, for cost. fixed: options that were given.
        settings: other options that were given. asked: all but the strategy as ``sim train`` takes it, in words of a
            command line.
        strategies: all that there are. slow: of them, those whose lower bound is beyond what was looked at. large:
            those looked at that do not fit. estimated: by closed form. simulated: exactly.
        gap: that was to be proven. proven_gap: that is proven; None where nothing was simulated. open: strategies that
            were not simulated and have a lower bound below the best simulated time. worst_error: of the estimates that
            were simulated.
        capacity_bytes, margin_bytes: of a device.
        best: best first; the first is simulated. pareto: least of what :attr:`scarce` says for the memory.
        sensitivity: what if.
        nearest: where nothing fits, what needs least memory; lacks_bytes: that it has too little. remedy: what helps.
        notes: what a reader must know. search_s, wall_s: real seconds of the closed forms, and of all.
        task: digest of what asked for it, in a sweep.
    """

    kind: ClassVar[str] = "plan"

    model: Name
    topology: Name
    device: Name
    dtype: Name
    ranks: Count
    global_batch: Count
    sequence: Count
    objective: Name
    price: Factor | None
    fixed: Mapping[str, Any]
    settings: Mapping[str, Any]
    strategies: Whole
    slow: Whole
    large: Whole
    estimated: Whole
    simulated: Whole
    gap: Ratio
    proven_gap: Ratio | None
    open: Whole
    worst_error: Ratio
    capacity_bytes: Bytes
    margin_bytes: Bytes
    best: tuple[PlannedStep, ...]
    pareto: tuple[PlannedStep, ...]
    sensitivity: tuple[Forced, ...]
    nearest: PlannedStep | None
    lacks_bytes: Bytes
    remedy: str
    notes: tuple[str, ...]
    search_s: Seconds
    wall_s: Seconds
    task: str = ""
    asked: str = ""

    @property
    def fits(self) -> bool:
        """Whether any strategy does."""
        return bool(self.best)

    @property
    def scarce(self) -> str:
        """What the objective wants little of: time, or the time of all GPUs, which is cost and tokens per GPU alike."""
        return "time" if self.objective == "time" else "GPU-time"

    def derived(self) -> dict[str, Any]:
        """The best in brief."""
        if not self.best:
            return {"fits": False}
        best = self.best[0]
        return {
            "fits": True, "time_s": best.time_s, "command": f"{self.asked} {best.command}".strip(),
            "tokens_per_s_per_gpu": best.tokens_per_s_per_gpu,
        }  # fmt: skip
