# SPDX-License-Identifier: Apache-2.0
"""Dumps of torch's flight recorder: a ring buffer of the collectives of one rank, as JSON or as a pickle.

What a dump holds is described in torch/distributed/flight_recorder (torch 2.13) and docs of TORCH_FR_DUMP_TEMP_FILE. A
pickle may run anything when it is read: here only dicts, lists, tuples, text and numbers are, and whatever names a
class or a function is refused before anything is made of it.
"""

import ast
import io
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from commbench.errors import InputError

__all__ = ["FlightDump", "FlightEntry", "is_dump", "read_dump"]

_MOST_BYTES = 2**30
_MOST_RANKS = 2**20


@dataclass(frozen=True, slots=True)
class FlightEntry:
    """One collective that a rank called.

    Attributes:
        group: name of the process group. sequence: its number there. name: such as "all_reduce".
        sizes, dtypes: of its inputs and outputs. state: "scheduled", "started" or "completed".
    """

    group: str
    sequence: int
    name: str
    sizes: str
    dtypes: str
    state: str


@dataclass(frozen=True, slots=True)
class FlightDump:
    """What one rank recorded.

    Attributes:
        rank: in the world. source: the file. entries: collectives, in the order of their calls. pairwise: entries of
            sends and receives, which are not among them.
        members: ranks of every group that it knows.
    """

    rank: int
    source: str
    entries: tuple[FlightEntry, ...]
    pairwise: int
    members: Mapping[str, tuple[int, ...]]


class _NotPlainError(Exception):
    """A pickle asks for more than plain values."""


class _Plain(pickle.Unpickler):
    """Takes containers, text and numbers, which need no class by name."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse: whatever has a name may run code."""
        raise _NotPlainError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        """Refuse likewise."""
        raise _NotPlainError("it refers to something outside of itself")


def is_dump(head: bytes) -> bool:
    """Whether a file that begins so is a dump: a pickle, or JSON with a dump's keys."""
    return head[:1] == b"\x80" or (head.lstrip()[:1] == b"{" and b'"entries"' in head and b'"pg_config"' in head)


def read_dump(path: Path) -> FlightDump:
    """The dump of one rank.

    Raises:
        InputError: the file cannot be read, is none, holds more than plain containers, or does not tell its rank.
    """
    document = _document(path)
    if not isinstance(document, dict) or not isinstance(document.get("entries"), list):
        raise InputError(f"{path}: is no dump of torch's flight recorder: it has no list of entries")
    rank = _rank(document, path)
    entries = [one for one in document["entries"] if isinstance(one, dict)]
    try:
        found = [_entry(one) for one in entries if not one.get("is_p2p")]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: an entry has no {error} as torch writes it, from torch 2.4 on") from None
    return FlightDump(rank, str(path), tuple(found), len(entries) - len(found), _members(document, path))


def _document(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: more than 1 GiB, which is no dump of a flight recorder")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if data[:1] != b"\x80":
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is no whole JSON: {error}") from None
    try:
        return _Plain(io.BytesIO(data)).load()
    except _NotPlainError as error:
        raise InputError(
            f"{path}: a dump holds dicts, lists, text and numbers alone, but {error}; it is not read, as that could "
            "run anything"
        ) from None
    except Exception as error:  # a cut pickle raises whatever its last instruction does
        raise InputError(f"{path}: is no whole pickle: {type(error).__name__}: {error}") from None


def _rank(document: Mapping[str, Any], path: Path) -> int:
    """As the dump tells it, else the number at the end of the file's name, as torch names its dumps."""
    told = document.get("rank")
    ending = re.search(r"(\d{1,9})(?:\.(?:pkl|pickle|json|bin))?$", path.name)
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < _MOST_RANKS:
        return told
    if ending is None or int(ending[1]) >= _MOST_RANKS:
        raise InputError(f"{path}: tells no rank; name it as torch does, with its rank at the end (trace_0, trace_1)")
    return int(ending[1])


def _entry(one: Mapping[str, Any]) -> FlightEntry:
    group = one["process_group"]
    return FlightEntry(
        group=str(group[0] if isinstance(group, list | tuple) else group),
        sequence=int(one["collective_seq_id"]),
        name=str(one["profiling_name"]).rpartition(":")[2],
        sizes=f"{_shown(one.get('input_sizes'))} -> {_shown(one.get('output_sizes'))}",
        dtypes=f"{_shown(one.get('input_dtypes'))} -> {_shown(one.get('output_dtypes'))}",
        state=str(one["state"]),
    )


def _shown(value: Any) -> str:
    return json.dumps(value, default=str).replace('"', "") if value is not None else "[]"


def _members(document: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Ranks of every group; torch writes them as text."""
    config = document.get("pg_config")
    found = {}
    for key, one in (config.items() if isinstance(config, dict) else ()):
        ranks = one.get("ranks") if isinstance(one, dict) else None
        try:
            listed = ast.literal_eval(ranks) if isinstance(ranks, str) and ranks.strip() else ranks
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise InputError(f"{path}: pg_config {key}: ranks {str(ranks)[:40]!r} is no list of numbers") from None
        if isinstance(listed, Sequence) and all(type(rank) is int and 0 <= rank < _MOST_RANKS for rank in listed):
            found[str(one.get("name", key))] = tuple(listed)
    return found
