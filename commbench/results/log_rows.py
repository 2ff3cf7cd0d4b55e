# SPDX-License-Identifier: Apache-2.0
"""One row of nccl-tests' table: its fields by the header's columns, held against each other.

Columns are named by the header and counted from the front, since rccl-tests appends some that no header names. What may
be missing in a row (type, redop, root; a placement that was not measured) is told by what its fields are, and by the
one rule that all rows obey: algbw = size / time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Figures", "Header", "Row", "RowError", "factor_range", "read_header", "read_row", "rounding", "sound"]

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{0,9})?(?:[eE][+-]?\d{1,2})?")
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{1,40}")
_WORD = re.compile(r"[A-Za-z]\w*")
_BODY = {"time", "cputime", "algbw", "busbw", "#wrong", "error", "i_min", "i_max", "i_p99", "i_cv%"}
_TRAILERS = {"algo": "algorithm", "algorithm": "algorithm", "proto": "protocol", "protocol": "protocol",
             "channels": "channels", "nchannels": "channels", "nch": "channels"}  # fmt: skip
_IN_PLACE_GAP = 30  # blanks that stand for a placement that was left out
_MOST_BYTES, _MOST_FIGURE = 2**60, 2**53


class RowError(ValueError):
    """A row that cannot be read: in words."""


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a table.

    Attributes:
        lead: names before the first time: size, count, and type, redop, root where it has them.
        groups: names of each placement's figures. in_place: of each placement.
        trailers: names behind the last placement.
    """

    lead: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    in_place: tuple[bool, ...]
    trailers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """One placement of a row, numbers as they stand there, in microseconds and GB/s; ``None`` for N/A."""

    in_place: bool
    time: str
    algbw: str
    busbw: str
    wrong: str | None

    @property
    def time_us(self) -> float:
        """The time."""
        return float(self.time)


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one line. ``dtype``, ``op`` and ``root`` are "" or None where the row has none."""

    size_bytes: int
    count: int
    dtype: str
    op: str
    root: int | None
    figures: tuple[Figures, ...]
    extras: Mapping[str, str] = field(default_factory=dict)


def read_header(names: Sequence[str], above: str) -> Header:
    """The columns that a header line names; ``above`` is the line over it, which names placements.

    Raises:
        RowError: it names none of what every table has.
    """
    times = [i for i, name in enumerate(names) if name in ("time", "cputime")]
    if not times or names[:2] != ["size", "count"]:
        raise RowError("the header names no size, count and time")
    ends = [*times[1:], len(names)]
    last = next((i for i in range(times[-1], len(names)) if names[i] not in _BODY), len(names))
    ends[-1] = last
    groups = tuple(tuple(names[a:b]) for a, b in zip(times, ends, strict=True))
    if any(not {"algbw", "busbw"} <= set(group) or not set(group) <= _BODY for group in groups) or len(groups) > 2:
        raise RowError(f"the header's columns are not those of nccl-tests: {' '.join(names)}")
    if any("cputime" in group for group in groups):
        raise RowError("these are launch times of the CPU (-C), not of the collective: run it without -C")
    alone = "in-place" in above and "out-of-place" not in above
    return Header(tuple(names[: times[0]]), groups, (alone, True)[: len(groups)], tuple(names[last:]))


def read_row(line: str, header: Header) -> Row:
    """The fields of a line.

    Raises:
        RowError: too few fields, or one that is not what its column asks for.
    """
    fields = line.split()
    if len(fields) < 2 or not (_INTEGER.fullmatch(fields[0]) and _INTEGER.fullmatch(fields[1])):
        raise RowError("size and count are not whole numbers")
    size, count = int(fields[0]), int(fields[1])
    if not (0 <= size <= _MOST_BYTES and 0 <= count <= _MOST_BYTES):
        raise RowError(f"size {size} or count {count} is out of range")
    words, at = {"type": "", "redop": ""}, 2
    for name in ("type", "redop"):
        if name in header.lead and at < len(fields) and _WORD.fullmatch(fields[at]):
            words[name], at = fields[at], at + 1
    found: list[tuple[int | None, tuple[Figures, ...], list[str]]] = []
    problems: list[RowError] = []
    for root, start in _roots(fields, at, header):
        try:
            found.append((root, *_figures(fields[start:], line, header)))
        except RowError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    root, figures, rest = next((one for one in found if all(sound(size, part) for part in one[1])), found[0])
    return Row(size, count, words["type"], words["redop"], root, figures, _extras(rest, header))


def _roots(fields: Sequence[str], at: int, header: Header) -> list[tuple[int | None, int]]:
    """What the root may be, and where the figures then begin: a whole number may be a time as well."""
    options: list[tuple[int | None, int]] = [(None, at)]
    if "root" in header.lead and at < len(fields) and _INTEGER.fullmatch(fields[at]):
        root = int(fields[at])
        options.insert(0, (root if root >= 0 else None, at + 1))
    return options


def _figures(fields: Sequence[str], line: str, header: Header) -> tuple[tuple[Figures, ...], list[str]]:
    """The placements, and what stands behind them."""
    groups = list(zip(header.groups, header.in_place, strict=True))
    need = sum(map(len, header.groups))
    if len(fields) < need and len(groups) == 2 and len(fields) >= len(header.groups[1]) and _has_gap(line):
        groups = groups[1:]
        need = len(header.groups[1])
    if len(fields) < need:
        raise RowError(f"{len(fields)} figures where the header has {need}: the line was cut")
    figures, at = [], 0
    for names, in_place in groups:
        values = dict(zip(names, fields[at : at + len(names)], strict=True))
        at += len(names)
        figures += _placement(values, in_place)
    return tuple(figures), list(fields[at:])


def _has_gap(line: str) -> bool:
    """Whether blanks stand where the out-of-place figures would."""
    return re.search(rf"\S {{{_IN_PLACE_GAP},}}\S", line.strip()) is not None


def _placement(values: Mapping[str, str], in_place: bool) -> list[Figures]:
    """One placement, or none if it was not measured.

    Raises:
        RowError: a field that is no number.
    """
    if {values[name] for name in ("time", "algbw", "busbw")} == {"N/A"}:
        return []
    for name, text in values.items():
        if not _NUMBER.fullmatch(text) and not (text == "N/A" and name in ("#wrong", "error")):
            raise RowError(f"{name} {text[:40]!r} is no number")
    odd = [name for name, text in values.items() if text != "N/A" and not 0 <= float(text) <= _MOST_FIGURE]
    if odd:
        raise RowError(f"{odd[0]} {values[odd[0]]} is out of range")
    wrong = values.get("#wrong")  # of old releases "error" is the largest difference, not a count
    return [Figures(in_place, values["time"], values["algbw"], values["busbw"], None if wrong == "N/A" else wrong)]


def _extras(rest: Sequence[str], header: Header) -> dict[str, str]:
    """What rccl-tests appends: by the header's names, or a word, a word and a number."""
    names = [_TRAILERS.get(name.lower(), "") for name in header.trailers]
    if any(names) and len(rest) >= len(names):
        return {name: text for name, text in zip(names, rest, strict=False) if name and _PLAIN.fullmatch(text)}
    if not names and len(rest) == 3 and _WORD.fullmatch(rest[0]) and _WORD.fullmatch(rest[1]) and rest[2].isdigit():
        return dict(zip(("algorithm", "protocol", "channels"), rest, strict=True))
    return {}


