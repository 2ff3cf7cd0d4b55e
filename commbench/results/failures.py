# SPDX-License-Identifier: Apache-2.0
"""A live run that failed: whose fault it was, and where every rank was then."""

from dataclasses import dataclass
from typing import ClassVar

from commbench.results.records import Record
from commbench.results.values import Count, Instant, Name, Whole

__all__ = ["FailedRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun(Record):
    """The end of a run whose ranks died, hung or failed; what it had measured stands before it.

    Attributes:
        run: identifier of the invocation. job: the collective, or the kind of the job. ranks: world size.
        backend: as it was asked for. launcher: what started the ranks.
        message: one line, as it was shown. guilty: ranks that it names.
        places: where each rank was, in rank order, for people.
        stacks: name of the file beside this one that has the stacks of the ranks that lived, "" if there is none.
        failed_at: ISO 8601.
    """

    kind: ClassVar[str] = "failed"

    run: Name
    job: Name
    backend: Name
    ranks: Count
    launcher: str
    message: str
    failed_at: Instant
    guilty: tuple[Whole, ...] = ()
    places: tuple[str, ...] = ()
    stacks: str = ""

    def __post_init__(self) -> None:
        if any(rank >= self.ranks for rank in self.guilty):
            raise ValueError(f"guilty {list(self.guilty)} must be among the {self.ranks} ranks")
        if self.places and len(self.places) != self.ranks:
            raise ValueError(f"places has {len(self.places)} entries, one for each of {self.ranks} ranks is needed")
