# SPDX-License-Identifier: Apache-2.0
"""What pydantic says of a file's content, in the words of people: line, key path, value, rule, what to type."""

from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import TYPE_CHECKING

from pydantic import ValidationError

from commbench.errors import did_you_mean
from commbench.topology.keys import KEYS, Key
from commbench.topology.sections import Unknown
from commbench.yaml_reader import Document, problems_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["explained", "explained_rule"]

_TAGS = ("kind", "wiring")  # keys whose value says which section stands there; pydantic puts it into its paths
_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
}
_shown = Repr()
_shown.maxstring = _shown.maxother = 60
_shown.maxdict = _shown.maxlist = 3


def explained(error: ValidationError, file: Document, host: str = "", keys: Mapping[str, Key] = KEYS) -> str:
    """All that is wrong with a file, as the text of one error.

    Args:
        error, file: what pydantic says of which file. host: why the host that it names is not there.
        keys: of its keys those that have an example.
    """
    found: dict[tuple[int, str], str] = {}  # what stands behind an alias is wrong once, wherever it is used
    for one in error.errors(include_url=False):
        missing = host and one["loc"][:1] == ("host",)
        line, problem = (file.line(["host"]), f"host: {host}") if missing else _problem(one, file, keys)
        found.setdefault((line, problem.partition(": ")[2]), problem)
    return problems_text(file.shown, [(line, problem) for (line, _), problem in found.items()])


def explained_rule(file: Document, rule: str) -> tuple[int, str]:
    """Line and text of a rule that starts with the path of the key that breaks it, such as "fabric.hosts: 18 is"."""
    return file.line(rule.partition(": ")[0].split(".")), rule


def _problem(error: "ErrorDetails", file: Document, keys: Mapping[str, Key]) -> tuple[int, str]:
    if error["type"] == "rule" and ": " in error["msg"]:
        return explained_rule(file, error["msg"])
    path, context = _in_file(error["loc"], file), error.get("ctx", {})
    if error["type"].startswith("union_tag"):
        path = [*path, str(context["discriminator"]).strip("'")]
    place = ".".join(map(str, path))
    return file.line(path), f"{place}: {_rule(error, str(path[-1]) if path else '', keys)}" if place else error["msg"]


def _in_file(location: Sequence[str | int], file: Document) -> list[str | int]:
    """The path of keys that stand in the file, and of those that are missing from it."""
    here: object = file.data
    path: list[str | int] = []
    for step in location:
        if isinstance(here, dict) and step not in here and step in (here.get(tag) for tag in _TAGS):
            continue
        if isinstance(here, str | int | float):  # the short form of a number, which has no keys
            break
        path.append(step)
        if isinstance(here, dict):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
    return path


def _rule(error: "ErrorDetails", key: str, keys: Mapping[str, Key]) -> str:
    """Value and rule of one error at this key, and what to type."""
    kind, value, context = error["type"], _shown.repr(error["input"]), error.get("ctx", {})
    hint = f", for example `{keys[key].example}`" if key in keys else ""
    match kind:
        case "extra_forbidden":
            return _unknown(key, error["input"])
        case "missing" | "union_tag_not_found":
            return f"missing; every key must be given, there are no defaults{hint}"
        case "union_tag_invalid":
            return f"{context['tag']!r}: must be one of {context['expected_tags']}"
        case "quantity" | "rule":
            return error["msg"]
        case "greater_than_equal":
            return f"{value}: must be at least {context['ge']:,}"
        case "less_than_equal":
            return f"{value}: must be at most {context['le']:,}, the most that {key!r} may be"
        case "greater_than":
            return f"{value}: must be above {context['gt']}"
        case "too_long":
            return f"{len(error['input']):,} entries: must be at most {context['max_length']:,}, the most of {key!r}"
        case "literal_error" | "enum":
            return f"{value}: must be {context['expected']}"
        case _ if kind in _TYPES:
            return f"{value}: {_TYPES[kind]}{hint}"
        case _:
            return f"{value}: {error['msg'][0].lower()}{error['msg'][1:]}{hint if kind == 'not_a_mapping' else ''}"


def _unknown(key: str, stands: object) -> str:
    known = stands.known if isinstance(stands, Unknown) else ""
    return f"unknown key; {did_you_mean(key, known.split(', '))}known keys here: {known}"
