# SPDX-License-Identifier: Apache-2.0
"""From measurements to a diagnosis: what is slow, which parts explain it, whether that is enough to blame them."""

from collections.abc import Sequence

import numpy as np

from commbench.arrays import IntArray
from commbench.diagnose.evidence import Evidence, PartClass, classes_of, evidence_of
from commbench.diagnose.expect import Simulator
from commbench.diagnose.measurement import Measurement
from commbench.diagnose.parts import parts_of
from commbench.diagnose.propose import propose
from commbench.diagnose.solve import Solved, solve
from commbench.results.diagnoses import HEALTHY, LOCALISED, NOT_LOCALISED, Diagnosed, Held, Suspect

__all__ = ["LEAST_CONFIDENCE", "diagnose"]

LEAST_CONFIDENCE = 0.9
"""Of a part that is blamed."""
LEAST_PARTNERS = 2
"""Of a part of a host that is blamed: with one, either of the two may be slow."""
_MOST_SCATTER = 0.1  # of what is called healthy
_MOST_OTHERS = 5
_WORTH_NAMING = 0.02  # of confidence
_NEVER_BUSY = 0.5  # of the time of every measurement: a fault of a part that is less busy hardly shows


def diagnose(measurements: Sequence[Measurement], simulator: Simulator, run: str) -> Diagnosed:
    """Hold measurements against their simulated values and find the fewest parts that explain what is slow.

    Args:
        measurements: of one fabric. simulator: of it. run: identifies the diagnosis.

    Raises:
        InputError: a measurement that cannot be simulated, or too few that are alike.
    """
    fabric = simulator.fabric
    expected = [simulator.expect(each) for each in measurements]
    links = np.unique(np.concatenate([each.links for each in expected]))
    parts = parts_of(fabric, links, routes_known=simulator.routes_known)
    classes = classes_of(parts, expected)
    solved = solve(evidence_of(measurements, expected), classes)
    court = _Court(measurements, classes, solved, simulator)
    suspects = [court.suspect(number, factor) for number, factor in solved.best.members]
    suspects.sort(key=lambda one: (-one.blamed, -one.slow, one.parts))
    named = {name for one in suspects for name in one.parts}
    others = [one for one in court.others() if not named & set(one.parts)]
    held = court.held()
    slow = any(each.slow for each in held)
    noisy = solved.evidence.scatter > _MOST_SCATTER
    unclear = slow or bool(suspects) or noisy
    verdict = LOCALISED if any(one.blamed for one in suspects) else NOT_LOCALISED if unclear else HEALTHY
    notes = [*simulator.notes, *_blind(fabric.num_links, links, classes, solved.evidence)]
    if noisy:
        scatter = f"{solved.evidence.scatter:.0%}"
        notes.append(f"measurements alike scatter by {scatter}, so that none can be called healthy: measure more")
    return Diagnosed(
        run=run,
        topology=fabric.name,
        library=", ".join(sorted(simulator.used)),
        verdict=verdict,
        noise=float(solved.evidence.scatter),
        suspects=tuple(suspects),
        others=tuple(others),
        held=held,
        proposed=propose(simulator, classes, solved, measurements) if verdict != HEALTHY else (),
        notes=tuple(notes),
    )


