# SPDX-License-Identifier: Apache-2.0
"""The CSV of NCCL's example tuner plugin (nccl_tuner.conf): which algorithm is taken in which range of sizes."""

import csv
import re

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported

__all__ = ["import_tuner"]

_COLLECTIVES = ("broadcast", "reduce", "allgather", "reducescatter", "allreduce")
_ALGORITHMS = ("tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat")
_PROTOCOLS = ("ll", "ll128", "simple")


def import_tuner(text: str, place: str) -> Imported:
    """The rules, checked one by one; they are no topology.

    Raises:
        TopologyError: no rule is whole.
    """
    rules, odd = list[tuple[str, int, int, tuple[str, ...]]](), list[str]()
    for number, fields in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in fields]
        if not any(cells) or cells[0].startswith("#"):
            continue
        problem = _problem(cells)
        if problem:
            odd.append(f"line {number}: {problem}")
            continue
        where = tuple(cells[6:10])
        last, first = int(cells[2]), int(cells[1])
        hidden = [r for r in rules if r[0] == cells[0] and r[1] <= first and last <= r[2] and r[3] == where]
        if hidden:
            odd.append(f"line {number}: never taken, an earlier rule has all its sizes")
        rules.append((cells[0], first, last, where))
    if not rules:
        raise TopologyError(f"{place}: no whole rule of a tuner file{f'; {odd[0]}' if odd else ''}")
    counts = [(one, sum(rule[0] == one for rule in rules)) for one in _COLLECTIVES]
    facts = [(one, f"{count} rules") for one, count in counts if count]
    why = "a tuner file says what NCCL shall take, not what is connected"
    return Imported("NCCL tuner file", tuple(facts), tuple(odd), "", why)


def _problem(cells: list[str]) -> str:
    """What is wrong with a rule; "" if nothing is."""
    if not 8 <= len(cells) <= 10:
        return f"{len(cells)} fields, not 8 to 10"
    for value, known, what in ((cells[0], _COLLECTIVES, "collective"), (cells[3], _ALGORITHMS, "algorithm"),
                               (cells[4], _PROTOCOLS, "protocol")):  # fmt: skip
        if value not in known:
            return f"{what} {value[:40]!r} is none of {', '.join(known)}"
    bad = [cell for cell in (*cells[1:3], *cells[5:]) if not re.fullmatch(r"-1|\d{1,15}", cell)]
    if bad:
        return f"{bad[0][:40]!r} is no whole number"
    return "sizes end before they begin" if int(cells[2]) < int(cells[1]) else ""
