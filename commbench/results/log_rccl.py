# SPDX-License-Identifier: Apache-2.0
"""The rows that rccl-tests writes as JSON (-Z json -x FILE): an object for each placement of each size.

Files of before its pull request 140 lack separators between them, so that objects are looked for one by one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from commbench.errors import InputError
from commbench.results.log_rows import Figures, Header, Row
from commbench.results.log_tables import LogTable

__all__ = ["looks_like_rccl", "tables_of_rccl"]

_BYTES = {"half": 2, "bfloat16": 2, "double": 8, "int64": 8, "uint64": 8, "int8": 1, "uint8": 1, "char": 1}
_NUMBER = re.compile(r"\d{1,18}(?:\.\d{0,9})?(?:[eE][+-]?\d{1,2})?")
_MOST_LISTED = 4096


def looks_like_rccl(text: str) -> bool:
    """Whether it holds such rows."""
    return re.search(r'"inPlace"\s*:', text) is not None and re.search(r'"busBw"\s*:', text) is not None


def tables_of_rccl(text: str, place: str) -> list[LogTable]:
    """A table for each collective and number of ranks.

    Raises:
        InputError: a row that misses a key, or holds what is no number.
    """
    tables: dict[tuple[str, int], LogTable] = {}
    for number, data in enumerate(_objects(text), 1):
        if "inPlace" not in data:
            continue
        where = f"{place}: row {number}"
        ranks = data.get("ranks", data.get("gpus"))
        if type(ranks) is not int or not 0 < ranks <= 2**20:
            raise InputError(f"{where}: ranks {str(ranks)[:40]!r} is no number of ranks")
        name = str(data.get("name", ""))[:60]
        fresh = LogTable(number, program=name, library="RCCL", ranks=ranks, header=Header((), (), (), ()), ended=True)
        table = tables.setdefault((name, ranks), fresh)
        _hosts(table, data, ranks)
        table.rows.append((number, _row(data, ranks, where)))
        table.cycles.append(number)  # placements and cycles repeat a size
    return list(tables.values())


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Every object of the text that is whole."""
    decoder, at = json.JSONDecoder(parse_constant=str), 0
    while (at := text.find("{", at)) >= 0:
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(found, dict):
            yield found


def _hosts(table: LogTable, data: Mapping[str, Any], ranks: int) -> None:
    """Which ranks sit together, where the row says on how many nodes they are."""
    nodes = data.get("nodes")
    if not table.members and type(nodes) is int and 0 < nodes <= ranks <= _MOST_LISTED:
        table.members = {rank: (0, f"node{rank * nodes // ranks}", "") for rank in range(ranks)}


def _row(data: Mapping[str, Any], ranks: int, where: str) -> Row:
    size = data.get("size")
    if type(size) is not int or not 0 <= size <= 2**60:
        raise InputError(f"{where}: size {str(size)[:40]!r} is no whole number of bytes")
    dtype, op = str(data.get("type", ""))[:40], str(data.get("redop", ""))[:40]
    times = [key for key in ("time", "time(us)") if key in data]
    if not times:
        raise InputError(f"{where}: no time in it")
    texts = [_number(data.get(key), f"{where}: {key}") for key in (times[0], "algBw", "busBw")]
    wrong = str(data.get("wrong", data.get("#wrong", "N/A"))).strip()
    told = None if wrong in ("N/A", "None") else _number(wrong, f"{where}: wrong")
    in_place = str(data["inPlace"]).strip().lower() in ("1", "true")
    figures = Figures(in_place, texts[0], texts[1], texts[2], told)
    return Row(size, size // _BYTES.get(dtype, 4) // (ranks if _blocked(data) else 1), dtype, op, None, (figures,))


def _blocked(data: Mapping[str, Any]) -> bool:
    """Whether the count is that of one rank's block."""
    from commbench.collectives.spec import get_collective

    try:
        return bool(get_collective(str(data.get("name", ""))).by_rank)
    except InputError:
        return False


def _number(value: Any, where: str) -> str:
    """A number, or one in a text, as text."""
    text = f"{value:.6f}" if type(value) in (int, float) and 0 <= value <= 1e15 else str(value).strip()
    if not _NUMBER.fullmatch(text):
        raise InputError(f"{where} {str(value)[:40]!r} is no number of zero or more")
    return text
