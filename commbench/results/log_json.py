# SPDX-License-Identifier: Apache-2.0
"""The JSON that nccl-tests writes (-J), as a table; a file that was cut keeps its whole rows."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from commbench.errors import InputError
from commbench.results.log_rows import Figures, Header, Row
from commbench.results.log_tables import LogTable

__all__ = ["looks_like_json", "tables_of_json"]

_PROGRAM = re.compile(r"([a-z_]+)_perf(?:_mpi)?$")


def looks_like_json(text: str) -> bool:
    """Whether it is one JSON object with results, or begins as one."""
    keys = r'"(?:nccl_version|nthreads)"\s*:|"(?:out_of|in)_place"\s*:\s*[{n]'
    if re.match(r'\s*\{"kind"', text):  # commbench's own records, which have such keys, too
        return False
    return text.lstrip()[:1] == "{" and re.search(keys, text) is not None


def tables_of_json(text: str, place: str) -> list[LogTable]:
    """Its one table.

    Raises:
        InputError: no results, a result that is none, or launch times of the CPU (-C).
    """
    problems: list[str] = []
    data = _whole(text)
    if data is None:
        problems.append("the file was cut: its end is missing")
        data = _cut(text)
    results = data.get("results")
    if not isinstance(results, list):
        raise InputError(f"{place}: a JSON file without results; nccl-tests writes one with -J FILE")
    table = LogTable(1, header=Header((), (), (), ()), problems=problems, ended=not problems)
    _preamble(table, data)
    for number, result in enumerate(results, 1):
        table.rows.append((number, _row(result, f"{place}: results[{number - 1}]")))
        table.cycles.append(number)  # a file is one run, which may go through its sizes again
    average = data.get("average_bus_bandwidth")
    told = average.get("bandwidth") if isinstance(average, dict) else None
    if isinstance(told, int | float) and abs(told) <= 1e300:  # a longer whole number is no float
        table.average = float(told)
    bounds = data.get("out_of_bounds")
    table.failed = isinstance(bounds, dict) and str(bounds.get("okay")).lower() == "false"
    return [table]


def _whole(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _cut(text: str) -> dict[str, Any]:
    """The keys before the results and the results that are whole, of a file without its end."""
    match = re.search(r'"results"\s*:\s*\[', text)
    if match is None:
        return {}
    found = _whole(text[: match.start()].rstrip().rstrip(",") + "}") or {}
    return found | {"results": list(_objects(text, match.end()))}


def _objects(text: str, at: int) -> Iterator[Any]:
    """The objects of a list from a place on, until one is not whole."""
    decoder = json.JSONDecoder(parse_constant=str)
    while (begin := re.compile(r"[\s,]*(?=\{)").match(text, at)) is not None:
        try:
            found, at = decoder.raw_decode(text, begin.end())
        except (ValueError, RecursionError):
            return
        yield found


def _preamble(table: LogTable, data: Mapping[str, Any]) -> None:
    """What runs where."""
    args = data.get("args")
    words = args if isinstance(args, list) else str(args or "").split()
    programs = [match[1] for word in words if isinstance(word, str) and (match := _PROGRAM.search(word))]
    table.program = programs[0] if programs else ""
    version = str(data.get("nccl_version") or "")
    if re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        table.library, table.version = "NCCL", version
    elif re.fullmatch(r"\d{4,6}", version):
        code = int(version)
        table.library, table.version = "NCCL", f"{code // 10000}.{code // 100 % 100}.{code % 100}"
    config = data.get("config")
    devices = config.get("devices") if isinstance(config, dict) else None
    for number, device in enumerate(devices if isinstance(devices, list) else ()):
        if isinstance(device, dict):
            group = device.get("group")
            table.members[number] = (
                group if isinstance(group, int) else 0, str(device.get("hostname", "")),
                str(device.get("device_info", "")),
            )  # fmt: skip
    _fill_ranks(table, config if isinstance(config, dict) else {})


def _fill_ranks(table: LogTable, config: Mapping[str, Any]) -> None:
    """A process lists its first device alone: the others are as many more ranks on the same host."""
    each = [config.get(key) for key in ("nthreads", "ngpus")]
    share = each[0] * each[1] if all(type(n) is int and 0 < n <= 1024 for n in each) else 1  # type: ignore[operator]
    table.each = share
    listed = list(table.members.values())
    if share > 1 and len(listed) * share <= 2**20:
        table.members = {i * share + k: one for i, one in enumerate(listed) for k in range(share)}


def _row(result: Any, where: str) -> Row:
    if not isinstance(result, dict):
        raise InputError(f"{where} is no object")
    size, count = result.get("size"), result.get("count")
    if type(size) is not int or type(count) is not int or not (0 <= size <= 2**60 and 0 <= count <= 2**60):
        raise InputError(f"{where}: size and count must be whole numbers")
    root = str(result.get("root", "")).strip()
    texts = [result.get(key) if isinstance(result.get(key), str) else "" for key in ("type", "redop")]
    parts = [_placement(result.get(key), f"{where}.{key}", key == "in_place") for key in ("out_of_place", "in_place")]
    figures = tuple(part for part in parts if part is not None)
    place = int(root) if re.fullmatch(r"\d{1,9}", root) else None
    return Row(size, count, str(texts[0])[:40], str(texts[1])[:40], place, figures)


def _placement(data: Any, where: str, in_place: bool) -> Figures | None:
    """One placement; None if it was not measured."""
    if data is None:
        return None
    if not isinstance(data, dict):
        raise InputError(f"{where} is no object")
    if "cpu_time" in data and "time" not in data:
        raise InputError(f"{where}: launch times of the CPU (-C), not of the collective; run it without -C")
    texts = [_number(data.get(key), f"{where}.{key}") for key in ("time", "alg_bw", "bus_bw")]
    wrong = data.get("nwrong")
    time, algbw, busbw = texts
    return Figures(in_place, time, algbw, busbw, None if wrong is None else _number(wrong, f"{where}.nwrong"))


def _number(value: Any, where: str) -> str:
    """A number of nccl-tests' JSON (six decimals) as text."""
    if type(value) not in (int, float) or not 0 <= value <= 1e15:
        raise InputError(f"{where} {str(value)[:40]!r} is no number of zero or more")
    return f"{value:.6f}"

