# SPDX-License-Identifier: Apache-2.0
"""Options by name from a mapping of a YAML file: strictly, and with the line of every key that is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, get_args, get_type_hints

from commbench.errors import InputError, unknown

__all__ = ["KeyPath", "read_keys", "refuse_unknown"]

KeyPath = tuple[str | int, ...]
"""Of a value in a file, as ``yaml_reader.Document.line`` takes it."""

_MOST_SHOWN = 40
_TYPES = {int: "a whole number", float: "a number", str: "text (in quotes)", bool: "true or false"}


def read_keys(
    cls: type,
    found: Iterable[tuple[KeyPath, object]],
    problems: list[tuple[KeyPath, str]],
    must: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Values for the fields of a class of options, by the last key of each path; what is wrong goes to ``problems``.

    ``must``: of options with few values what they may be, where something of another type stands.
    """
    known = get_type_hints(cls)
    values: dict[str, Any] = {}
    for path, value in found:
        key = str(next(step for step in reversed(path) if isinstance(step, str)))
        name = key.replace("-", "_")
        try:
            if name not in known:
                refuse_unknown(key, list(known))
            values[name] = _typed(key, value, known[name], must.get(name))
        except InputError as error:
            problems.append((path, str(error)))
    return values


def refuse_unknown(key: str, known: Sequence[str]) -> NoReturn:
    """Say that there is no such key, which there are, and which is near.

    Raises:
        InputError: always.
    """
    shown = key if len(key) <= _MOST_SHOWN else f"{key[:_MOST_SHOWN]}..."
    raise InputError(f"key {shown!r} {unknown(key, [name.replace('_', '-') for name in known])}")


def _typed(place: str, value: object, wanted: Any, must: str | None) -> object:
    types = [one for one in (get_args(wanted) or (wanted,)) if one is not type(None)]
    if str in types and isinstance(value, list):  # layers: [6, 6]
        return ",".join(map(str, value))
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (bool in types) or not isinstance(value, tuple(types)):
        shown = repr(value) if len(repr(value)) <= _MOST_SHOWN else f"{repr(value)[:_MOST_SHOWN]}..."
        raise InputError(f"{place}: {shown} must be {must or _TYPES[types[0]]}")
    return value
