# SPDX-License-Identifier: Apache-2.0
"""Several collectives, one behind the other, on ranks that meet once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from commbench.live.job import LiveJob
from commbench.live.observe import Observer, SessionFacts
from commbench.live.plan import Plan
from commbench.live.progress import Position
from commbench.results.records import Measured

__all__ = ["InTurn", "Suite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite(LiveJob):
    """A run of several plans, which all have its ranks, run and journal."""

    kind: ClassVar[str] = "suite"

    plans: tuple[Plan, ...]

    @classmethod
    def of(cls, plans: tuple[Plan, ...]) -> Self:
        """The suite of plans that differ in what they measure alone."""
        return cls(**{f.name: getattr(plans[0], f.name) for f in fields(LiveJob)}, plans=plans)

    def to_json(self) -> str:
        """The plans as text, for a rank in another process."""
        return json.dumps({"kind": self.kind, "plans": [plan.to_json() for plan in self.plans]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The suite that :meth:`to_json` wrote."""
        return cls.of(tuple(Plan.from_json(plan) for plan in json.loads(text)["plans"]))


class InTurn(Observer):
    """Shows each plan by an observer of its own, which starts with the plan's first record."""

    def __init__(self, observers: Mapping[str, Observer]) -> None:
        self._observers = observers  # by collective
        self._shown: Observer | None = None
        self._facts: SessionFacts | None = None

    def started(self, facts: SessionFacts) -> None:
        """Keep what every header needs."""
        self._facts = facts

    def moved(self, place: Position) -> None:
        """Tell whoever shows."""
        if self._shown is not None:
            self._shown.moved(place)

    def measured(self, record: Measured) -> None:
        """Change to the record's own observer where another one showed."""
        observer = self._observers[record.collective]
        if observer is not self._shown:
            self.close()
            self._shown = observer
            assert self._facts is not None
            observer.started(self._facts)
        observer.measured(record)

    def close(self) -> None:
        """End whoever shows."""
        if self._shown is not None:
            self._shown.close()
