# SPDX-License-Identifier: Apache-2.0
"""Records that hold spans: nested sequences, kept whole in the record file and left out on stdout."""

import json
from dataclasses import dataclass
from typing import ClassVar

from commbench.results.records import Record

__all__ = ["PASSES", "SpanRecord"]

PASSES = ("F", "B", "I", "W")
"""Letters of a pipeline's passes: forward, backward, and its two parts: gradients of inputs and of weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord(Record):
    """A record whose sequences are tuples; ``bulky`` names the fields that a headline leaves out."""

    bulky: ClassVar[frozenset[str]] = frozenset({"spans"})

    def headline(self) -> str:
        """The record as one JSON line without its bulky fields."""
        data = json.loads(self.to_json())
        return json.dumps({name: value for name, value in data.items() if name not in self.bulky})
