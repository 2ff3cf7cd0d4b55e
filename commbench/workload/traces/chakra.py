# SPDX-License-Identifier: Apache-2.0
"""Execution traces of MLCommons Chakra: nodes with their dependencies, as their JSON form (``chakra_jsonizer``) or
:mod:`chakra_binary <commbench.workload.traces.chakra_binary>` has them.

Compute nodes last as long as they say; a collective's ``comm_size`` is taken as the full buffer's bytes. Memory nodes
are compute of their duration. Nodes wait for all that they name. Of those that compute one runs at a time, what waits
for fewer collectives first, then the lowest number; collectives run as soon as they can.
"""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from commbench.errors import InputError
from commbench.workload.traces.recorded import RecordedCollective, RecordedOperation, RecordedTrace

__all__ = ["read_chakra"]

_KINDS = (  # of schema/protobuf/et_def.proto, enum CollectiveCommType, by number
    "all-reduce", "reduce", "all-gather", "gather", "scatter", "broadcast", "all-to-all", "reduce-scatter",
    "reduce-scatter", "barrier",
)  # fmt: skip
_NAMES = (
    "ALL_REDUCE", "REDUCE", "ALL_GATHER", "GATHER", "SCATTER", "BROADCAST", "ALL_TO_ALL", "REDUCE_SCATTER",
    "REDUCE_SCATTER_BLOCK", "BARRIER",
)  # fmt: skip
_TYPES = ("METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE", "COMM_RECV_NODE")
_COLLECTIVE = "COMM_COLL_NODE"
_MOST_US = 10**12


def read_chakra(documents: Sequence[Mapping[str, Any]], source: str) -> RecordedTrace:
    """A trace from its JSON objects: the metadata first, then the nodes.

    Raises:
        InputError: a node of an unknown type, without a number, that waits for one that is not there or for itself
            in the end, transfers between ranks, or no time at all; names the node.
    """
    nodes = {}
    for document in documents:
        if "type" in document:
            nodes[_whole(document, "id", f"{source}: a node")] = document
    if not nodes:
        raise InputError(f"{source}: holds no nodes, as Chakra's traces do (id, type, data_deps ...)")
    ordered = _ordered(nodes, source)
    place = {number: i for i, number in enumerate(ordered)}
    operations, sizes = [], 0
    for number in ordered:
        node = nodes[number]
        kind, where = str(node["type"]), f"{source}: node {number}"
        if kind not in (*_TYPES, _COLLECTIVE):
            raise InputError(f"{where} has type {kind[:40]!r}; known: {', '.join((*_TYPES, _COLLECTIVE))}")
        if kind in ("COMM_SEND_NODE", "COMM_RECV_NODE"):
            raise InputError(f"{where} is a transfer, whose partner's trace is another file; not read")
        lasts = _whole(node, "duration_micros", where, 0)
        if lasts > _MOST_US:
            raise InputError(f"{where}: duration_micros {lasts} is more than {_MOST_US:,}")
        collective = _collective(node, where) if kind == _COLLECTIVE else None
        sizes += collective is not None
        operations.append(
            RecordedOperation(
                name=str(node.get("name", ""))[:200],
                stream="compute" if collective is None else f"collective {number}",
                duration_ps=lasts * 10**6,
                after=tuple(place[other] for other in _waits(node, where)),
                collective=collective,
            )
        )
    computes = any(node["type"] == "COMP_NODE" for node in nodes.values())
    if not any(one.duration_ps for one in operations) and (computes or not sizes):
        raise InputError(f"{source}: no node says how long it computes (duration_micros): there is nothing to simulate")
    notes = ["it is of one rank: all others are taken to do the same at the same time"]
    if sizes:
        notes.append("which ranks a collective is among is not said: all take part; sizes are taken as full buffers")
    return RecordedTrace(
        source=source, kind="chakra", rank=0, world=0, operations=tuple(operations), notes=tuple(notes)
    )


def _get(node: Mapping[str, Any], key: str) -> Any:
    """By its name in the schema, or in the JSON of protobuf (dataDeps)."""
    head, *rest = key.split("_")
    return node.get(key, node.get(head + "".join(part.title() for part in rest)))


def _whole(node: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    """A whole number, which JSON of protobuf writes as text where it has 64 bits."""
    value = _get(node, key)
    if value is None and default is not None:
        return default
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 20:
        raise InputError(f"{where}: {key} = {text[:40]!r} must be a whole number")
    return int(text)


def _waits(node: Mapping[str, Any], where: str) -> list[int]:
    found: list[int] = []
    for key in ("data_deps", "ctrl_deps"):
        given = _get(node, key) or []
        if not isinstance(given, list):
            raise InputError(f"{where}: {key} must be a list of nodes")
        found += [_whole({"id": one}, "id", f"{where}: {key}") for one in given]
    return sorted(set(found))


def _ordered(nodes: Mapping[int, Mapping[str, Any]], source: str) -> list[int]:
    """Numbers in an order in which every node stands behind those that it waits for."""
    waits = {number: _waits(node, f"{source}: node {number}") for number, node in nodes.items()}
    for number, others in waits.items():
        for other in others:
            if other not in nodes:
                raise InputError(f"{source}: node {number} waits for node {other}, which is not there; is it cut?")
    followers: dict[int, list[int]] = {number: [] for number in nodes}
    open_ = {number: len(others) for number, others in waits.items()}
    for number, others in waits.items():
        for other in others:
            followers[other].append(number)
    ready, found = sorted(number for number, count in open_.items() if not count), list[int]()
    while ready:
        number = heappop(ready)
        found.append(number)
        for follower in followers[number]:
            open_[follower] -= 1
            if not open_[follower]:
                heappush(ready, follower)
    if len(found) < len(nodes):
        stuck = min(number for number, count in open_.items() if count)
        raise InputError(f"{source}: node {stuck} waits for itself in the end, by what its dependencies wait for")
    behind: dict[int, int] = {}  # collectives on the longest way to a node
    for number in found:
        before = [behind[other] + (nodes[other]["type"] == _COLLECTIVE) for other in waits[number]]
        behind[number] = max(before, default=0)
    return sorted(found, key=behind.__getitem__)


def _attributes(node: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes by name: of each the one value that it has."""
    found = {}
    given = node.get("attr")
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict):
            values = [value for key, value in one.items() if key not in ("name", "docString")]
            found[str(one.get("name"))] = values[0] if values else None
    return found


def _collective(node: Mapping[str, Any], where: str) -> RecordedCollective:
    attributes = _attributes(node)
    named = str(attributes.get("comm_type", ""))
    number = _NAMES.index(named) if named in _NAMES else _whole(attributes, "comm_type", where)
    if number >= len(_KINDS):
        raise InputError(f"{where}: comm_type {number} is unknown; known: 0 to {len(_KINDS) - 1}")
    least = 0 if _KINDS[number] == "barrier" else None
    size = _whole(attributes, "comm_size", f"{where}: a collective without a size", least)
    return RecordedCollective(kind=_KINDS[number], num_elements=size, element_bytes=1)
