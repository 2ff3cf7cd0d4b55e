# SPDX-License-Identifier: Apache-2.0
"""One line of a results file, held to its record's types: nothing is guessed, turned into another type or passed over.

The types stand in the record classes (see :mod:`commbench.results.values`); what one field alone cannot tell, such as
lengths that must agree, their ``__post_init__`` checks.
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from commbench.errors import ResultsError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["CONFIG", "built", "decoded", "finite_figures"]

CONFIG: Mapping[str, Any] = {"strict": True, "allow_inf_nan": False, "extra": "ignore"}
"""Of every record class: a key that is no field is a derived figure, which is computed anew."""

_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\u00(?:[01]|7[fF]|[89])")  # such as NUL and ESC: no SVG may have them
_MOST_DIGITS = 31  # a step's FLOP have fewer
_HUGE = re.compile(r"[eE]\+?0*\d{3}|(?<!\d)\d{32}")  # what may be too large a number; looking at each costs time


class _RefusedError(ValueError):
    """A rule that json itself does not have."""


def decoded(line: str, place: str) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        ResultsError: it is not whole, names a key twice, or holds a number that is none; ``place`` opens the message.
    """
    try:
        numbers: dict[str, Any] = {"parse_float": _float, "parse_int": _int} if _HUGE.search(line) else {}
        data = json.loads(line, object_pairs_hook=_once_each, parse_constant=_no_number, **numbers)
    except json.JSONDecodeError as error:
        # what begins as an object and stops before its end
        what = "the line was cut" if line.lstrip().startswith("{") else "records are JSON objects, one a line"
        raise ResultsError(
            f"{place}: not a whole JSON object ({error.msg} at column {error.colno}); {what}"
        ) from None
    except _RefusedError as error:
        raise ResultsError(f"{place}: {error}") from None
    except RecursionError:
        raise ResultsError(f"{place}: lists or objects stand inside each other too deep for a record") from None
    if "\\u00" in line and _CONTROL.search(line):
        raise ResultsError(f"{place}: a text holds a control character, such as \\u0000 or \\u001b")
    if not isinstance(data, dict):
        raise ResultsError(f"{place}: kind {reprlib.repr(data)} is unknown; records are JSON objects, one a line")
    return data


def built(cls: type, line: str, place: str) -> Any:
    """The record of a line that :func:`decoded` took.

    Raises:
        ResultsError: a field is missing or breaks a rule; names the key, its value and the rule.
    """
    from pydantic import ValidationError

    try:
        return _adapter(cls).validate_json(line)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        # what is there and wrong says more than what is not there
        first = next((p for p in problems if p["type"] != "missing"), problems[0])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ResultsError(f"{place}: {_sentence(cls, first)}{more}") from None


def finite_figures(figures: Mapping[str, Any]) -> bool:
    """Whether all derived figures are numbers that JSON has."""
    return all(math.isfinite(value) for value in figures.values() if isinstance(value, float))


@cache
def _adapter(cls: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _sentence(cls: Any, problem: Mapping[str, Any]) -> str:
    """What is wrong: key, value, rule."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if problem["type"] == "missing":
        return f"a {cls.kind} record misses a field: {key}"
    if problem["type"] == "json_invalid" and "hex escape" in rule:
        rule = "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    if not key or problem["type"] == "json_invalid":
        return f"a {cls.kind} record: {rule}"
    what = "has the wrong type: " if problem["type"].endswith("_type") else ""
    return f"{key} {reprlib.repr(problem['input'])} {what}{rule}"


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f"key {twice!r} stands twice in one object")
    return found


def _no_number(text: str) -> float:
    raise _RefusedError(f"{text} is no number of a record")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _RefusedError(f"{reprlib.repr(text)} is larger than any number of a record")
    return value


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise _RefusedError(f"{reprlib.repr(text)} is larger than any number of a record")
    return int(text)
