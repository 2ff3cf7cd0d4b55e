# SPDX-License-Identifier: Apache-2.0
"""Which program wrote a trace, and its reader: torch.profiler (Kineto) or Chakra (binary or JSON); any of them .gz."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.workload.traces.chakra import read_chakra
from commbench.workload.traces.chakra_binary import chakra_documents
from commbench.workload.traces.kineto import read_kineto
from commbench.workload.traces.recorded import RecordedTrace

__all__ = ["read_trace"]

_MOST_BYTES = 2 * 2**30
_HEAD = 4096  # bytes by which text is told from protobuf, each of whose nodes has tags that are control characters
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f")


def read_trace(path: Path) -> RecordedTrace:
    """A trace of one rank.

    Raises:
        InputError: the file cannot be read, is cut in the middle, or is none that is known; names file, line and what
            to give instead.
    """
    raw = _bytes(path)
    if _CONTROL.intersection(raw[:_HEAD]):
        return read_chakra(chakra_documents(raw, str(path)), str(path))
    documents = _documents(_text(raw, str(path)), str(path))
    first = documents[0]
    if isinstance(first, dict) and isinstance(first.get("traceEvents"), list):
        return read_kineto(first, str(path))
    every = first if isinstance(first, list) and len(documents) == 1 else documents
    if all(isinstance(one, dict) for one in every) and any("type" in one and "id" in one for one in every):
        return read_chakra(every, str(path))
    raise InputError(
        f"{path}: is no trace that is known: torch.profiler's has traceEvents (export_chrome_trace), Chakra's JSON "
        "form nodes with id and type (chakra_jsonizer), its binary form is .et"
    )


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                raw = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(raw) > _MOST_BYTES:
        raise InputError(f"{path}: is more than {_MOST_BYTES // 2**30} GiB; profile fewer steps")
    return raw


def _text(raw: bytes, source: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{source}, byte {error.start}: is no text, which JSON is") from None


def _documents(text: str, source: str) -> list[Any]:
    """The JSON values of a file, one behind the other."""
    decoder, found, at = json.JSONDecoder(), list[Any](), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            position = getattr(error, "pos", at)
            line, rest = text.count("\n", 0, position) + 1, text[position:].strip()
            if found or text[:1] in "{[":
                cut = "; the file ends there, as if it had been cut: export the trace again" if len(rest) < 2 else ""
                said = getattr(error, "msg", "nested too deeply")
                raise InputError(f"{source}, line {line}: is no JSON: {said}{cut}") from None
            raise InputError(f"{source}: is no JSON, which traces are written in") from None
        found.append(one)
    if not found:
        raise InputError(f"{source}: is empty")
    return found
