# SPDX-License-Identifier: Apache-2.0
"""What the fields of records may hold, as types: a record that was read has been held to them.

Each is a plain type with bounds beside it (a class below), which pydantic reads when a line is read (results.strict).
The bounds are wide: they keep out what no machine does and what arithmetic cannot carry.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

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
    "Within",
]


class Within:
    """Bounds of a number, or of the length of a text or list: ge, gt, le, min_length, max_length.

    Those of ``annotated_types`` take longer to load than all records.
    """

    __slots__ = ("bounds",)

    def __init__(self, **bounds: float) -> None:
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        schema: Any = handler(source)
        return {**schema, **self.bounds}


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


Count = Annotated[int, Within(ge=1, le=2**53)]
Whole = Annotated[int, Within(ge=0, le=2**53)]
Bytes = Annotated[int, Within(ge=0, le=2**60)]
Flop = Annotated[int, Within(ge=0, le=10**30)]
Positive = Annotated[float, Within(gt=0, le=1e30)]
Factor = Annotated[float, Within(ge=0, le=1e6)]
Ratio = Annotated[float, Within(ge=-1e-6, le=1e6)]
Share = Annotated[float, Within(ge=-1e-6, le=1 + 1e-6)]  # like Ratio of differences of floats, not exact
Seconds = Annotated[float, Within(ge=-1e-9, le=1e9)]  # likewise; 1e9 s are 31 years
Lasting = Annotated[float, Within(ge=1e-15, le=1e9)]
"""Seconds that something took; what is divided by."""
Name = Annotated[str, Within(min_length=1, max_length=10_000)]
Instant = Annotated[str, _Iso8601()]
Samples = tuple[tuple[Lasting, ...], ...]
"""Seconds, shape rank x iteration."""