def rounding(text: str) -> float:
    """Half of the last digit of a printed number."""
    digits = re.split("[eE]", text)
    exponent = (int(digits[1]) if len(digits) > 1 else 0) - len(digits[0].partition(".")[2])
    return 0.51 * 10.0**exponent


def sound(size: int, part: Figures) -> bool:
    """Whether algbw is size / time, as rounded as they are printed."""
    time = part.time_us
    if not size or not time:
        return True
    exact = size / time / 1e3  # bytes per us are 1e-3 GB/s
    return abs(float(part.algbw) - exact) <= rounding(part.algbw) + exact * rounding(part.time) / time


def factor_range(size: int, part: Figures, *, slip: bool = False) -> tuple[float, float]:
    """The least and the most that busbw / algbw may be, as rounded as they are printed.

    Args:
        slip: whether a last digit may be off by one, and busbw be that of a rounded algbw.

    Returns:
        0 and infinity where the row says nothing about it.
    """
    time, busbw = part.time_us, float(part.busbw)
    slack, late = rounding(part.busbw), rounding(part.time)
    if not size or time <= late:
        return 0.0, float("inf")
    if slip:
        slack += rounding(part.busbw) + busbw * rounding(part.algbw) * time * 1e3 / size
    return max(0.0, busbw - slack) * (time - late) * 1e3 / size, (busbw + slack) * (time + late) * 1e3 / size
