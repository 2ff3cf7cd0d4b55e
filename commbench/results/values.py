# SPDX-License-Identifier: Apache-2.0
"""What the fields of records may hold, as types: a record that was read has been held to them.

Each is a plain type with bounds beside it (``annotated_types``, or a class below), which pydantic reads when a line is
read (results.strict). The bounds are wide: they keep out what no machine does and what arithmetic cannot carry.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = [
    "Bytes",
    "Count",
    "Factor",
    "Flop",
    "Instant",
    "Lasting",
    "Name",
    "OneOf",
    "Positive",
    "Ratio",
    "Samples",
    "Seconds",
    "Share",
    "Whole",
]


@dataclass(frozen=True, slots=True)
class OneOf:
    """A text that is one of these; unlike Literal it leaves the static type a plain str."""

    known: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.known))


@dataclass(frozen=True, slots=True)
class _Iso8601:
    """A text that is a date and a time with its zone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(_instant, handler(source))


def _instant(text: str) -> str:
    """The text, if it is an instant; ValueError otherwise."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None or text[10:11] not in ("T", " ") or not 1970 <= found.year < 2200:
        raise ValueError("must be a time such as 2026-01-31T12:00:00+00:00")
    return text


Count = Annotated[int, Ge(1), Le(2**53)]
Whole = Annotated[int, Ge(0), Le(2**53)]
Bytes = Annotated[int, Ge(0), Le(2**60)]
Flop = Annotated[int, Ge(0), Le(10**30)]
Positive = Annotated[float, Gt(0), Le(1e30)]
Factor = Annotated[float, Ge(0), Le(1e6)]
Ratio = Annotated[float, Ge(-1e-6), Le(1e6)]
Share = Annotated[float, Ge(-1e-6), Le(1 + 1e-6)]  # like Ratio of differences of floats: the last digits are not exact
Seconds = Annotated[float, Ge(-1e-9), Le(1e9)]  # likewise; 1e9 s are 31 years
Lasting = Annotated[float, Ge(1e-15), Le(1e9)]
"""Seconds that something took; what is divided by."""
Name = Annotated[str, MinLen(1), MaxLen(10_000)]
Instant = Annotated[str, _Iso8601()]
Samples = tuple[tuple[Lasting, ...], ...]
"""Seconds, shape rank x iteration."""