class _Court:
    """What suspects are judged by."""

    def __init__(
        self, measurements: Sequence[Measurement], classes: Sequence[PartClass], solved: Solved, simulator: Simulator
    ) -> None:
        self._measurements, self._classes, self._solved = measurements, classes, solved
        self._fabric = simulator.fabric
        evidence = solved.evidence
        self._slow = np.expm1(evidence.deviation) > evidence.tolerance

    def suspect(self, number: int, factor: float) -> Suspect:
        """One part of the explanation, and whether there is enough to blame it."""
        one, evidence = self._classes[number], self._solved.evidence
        model = evidence.model(one.busy_s, factor)
        mine = self._slow & (model > np.log1p(evidence.tolerance) / 2)
        low, high = self._solved.believed(self._classes, number)
        confidence = self._solved.confidence(number)
        partners = self._partners(one, np.flatnonzero(mine))
        why_not = self._why_not(one, confidence, partners, int(mine.sum()))
        return Suspect(
            parts=tuple(part.name for part in one.parts),
            kind=one.parts[0].kind,
            factor=factor,
            low=min(low, factor),
            high=max(high, factor),
            confidence=min(1.0, confidence),
            slow=int(mine.sum()),
            touched=int(np.count_nonzero(one.busy_s)),
            partners=partners,
            blamed=not why_not,
            why_not=why_not,
        )

    def _why_not(self, one: PartClass, confidence: float, partners: int, slow: int) -> str:
        if not slow:
            return "no measurement of its own is slow beyond its tolerance"
        if one.parts[0].host >= 0 and partners < LEAST_PARTNERS:
            return "slow with one partner alone: either of the two may be at fault, or what lies between them"
        if confidence < LEAST_CONFIDENCE:
            return f"other parts explain the same nearly as well (confidence {confidence:.0%})"
        return ""

    def _partners(self, one: PartClass, slow: IntArray) -> int:
        """Different groups of other hosts (inside one host: of other endpoints) with which the first part was slow."""
        host = one.parts[0].host
        hosts = self._fabric.host_of
        found = set()
        for number in slow.tolist():
            ranks = self._measurements[number].ranks
            others = frozenset(int(hosts[rank]) for rank in ranks) - {host}
            found.add(others or frozenset(-1 - rank for rank in ranks))
        return len(found)

    def others(self) -> list[Suspect]:
        """What might be at fault instead, likeliest first."""
        seen = dict[int, float]()
        for rival in self._solved.rivals[:50]:
            for number, factor in rival.members:
                if not self._solved.kin[number] & self._solved.best.classes:
                    seen.setdefault(number, factor)
        likely = sorted(seen, key=lambda number: -self._solved.confidence(number))[:_MOST_OTHERS]
        worth = [number for number in likely if self._solved.confidence(number) >= _WORTH_NAMING]
        return [self._other(number, seen[number]) for number in worth]

    def _other(self, number: int, factor: float) -> Suspect:
        found = self.suspect(number, factor)
        why_not = found.why_not or "something else explains more"
        return Suspect(**{name: getattr(found, name) for name in Suspect.__slots__}
                       | {"blamed": False, "why_not": why_not})  # fmt: skip

    def held(self) -> tuple[Held, ...]:
        """Every measurement with its verdict."""
        evidence, model = self._solved.evidence, self._solved.model(self._classes)
        return tuple(
            Held(
                run=one.record.run,
                collective=one.record.collective,
                algorithm=one.record.algorithm,
                size_bytes=one.record.size_bytes,
                ranks=one.ranks,
                hosts=tuple(f"h{self._fabric.host_of[rank]}" for rank in one.ranks),
                measured_s=one.record.time_s,
                simulated_s=float(evidence.time_s[i]),
                baseline=float(np.exp(evidence.baseline[i])),
                tolerance=float(evidence.tolerance[i]),
                expected=float(np.exp(model[i])),
            )
            for i, one in enumerate(self._measurements)
        )


def _blind(num_links: int, links: IntArray, classes: Sequence[PartClass], evidence: Evidence) -> list[str]:
    """What these measurements cannot see."""
    found = []
    if num_links > len(links):
        found.append(f"{num_links - len(links)} of {num_links} links are crossed by no measurement: nothing is said "
                     "of them")  # fmt: skip
    idle = [one.parts[0].name for one in classes if (one.busy_s / evidence.time_s).max() < _NEVER_BUSY]
    if idle:
        more = f" and {len(idle) - 4} more" if len(idle) > 4 else ""
        found.append(f"never more than half busy, so that only a bad fault would show: {', '.join(idle[:4])}{more}")
    return found

