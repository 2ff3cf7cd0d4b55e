# SPDX-License-Identifier: Apache-2.0
"""The one way in which files of YAML are read: strictly, within bounds, and with the line of every key.

What YAML 1.1 reads otherwise than people mean it is read as YAML 1.2 does or refused. ``010`` is ten and ``1e3`` a
thousand; ``1:20`` and ``2026-01-31`` are text; ``yes``, ``no``, ``on`` and ``off`` are refused, for they are true or
false to some readers and text to others. A key that stands twice, be it as ``a-b`` and ``a_b``, is refused with both
lines. A file may have :data:`MOST_BYTES`, :data:`MOST_DEPTH` levels and :data:`MOST_NODES` keys and values, where those
behind an alias count each time that it is used.
"""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml

from commbench.errors import CommbenchError

__all__ = ["MOST_BYTES", "MOST_DEPTH", "MOST_NODES", "Document", "problems_text", "read_yaml"]

MOST_BYTES = 2**20
MOST_DEPTH = 32
MOST_NODES = 20_000
_MOST_LISTED = 20
_MOST_SHOWN = 40

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INT = re.compile(r"[-+]?\d[\d_]*")
_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_OTHER_BASE = re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_UNCLEAR = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A file's content.

    Attributes:
        data: the mapping that the file is; keys are text, values are text, whole numbers below 2^63, finite numbers,
            true, false, None, lists and mappings.
        shown: the file's name as errors give it.
    """

    data: dict[str, Any]
    shown: str
    _root: yaml.MappingNode = field(repr=False)

    def line(self, path: Sequence[str | int]) -> int:
        """The line, from 1, on which the key at this path stands, or that of the nearest one that holds it."""
        node: yaml.Node = self._root
        line = node.start_mark.line
        for step in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
            else:
                break
        return line + 1


def read_yaml(
    path: Path,
    error: type[CommbenchError],
    *,
    example: str = "",
    shown: str = "",
    words: Mapping[str, str] = MappingProxyType({}),
) -> Document:
    """Read a file that is one mapping.

    Args:
        path: the file.
        error: raised for whatever is wrong.
        example: a line of such a file, for the error where it is no mapping.
        shown: the file's name for errors, the path unless given.
        words: of keys that are neither text of any kind nor true or false, what they may be; for errors.

    Raises:
        CommbenchError: of the type ``error``. Names file, line, value and rule; all that is wrong, unless the file is
            no YAML at all.
    """
    shown = shown or str(path)
    text, builder = _text(path, shown, error), _Builder(words)
    try:
        root = _composed(text)
        data = {} if root is None else builder.value(root)
    except _BoundError as wrong:
        raise error(f"{shown}: {_in_words(wrong)}") from None
    except yaml.YAMLError as wrong:
        raise error(f"{shown}: not YAML: {_in_words(wrong)}") from None
    except (ValueError, OverflowError):  # PyYAML lets it through
        raise error(f"{shown}: not YAML: an escape such as \\U stands for no character") from None
    if builder.problems:
        raise error(problems_text(shown, builder.problems))
    if not isinstance(root, yaml.MappingNode):
        raise error(f"{shown}: must be a mapping of keys{f', for example `{example}`' if example else ''}")
    return Document(data, shown, root)


def problems_text(shown: str, problems: Sequence[tuple[int, str]]) -> str:
    """All that is wrong with a file as the text of one error: one line for one problem, else a line for each.

    Args:
        shown: the file's name.
        problems: line in the file and what is wrong there; given in the order of the lines.
    """
    lines = [f"line {line}: {problem}" for line, problem in sorted(dict.fromkeys(problems))]
    if len(lines) == 1:
        return f"{shown}: {lines[0]}"
    more = [f"and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "\n  ".join([f"{shown}: {len(lines)} errors", *lines[:_MOST_LISTED], *more])


def _text(path: Path, shown: str, error: type[CommbenchError]) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as wrong:
        raise error(f"{shown}: cannot be read: {getattr(wrong, 'strerror', None) or wrong}") from None
    if len(data) > MOST_BYTES:
        raise error(f"{shown}: has more than {MOST_BYTES} bytes, the most that such a file may have")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise error(f"{shown}: line {line}: is not UTF-8 text (byte {data[wrong.start]:#04x})") from None


class _BoundError(yaml.MarkedYAMLError):
    """YAML, but not of the kind that is read here; ends the reading."""


class _Bounds(yaml.composer.Composer):
    """Nodes within bounds and without tags, of whatever parses."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]  # of the parser beside it
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _refusal(f"more than {MOST_NODES} keys and values, the most of a file", event)
        if self.depth > MOST_DEPTH:
            raise _refusal(f"more than {MOST_DEPTH} levels, the most of a file", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tags such as {_short(event.tag)} are not read; leave it out", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Composer(_Bounds, yaml.SafeLoader):
    """By PyYAML's own parser, whose words on what is wrong are those that people read."""


def _composed(text: str) -> yaml.Node | None:
    """The root of a text: by libyaml where PyYAML has it, five times as fast; what that refuses the other judges."""
    if yaml.__with_libyaml__:
        with suppress(yaml.YAMLError, ValueError, OverflowError):
            root: yaml.Node | None = _fast_composer()(text).get_single_node()
            return root
    return _Composer(text).get_single_node()


@cache
def _fast_composer() -> Any:
    from yaml._yaml import CParser

    class Composer(_Bounds, CParser, yaml.resolver.Resolver):
        """By libyaml's parser."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            yaml.composer.Composer.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Composer


class _Builder:
    """From nodes to values; what is wrong and can be passed over is kept in ``problems`` as (line, what)."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self.words = words
        self.problems: list[tuple[int, str]] = []
        self.nodes = 0
        self.open: list[yaml.Node] = []

    def value(self, node: yaml.Node, *path: str) -> Any:
        """What a node at this key path says."""
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _refusal(f"aliases make more than {MOST_NODES} keys and values, the most of a file", node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if any(node is one for one in self.open):
            raise _refusal("this holds itself by an alias", node)
        if len(self.open) == MOST_DEPTH:
            raise _refusal(f"more than {MOST_DEPTH} levels, the most of a file", node)
        self.open.append(node)
        if isinstance(node, yaml.MappingNode):
            found: Any = self._mapping(node, path)
        else:
            found = [self.value(one, *path, str(i)) for i, one in enumerate(node.value)]
        self.open.pop()
        return found

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: dict[str, tuple[str, int]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or _CONTROL.search(key.value):
                self.problems.append((line, "a key must be text, without control characters"))
                continue
            text = str(key.value)
            if text == "<<" and not key.style:
                self.problems.append((line, "key '<<': merging is not read here; write the keys out"))
                continue
            other, first = seen.setdefault(text.replace("-", "_"), (text, line))
            if text in found:
                self.problems.append((line, f"key {_short(text)} is given twice, first in line {first}; keep one"))
            elif other != text:
                again = f"key {_short(text)} is {_short(other)} of line {first} again; keep one"
                self.problems.append((line, again))
            found[text] = self.value(value, *path, text)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> Any:
        text = str(node.value)
        try:
            if not node.style and text.lower() in _UNCLEAR and path[-1].replace("-", "_") in self.words:
                raise ValueError(f"must be {self.words[path[-1].replace('-', '_')]}")
            return _plain(text) if not node.style else _without_control(text)
        except ValueError as wrong:
            place = ".".join(_clipped(key) for key in path)
            self.problems.append((node.start_mark.line + 1, f"{place}: {_short(text)}: {wrong}"))
            return None


def _plain(text: str) -> Any:
    """A value that stands without quotes, as YAML 1.2 reads it; ValueError says what to type instead."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.lower() in _UNCLEAR:
        raise ValueError(f"type {_UNCLEAR[text.lower()]}, or put it in quotes if it is text")
    if _OTHER_BASE.fullmatch(text):
        raise ValueError("type the number in decimal digits, or put it in quotes if it is text")
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("must be a finite number")
    whole = _INT.fullmatch(text) is not None
    if not whole and not _FLOAT.fullmatch(text):
        return _without_control(text)
    rule = "is too large, numbers end at 2^63; put it in quotes if it is text"
    if whole and len(text) > _MOST_SHOWN:
        raise ValueError(rule)
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        raise ValueError("is no number; put it in quotes if it is text") from None
    if not (abs(number) < 2**63 if whole else math.isfinite(number)):
        raise ValueError(rule)
    return number


def _without_control(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("text must not hold control characters")
    return text


def _clipped(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN // 2]}...{text[-8:]}"


def _short(text: str) -> str:
    return repr(_clipped(text))


def _refusal(problem: str, where: yaml.Event | yaml.Node) -> "_BoundError":
    return _BoundError(problem=problem, problem_mark=cast(Any, where.start_mark))


def _in_words(wrong: yaml.YAMLError) -> str:
    """What PyYAML says, with its line, on one line."""
    if isinstance(wrong, yaml.MarkedYAMLError) and wrong.problem:
        mark = wrong.problem_mark or wrong.context_mark
        words = f"line {mark.line + 1}: {wrong.problem}" if mark else wrong.problem
        return " ".join(f"{words} ({wrong.context})".split() if wrong.context else words.split())
    return " ".join(str(wrong).split())
