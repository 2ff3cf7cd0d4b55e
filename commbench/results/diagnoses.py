# SPDX-License-Identifier: Apache-2.0
"""Who is to blame: the parts of a fabric that make measurements slow, and the ranks that broke a collective."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record
from commbench.results.values import Bytes, Count, Factor, Lasting, Name, OneOf, Ratio, Share, Whole

__all__ = ["HEALTHY", "LOCALISED", "NOT_LOCALISED", "Blamed", "Diagnosed", "Finding", "Held", "Proposed", "Suspect"]

HEALTHY, LOCALISED, NOT_LOCALISED = "healthy", "localised", "not-localised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A part of the fabric that would explain slow measurements.

    Attributes:
        parts: its names; where there are several, no measurement tells them apart. kind: of the first one.
        factor: the part of its bandwidth that it still has; low, high: within which the measurements leave it.
        confidence: weight of all explanations that name it among those of as many faults.
        slow, touched: slow measurements that it explains, and all that go over it. partners: the groups of other hosts
            with which it was slow.
        blamed: whether that is enough to name it; why_not: in words, "" where it is.
    """

    parts: tuple[Name, ...]
    kind: Name
    factor: Share
    low: Share
    high: Share
    confidence: Share
    slow: Whole
    touched: Whole
    partners: Whole
    blamed: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One measurement against its simulated value.

    Attributes:
        run, collective, algorithm, size_bytes: of it. ranks: of the topology. hosts: that they are on.
        measured_s, simulated_s: seconds. baseline: measured / simulated of healthy measurements of its kind.
        tolerance: over 1, from which on a ratio to the baseline is slow. expected: that ratio by the suspects.
    """

    run: Name
    collective: Name
    algorithm: Name
    size_bytes: Bytes
    ranks: tuple[Whole, ...]
    hosts: tuple[Name, ...]
    measured_s: Lasting
    simulated_s: Lasting
    baseline: Factor
    tolerance: Factor
    expected: Factor

    @property
    def ratio(self) -> float:
        """Measured / simulated, against that of healthy measurements."""
        return self.measured_s / self.simulated_s / self.baseline

    @property
    def slow(self) -> bool:
        """Whether it is beyond its tolerance."""
        return self.ratio > 1 + self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A measurement to take next.

    Attributes:
        ranks: of the topology. names: of their endpoints. size_bytes: of a send-recv between them.
        expected: suspect -> measured / baseline that it should give if that one is at fault.
    """

    ranks: tuple[Whole, ...]
    names: tuple[Name, ...]
    size_bytes: Bytes
    expected: Mapping[str, float]

    @property
    def answers(self) -> str:
        """In words, those alike together: "2.01 if it is h0, 1.00 if it is h1 or h2"."""
        alike: dict[str, list[str]] = {}
        for name, value in self.expected.items():
            alike.setdefault(f"{value:.2f}", []).append(name)
        return ", ".join(f"{value} if it is {' or '.join(names)}" for value, names in alike.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed(Record):
    """What measurements say of a fabric.

    Attributes:
        run: of this diagnosis. topology, library: whose simulated values the measurements were held against.
        verdict: "healthy", "localised" or "not-localised".
        noise: by which healthy measurements differ from their baseline, a robust standard deviation.
        suspects: the fewest parts that explain the slow measurements; others: what might be instead, likeliest first.
        held: every measurement. proposed: what to measure next. notes: what a reader must know.
    """

    kind: ClassVar[str] = "diagnosis"

    run: Name
    topology: Name
    library: Name
    verdict: Annotated[str, OneOf((HEALTHY, LOCALISED, NOT_LOCALISED))]
    noise: Factor
    suspects: tuple[Suspect, ...]
    others: tuple[Suspect, ...]
    held: tuple[Held, ...]
    proposed: tuple[Proposed, ...]
    notes: tuple[str, ...]

    @property
    def num_slow(self) -> int:
        """Slow measurements."""
        return sum(one.slow for one in self.held)

    @property
    def unexplained(self) -> tuple[Held, ...]:
        """Slow measurements that are slow all the same where the suspects are what they are said to be."""
        return tuple(one for one in self.held if one.slow and one.ratio > one.expected * (1 + one.tolerance))

    def derived(self) -> dict[str, Any]:
        """Counts."""
        return {
            "measurements": len(self.held), "slow": self.num_slow, "unexplained": len(self.unexplained),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rank did in a group of ranks.

    Attributes:
        rank: in the world. group: of the ranks, as its source calls it. sequence: number of the collective there.
        what: in a word or two, such as "missing", "behind", "other size", "straggler". detail: a sentence.
    """

    rank: Whole
    group: str
    sequence: Whole | None
    what: Name
    detail: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed(Record):
    """The ranks that broke or delayed collectives.

    Attributes:
        run: of this diagnosis. source: "flight-recorder" or "trace".
        ranks: that told something. collectives: that were looked at.
        findings: by rank, the worst first; empty if nothing is wrong. late_s: of stragglers, seconds by which each rank
            came later than the first one, all collectives together.
        notes: what a reader must know.
    """

    kind: ClassVar[str] = "blamed"

    run: Name
    source: Annotated[str, OneOf(("flight-recorder", "trace"))]
    ranks: Count
    collectives: Whole
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    late_s: Mapping[str, Ratio]
