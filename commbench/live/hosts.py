# SPDX-License-Identifier: Apache-2.0
"""On which hosts the ranks are, and how many cores each host's ranks have together.

A launcher may give each rank a core of its own: what one rank may run on says nothing of what the ranks of its host
have.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commbench.results.environment import cores, cpu_quota

__all__ = ["HostCores", "host_facts", "own_cores"]

_BOOT_ID, _TIME_NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")


@dataclass(frozen=True, slots=True)
class HostCores:
    """Where one rank runs.

    Attributes:
        host: its name. cores: that the rank may run on.
        quota: its control group with the tightest limit, and the cores' worth of time that it grants.
        machine: what ranks have in common that have one kernel and one monotonic clock, whatever names their containers
            have; the host's name where the system does not tell.
    """

    host: str
    cores: frozenset[int]
    quota: tuple[str, float] | None = None
    machine: str = ""


def own_cores() -> HostCores:
    """That of this process."""
    host = socket.gethostname()
    return HostCores(host, cores(), cpu_quota(), _machine() or host)


def _machine() -> str:
    """The kernel's boot id, and the time namespace, in which the monotonic clock may have another origin."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {os.readlink(_TIME_NAMESPACE)}"
    except OSError:
        return ""


def host_facts(places: Sequence[HostCores]) -> dict[str, Any]:
    """Facts for the environment of a record, from the places of all ranks in rank order.

    Returns:
        hosts: name for every rank. cores_by_host: cores' worth of time that the ranks of a host have together.
        machines: number for every rank of the machine that it runs on, from 0 in the order in which they are met.
        cores_usable, cpu_quota: as in ``results.environment``, for all ranks of the first one's host.
    """
    if not places:
        return {}
    ranks_of = {place.host: [rank for rank in places if rank.host == place.host] for place in places}
    first = ranks_of[places[0].host]
    machines = list(dict.fromkeys(place.machine for place in places))
    return {
        "hosts": [place.host for place in places],
        "machines": [machines.index(place.machine) for place in places],
        "cores_by_host": {host: _room(ranks) for host, ranks in ranks_of.items()},
        "cores_usable": _num_cores(first),
        "cpu_quota": _quota(first),
    }


def _num_cores(ranks: Sequence[HostCores]) -> int:
    return len(frozenset().union(*(rank.cores for rank in ranks)))


def _quota(ranks: Sequence[HostCores]) -> float | None:
    """Of all control groups that limit one of them; None if one is not limited."""
    groups = {rank.quota for rank in ranks}
    return None if None in groups else sum(group[1] for group in groups if group is not None)


def _room(ranks: Sequence[HostCores]) -> float:
    quota = _quota(ranks)
    return _num_cores(ranks) if quota is None else min(_num_cores(ranks), quota)
