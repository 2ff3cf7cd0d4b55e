# SPDX-License-Identifier: Apache-2.0
"""Host files: on which endpoints the ranks of a job sit, and in which order, as launchers of MPI take it.

A line names an endpoint ("h0/gpu3"), or a host with the ranks that it gets ("h0 slots=4": its first four endpoints that
no line before has taken). Rank 0 sits on the first one. What follows a # is a remark.
"""

import re
from pathlib import Path

from commbench.errors import InputError
from commbench.topology.fabric import Fabric

__all__ = ["read_host_file"]

_SLOTS = re.compile(r"slots=([0-9]{1,9})")
_EXAMPLE = "give an endpoint such as {endpoint}, or a host such as h0 slots={slots}"


def read_host_file(path: Path, fabric: Fabric, ranks_per_host: int | None) -> list[int]:
    """Endpoint number of every rank.

    Args:
        path: of the file. fabric: whose endpoints they are.
        ranks_per_host: of a host without slots; None takes all its endpoints.

    Raises:
        InputError: no such file, or a line that names nothing of the fabric, or takes what is taken; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--placement {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names = fabric.ranks
    hosts: dict[str, list[int]] = {}
    for number, host in enumerate(fabric.host_of.tolist()):
        hosts.setdefault(f"h{host}", []).append(number)
    endpoints = {name: [number] for number, name in enumerate(names)}
    most = max(map(len, hosts.values()))
    taken: dict[int, None] = {}  # in order
    for count, line in enumerate(lines, 1):
        words, place = line.partition("#")[0].split(), f"{path}, line {count}"
        if not words:
            continue
        there = endpoints.get(words[0]) or hosts.get(words[0])
        if there is None:
            example = _EXAMPLE.format(endpoint=names[-1], slots=most)
            raise InputError(f"{place}: {fabric.name} has no endpoint or host {words[0]!r}: {example}")
        free = [endpoint for endpoint in there if endpoint not in taken]
        wanted = _slots(words, place, len(there) if words[0] in endpoints else ranks_per_host or len(there))
        if wanted > len(free):
            raise InputError(f"{place}: {words[0]} has {len(free)} free endpoints of {len(there)}, not {wanted}")
        taken.update(dict.fromkeys(free[:wanted]))
    if not taken:
        raise InputError(f"{path}: names no endpoint: {_EXAMPLE.format(endpoint=names[-1], slots=most)}")
    return list(taken)


def _slots(words: list[str], place: str, default: int) -> int:
    if len(words) == 1:
        return default
    found = _SLOTS.fullmatch(words[1])
    if found is None or int(found[1]) < 1 or len(words) > 2:
        raise InputError(f"{place}: {' '.join(words[1:])!r} is not slots=N with N at least 1")
    return int(found[1])
