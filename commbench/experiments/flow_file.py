# SPDX-License-Identifier: Apache-2.0
"""Flows as people write them down: a table (CSV), a connection matrix of htsim, or an incast in a word.

::

    src,dst,bytes,start          Nodes 16
    0,15,2M,0 us                 Connections 2
    1,15,2M,10 us                0->15 id 1 start 0 size 2000000 send_done_trigger 1
                                 15->1 id 2 trigger 1 size 64000
                                 trigger id 1 oneshot

A connection matrix tells starts in picoseconds and sizes in bytes, as csg-htsim reads them.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path

from commbench.errors import InputError
from commbench.units import parse_duration_ps, parse_size

__all__ = ["INCAST", "Flow", "read_flows"]

INCAST = "incast:"

_COLUMNS = ["src", "dst", "bytes", "start"]
_MOST_FLOWS = 10**6


@dataclass(frozen=True, slots=True)
class Flow:
    """``num_bytes`` from rank ``src`` to rank ``dst``, ``start_ps`` after all that it waits for.

    Attributes:
        after_received, after_answered: numbers of flows before it: until their last byte is there; until their sender
            knows.
    """

    src: int
    dst: int
    num_bytes: int
    start_ps: int = 0
    after_received: tuple[int, ...] = ()
    after_answered: tuple[int, ...] = ()


def read_flows(source: str) -> list[Flow]:
    """The flows of a file, or of ``incast:SENDERS,SIZE``: ranks 1 to SENDERS each send SIZE to rank 0 at once.

    A flow waits for flows before it alone.

    Raises:
        InputError: not such a file; names the line, the value and the rule.
    """
    if source.startswith(INCAST):
        return _incast(source)
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise InputError(f"{source}: {why}; give a CSV, a connection matrix, or incast:SENDERS,SIZE") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"{source}: no flows in it")
    is_matrix = any("->" in line for _, line in lines)
    flows = _matrix(source, lines) if is_matrix else list(_table(source, lines))
    if not 0 < len(flows) <= _MOST_FLOWS:
        raise InputError(f"{source}: {len(flows):,} flows; there must be 1 to {_MOST_FLOWS:,}")
    return flows


def _incast(source: str) -> list[Flow]:
    senders, comma, size = source.removeprefix(INCAST).partition(",")
    if not (comma and senders.isdigit() and int(senders) > 0):
        raise InputError(f"{source}: must be incast:SENDERS,SIZE, such as incast:16,1M")
    return [Flow(sender, 0, parse_size(size)) for sender in range(1, int(senders) + 1)]


def _table(source: str, lines: list[tuple[int, str]]) -> Iterator[Flow]:
    rows = csv.reader(line for _, line in lines)
    head = [name.strip() for name in next(rows)]
    if head != _COLUMNS:
        raise InputError(f"{source}:{lines[0][0]}: the first line must be {','.join(_COLUMNS)}, not {lines[0][1]}")
    for (number, line), row in zip(lines[1:], rows, strict=True):
        place = f"{source}:{number}"
        if len(row) != len(_COLUMNS):
            raise InputError(f"{place}: {line}: must have {len(_COLUMNS)} fields, has {len(row)}")
        src, dst, size, start = (field.strip() for field in row)
        try:
            yield Flow(_rank(place, src), _rank(place, dst), parse_size(size), parse_duration_ps(start))
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None


def _rank(place: str, text: str) -> int:
    return _whole(place, "rank", text)


def _whole(place: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{place}: {key} {text!r} must be a whole number, zero or more")
    return int(text)


# Connection matrices -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trigger:
    """What starts flows: whom it waits for, received or answered."""

    kind: str = ""
    received: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)


def _matrix(source: str, lines: list[tuple[int, str]]) -> list[Flow]:
    flows: list[Flow] = []
    waits: list[tuple[str, str]] = []  # of every flow its place and the trigger that starts it, or ""
    triggers: dict[str, _Trigger] = {}
    for number, line in lines:
        place, words = f"{source}:{number}", line.split()
        if "->" in words[0]:
            _connection(place, words, flows, waits, triggers)
        elif words[0] == "trigger":
            given = _pairs(place, words[1:], ("id", "count"), ("oneshot", "multishot", "barrier"))
            kind = next((word for word in ("oneshot", "barrier") if word in given), "")
            if not kind:
                raise InputError(f"{place}: {line}: a trigger must be oneshot or barrier")
            triggers.setdefault(given.get("id", ""), _Trigger()).kind = kind
        elif words[0] not in ("Nodes", "Connections", "Triggers"):
            raise InputError(f"{place}: {line}: must be Nodes, Connections, Triggers, SRC->DST or trigger")
    return _in_order(source, [_started(one, *wait, triggers) for one, wait in zip(flows, waits, strict=True)])


def _connection(
    place: str, words: list[str], flows: list[Flow], waits: list[tuple[str, str]], triggers: dict[str, _Trigger]
) -> None:
    src, _, dst = words[0].partition("->")
    keys = ("start", "size", "id", "trigger", "send_done_trigger", "recv_done_trigger", "prio")
    given = _pairs(place, words[1:], keys, ())
    if "size" not in given or ("start" in given) == ("trigger" in given):
        raise InputError(f"{place}: {' '.join(words)}: must have a size, and either a start or a trigger")
    start = given.get("start", "0")
    start_ps = _whole(place, "start", start.removesuffix(".0") or "0")
    flows.append(Flow(_rank(place, src), _rank(place, dst), _whole(place, "size", given["size"]), start_ps))
    waits.append((place, given.get("trigger", "")))
    number = len(flows) - 1
    if "recv_done_trigger" in given:
        triggers.setdefault(given["recv_done_trigger"], _Trigger()).received.append(number)
    if "send_done_trigger" in given:
        triggers.setdefault(given["send_done_trigger"], _Trigger()).answered.append(number)


def _pairs(place: str, words: list[str], keys: tuple[str, ...], flags: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in flags:
            given[word] = ""
        elif word in keys:
            given[word] = next(rest, "")
        else:
            raise InputError(f"{place}: {word!r} is unknown; known: {', '.join([*keys, *flags])}")
    return given


def _started(flow: Flow, place: str, trigger: str, triggers: dict[str, _Trigger]) -> Flow:
    if not trigger:
        return flow
    found = triggers.get(trigger)
    if found is None or not found.kind:
        raise InputError(f"{place}: trigger {trigger} is not there; add a line trigger id {trigger} oneshot")
    activators = len(found.received) + len(found.answered)
    if not activators:
        raise InputError(f"{place}: trigger {trigger} is never activated: no flow names it when it is done")
    if found.kind == "oneshot" and activators > 1:
        raise InputError(
            f"{place}: trigger {trigger} is oneshot, and {activators} flows activate it; it must be one, or a barrier"
        )
    return replace(flow, after_received=tuple(found.received), after_answered=tuple(found.answered))


def _in_order(source: str, flows: list[Flow]) -> list[Flow]:
    """The flows, each behind those that it waits for; otherwise as they stand in the file."""
    waits = [{*flow.after_received, *flow.after_answered} for flow in flows]
    missing = [len(those) for those in waits]
    dependents: list[list[int]] = [[] for _ in flows]
    for number, those in enumerate(waits):
        for before in those:
            dependents[before].append(number)
    ready = [number for number, count in enumerate(missing) if count == 0]  # ascending: a heap
    place: dict[int, int] = {}
    while ready:
        number = heappop(ready)
        place[number] = len(place)
        for waiting in dependents[number]:
            missing[waiting] -= 1
            if missing[waiting] == 0:
                heappush(ready, waiting)
    if len(place) < len(flows):
        stuck = next(number for number, count in enumerate(missing) if count)
        raise InputError(f"{source}: flow {stuck + 1} waits for itself in a circle of triggers")
    return [
        replace(
            flows[number],
            after_received=tuple(place[before] for before in flows[number].after_received),
            after_answered=tuple(place[before] for before in flows[number].after_answered),
        )
        for number in place
    ]
