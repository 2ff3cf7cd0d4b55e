# SPDX-License-Identifier: Apache-2.0
"""Who wants to hear about a run while it goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from commbench.live.progress import Position

__all__ = ["Observer", "SessionFacts"]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known once the ranks have met.

    Attributes:
        backend: "gloo" or "nccl". launcher: what started the ranks. ranks: world size.
        environment: see ``results.environment``, with the facts that torch knows merged in.
        notes: what was detected and chosen, for people; a warning begins with "warning: ".
    """

    backend: str
    launcher: str
    ranks: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Observer:
    """Hears nothing; override what you want to hear."""

    def launched(self, pids: Sequence[int]) -> None:
        """The processes of the ranks, in rank order, when all have been started here."""

    def started(self, facts: SessionFacts) -> None:
        """The ranks have met."""

    def moved(self, place: Position) -> None:
        """Where rank 0 is, a few times a second."""

    def measured(self, record: Any) -> None:
        """A record, of a kind that the job makes, is complete and in the journal."""

    def close(self) -> None:
        """The run is over, well or not."""
