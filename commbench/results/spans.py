# SPDX-License-Identifier: Apache-2.0
"""What ran when on a rank, and records that hold it: nested sequences, kept in the record file and left out on stdout.

In a file a span is a list of its fields in their order. Spans of a rank stand in the order in which it ran them.
"""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from commbench.results.records import Record
from commbench.results.values import Bytes, Name, OneOf, Seconds, Whole

__all__ = ["PASSES", "CallSpan", "IterationSpans", "RankSpans", "Span", "SpanRecord", "UnitSpan", "busy_s", "total_s"]

PASSES = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
"""A pipeline's passes by their letters; a backward pass is both its gradients."""
PassLetter = Annotated[str, OneOf(tuple(PASSES))]


class Span(NamedTuple):
    """One pass of one microbatch on a stage; seconds from the first begin on any rank."""

    stage: Whole
    kind: PassLetter
    microbatch: Whole
    begin_s: Seconds
    end_s: Seconds


RankSpans = tuple[tuple[Span, ...], ...]
"""Spans of every rank."""
UnitSpan = tuple[Whole, Whole, PassLetter, Whole, Seconds, Seconds]
"""The unit of a training step that ran it, then the fields of :class:`Span`."""
CallSpan = tuple[Name, Bytes, Seconds, Seconds, Seconds, Seconds]
"""``(collective, size_bytes, begin_s, called_s, wait_s, end_s)``, seconds since the rank began the iteration.

The rank is inside the collective from begin to called (handing it over) and from wait to end (waiting for it); between
the two it computes.
"""
IterationSpans = tuple[tuple[CallSpan, ...], ...]
"""Spans of every rank in one iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord(Record):
    """A record whose sequences are tuples; ``bulky`` names the fields that a headline leaves out."""

    bulky: ClassVar[frozenset[str]] = frozenset({"spans"})

    def headline(self) -> str:
        """The record as one JSON line without its bulky fields."""
        data = json.loads(self.to_json())
        return json.dumps({name: value for name, value in data.items() if name not in self.bulky})


def total_s(spans: RankSpans) -> float:
    """From the first begin on any rank to the last end."""
    return max(span.end_s for rank in spans for span in rank) - min(span.begin_s for rank in spans for span in rank)


def busy_s(spans: RankSpans) -> tuple[float, ...]:
    """Per rank the time inside passes."""
    return tuple(sum(span.end_s - span.begin_s for span in rank) for rank in spans)
