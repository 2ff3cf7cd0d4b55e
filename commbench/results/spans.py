# SPDX-License-Identifier: Apache-2.0
"""Records that hold spans: nested sequences, kept whole in the record file and left out on stdout."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from commbench.results.records import Record

__all__ = ["SpanRecord", "tuples"]


def tuples(value: Any) -> Any:
    """Lists as tuples, however deep."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord(Record):
    """A record whose sequences are tuples; ``bulky`` names the fields that a headline leaves out."""

    bulky: ClassVar[frozenset[str]] = frozenset({"spans"})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """See the base; sequences become tuples.

        Raises:
            KeyError: a required field is missing.
        """
        return super(SpanRecord, cls).from_json({name: tuples(value) for name, value in data.items()})

    def headline(self) -> str:
        """The record as one JSON line without its bulky fields."""
        data = json.loads(self.to_json())
        return json.dumps({name: value for name, value in data.items() if name not in self.bulky})
