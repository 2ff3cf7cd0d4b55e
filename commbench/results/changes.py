# SPDX-License-Identifier: Apache-2.0
"""What got slower or faster from one run to another."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record
from commbench.results.values import Bytes, Count, Factor, Lasting, Name, OneOf, Whole

__all__ = ["FASTER", "SAME", "SLOWER", "ChangeSummary", "Changed"]

SLOWER, FASTER, SAME = "slower", "faster", "same"
_WORDS = Annotated[str, OneOf((SLOWER, FASTER, SAME))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Record):
    """One point in the old runs and in the new one.

    Attributes:
        run: of this comparison. what: the definition that both have in common, in words. collective, ranks, size_bytes,
            in_place: of it. members: which ranks took part, "" where nobody chose them.
        old_s, new_s: medians; old_error, new_error: their relative standard errors, 0 where nothing tells them.
        history_s: median of each run in the order of the files, None where a run has no such point; the last is the new
            one.
        tolerance: from which on a change counts. verdict: "slower", "faster" or "same".
        busbw_factor: from algbw to busbw.
    """

    kind: ClassVar[str] = "changed"

    run: Name
    what: Name
    members: str
    collective: Name
    ranks: Count
    size_bytes: Bytes
    in_place: bool | None
    busbw_factor: Factor
    old_s: Lasting
    new_s: Lasting
    old_error: Factor
    new_error: Factor
    history_s: tuple[Lasting | None, ...]
    tolerance: Factor
    verdict: _WORDS

    @property
    def change(self) -> float:
        """Signed: new / old - 1; above 0 is slower."""
        return self.new_s / self.old_s - 1

    def derived(self) -> dict[str, Any]:
        """The change."""
        return {"change": self.change}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSummary(Record):
    """The end of a comparison.

    Attributes:
        run: of this comparison. files: that were compared, in their order; the last is the new one.
        points: compared. slower, faster: of them.
        ratio: geometric mean of new / old over all points; tolerance: from which on that counts. verdict: of it.
        wrong: records of the new run with wrong values, whose times mean nothing.
        apart: what only some of the files have, in words. notes: what a reader must know.
    """

    kind: ClassVar[str] = "change-summary"

    run: Name
    files: tuple[Name, ...]
    points: Count
    slower: Whole
    faster: Whole
    ratio: Factor
    tolerance: Factor
    verdict: _WORDS
    wrong: Whole
    apart: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing got slower, neither a point nor all of them together, and no value is wrong."""
        return not self.slower and self.verdict != SLOWER and not self.wrong

    def derived(self) -> dict[str, Any]:
        """Whether it is ok."""
        return {"ok": self.ok}
