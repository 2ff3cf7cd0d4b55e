# SPDX-License-Identifier: Apache-2.0
"""Chakra's traces as they are kept (``.et``): protobuf messages, each behind its length; the metadata, then the nodes.

Fields by number are those of schema/protobuf/et_def.proto (github.com/mlcommons/chakra, 1.1.0); the encoding is
protobuf's own (protobuf.dev, "Encoding"). What comes out is what the JSON form would have held.
"""

from collections.abc import Iterator
from typing import Any

from commbench.errors import InputError

__all__ = ["chakra_documents"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPES = (
    "INVALID_NODE", "METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE",
    "COMM_RECV_NODE", "COMM_COLL_NODE",
)  # fmt: skip
_SIGNED, _ZIGZAG, _BOOL, _TEXT = (7, 9), (15, 17), 27, 29  # fields of an attribute that hold one value of these kinds
_UNSIGNED = (11, 13, 19, 21)
_LONGEST = 10  # bytes of a varint of 64 bits

Field = tuple[int, Any]
"""Number, and an int or bytes."""


class _BrokenError(Exception):
    """Why a message is none."""


def chakra_documents(raw: bytes, source: str) -> list[dict[str, Any]]:
    """The messages of a file, the metadata first.

    Raises:
        InputError: it is cut in the middle, or no such file; names the byte where the message begins.
    """
    found: list[dict[str, Any]] = []
    begin = 0
    try:
        while begin < len(raw):
            size, at = _varint(raw, begin)
            if at + size > len(raw):
                raise _BrokenError("the file ends in the middle of a message: copy it again")
            message = list(_fields(raw[at : at + size]))
            found.append(_node(message) if found else {"version": _text(dict(message).get(1))})
            begin = at + size
    except _BrokenError as broken:
        raise InputError(f"{source}, byte {begin}: is no trace in Chakra's binary form: {broken}") from None
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for place, byte in enumerate(raw[at : at + _LONGEST]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & 2**64 - 1, at + place + 1
    raise _BrokenError("a number that does not end")


def _fields(raw: bytes) -> Iterator[Field]:
    """The fields of a message."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        wire, number = tag & 7, tag >> 3
        if wire == _VARINT:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(raw, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise _BrokenError(f"a field of kind {wire}")
        if at + size > len(raw):
            raise _BrokenError("a field that is longer than its message")
        part = raw[at : at + size]
        yield number, part if wire == _BYTES else int.from_bytes(part, "little")
        at += size


def _node(message: list[Field]) -> dict[str, Any]:
    node: dict[str, Any] = {"id": 0, "name": "", "type": 0, "ctrl_deps": [], "data_deps": [], "attr": []}
    names = {1: "id", 3: "type", 7: "duration_micros"}
    for number, value in message:
        if number in names and isinstance(value, int):
            node[names[number]] = value
        elif number == 2:
            node["name"] = _text(value)
        elif number in (4, 5):
            node["ctrl_deps" if number == 4 else "data_deps"] += _numbers(value)
        elif number == 10 and isinstance(value, bytes):
            node["attr"].append(_attribute(list(_fields(value))))
    kind = node["type"]
    node["type"] = _TYPES[kind] if kind < len(_TYPES) else str(kind)
    return node


def _numbers(value: int | bytes) -> list[int]:
    """One of a repeated number, or all of them packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def _attribute(message: list[Field]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": ""}
    for number, value in message:
        if number == 1:
            found["name"] = _text(value)
        elif number in (*_SIGNED, *_ZIGZAG, *_UNSIGNED, _BOOL) and isinstance(value, int):
            found["value"] = _value(number, value)
        elif number == _TEXT:
            found["value"] = _text(value)
    return found


def _value(number: int, value: int) -> int | bool:
    if number in _SIGNED:
        return value - 2**64 if value >= 2**63 else value
    if number in _ZIGZAG:
        return (value >> 1) ^ -(value & 1)
    return bool(value) if number == _BOOL else value


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
