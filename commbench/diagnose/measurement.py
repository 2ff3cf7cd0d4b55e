# SPDX-License-Identifier: Apache-2.0
"""Measured records as a diagnosis reads them: which endpoints of the topology took part, and what ran beside.

A record says where its ranks sat in one of these ways, the first that is there:

- ``environment.emulated`` (``emulate``): ``jobs`` are ranks of the topology, ``job`` is the record's own;
- ``environment.members``: host and endpoint number of each rank; ``beside``: those of other groups at that time;
- ``environment.hosts``: host of each rank; the first rank on a host sits on its first endpoint, and so on.

Hosts are called as the topology calls them (``h0``), or as a file with a name a line says, in the topology's order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Any

import numpy as np

from commbench.errors import InputError, did_you_mean
from commbench.results.records import Measured
from commbench.topology.fabric import Fabric

__all__ = ["Measurement", "host_of_names", "measurements_of"]

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """One record and where it ran.

    Attributes:
        record: as measured. groups: endpoints (rank numbers of the topology) of all that ran at once. own: its number
            among them.
    """

    record: Measured
    groups: Groups
    own: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """Endpoints of its own ranks, in their order."""
        return self.groups[self.own]

    @property
    def error(self) -> float:
        """Relative standard error of the headline, a median, by the samples' own spread.

        1.4826 MAD estimates a standard deviation and sqrt(pi / 2 n) of that the error of a median, both for normal
        samples (Rousseeuw and Croux, JASA 88, 1993; Kendall and Stuart, vol. 1, 10.11).
        """
        samples = self.record.slowest_s
        if len(samples) < 3:
            return 0.0
        return 1.4826 * self.record.spread_s / self.record.time_s * sqrt(1.5708 / len(samples))

    @property
    def likeness(self) -> tuple[object, ...]:
        """What measurements have in common whose errors of the simulation are alike."""
        r = self.record
        at_once = sum(map(len, self.groups))
        emulated = "emulated" in r.environment
        what = (r.collective, r.algorithm, r.backend, r.ranks, r.size_bytes, r.dtype, r.root, r.in_place, r.timing)
        return *what, r.channels, r.slices, at_once, emulated


def measurements_of(records: Sequence[Measured], fabric: Fabric, names: Sequence[str] | None) -> list[Measurement]:
    """The records that say something of the fabric: at least two ranks, at known places.

    Args:
        records: in any order. fabric: that they were measured on.
        names: of its hosts in order, as the records call them; None: as the topology does.

    Raises:
        InputError: a record does not say where its ranks sat, names another host, or has wrong values.
    """
    hosts = host_of_names(fabric, names)
    found = [_placed(record, fabric, hosts) for record in records if record.ranks > 1]
    if not found:
        raise InputError(f"nothing to diagnose: none of {len(records)} measured records has two ranks or more")
    return _same_once(found)


def host_of_names(fabric: Fabric, names: Sequence[str] | None) -> dict[str, int]:
    """Host number by every name that a record may call it."""
    if names is not None:
        return {name: host for host, name in enumerate(names)}
    known = {f"h{host}": host for host in range(fabric.num_hosts)}
    return known | {fabric.ranks[r].partition("/")[0]: int(fabric.host_of[r]) for r in range(fabric.num_ranks)}


def _placed(record: Measured, fabric: Fabric, hosts: Mapping[str, int]) -> Measurement:
    place = f"run {record.run}, {record.collective} of {record.size_bytes} B"
    if record.wrong:
        raise InputError(f"{place}: {record.wrong} wrong values; what was timed there did not do its work")
    environment = record.environment
    if "emulated" in environment:
        groups, own = _of_lab(environment["emulated"], place)
    elif "members" in environment:
        others = [_endpoints(each, fabric, hosts, place) for each in environment.get("beside", [])]
        groups, own = (_endpoints(environment["members"], fabric, hosts, place), *others), 0
    elif "hosts" in environment:
        groups, own = (_endpoints(_in_turn(environment["hosts"]), fabric, hosts, place),), 0
    else:
        raise InputError(f"{place}: its environment tells neither members nor hosts, so not where its ranks sat")
    ranks = [rank for group in groups for rank in group]
    if len(groups[own]) != record.ranks or len(set(ranks)) != len(ranks):
        raise InputError(f"{place}: its environment places {len(groups[own])} ranks, but it has {record.ranks}, "
                         "each on an endpoint of its own")  # fmt: skip
    if max(ranks) >= fabric.num_ranks:
        raise InputError(f"{place}: rank {max(ranks)}, but {fabric.name} has {fabric.num_ranks}; give its topology")
    return Measurement(record, groups, own)


def _of_lab(lab: Mapping[str, Any], place: str) -> tuple[Groups, int]:
    if "jobs" not in lab or lab.get("job", 0) >= len(lab["jobs"]):
        raise InputError(f"{place}: environment.emulated does not tell the jobs and which of them it is")
    return tuple(map(tuple, lab["jobs"])), lab.get("job", 0)


def _in_turn(hosts: Sequence[str]) -> list[tuple[str, int]]:
    """Members where only hosts are told."""
    taken: dict[str, int] = {}
    found = []
    for host in hosts:
        found.append((host, taken.get(host, 0)))
        taken[host] = found[-1][1] + 1
    return found


def _endpoints(
    members: Sequence[tuple[str, int]], fabric: Fabric, hosts: Mapping[str, int], place: str
) -> tuple[int, ...]:
    found = []
    for host, number in members:
        if host not in hosts:
            raise InputError(
                f"{place}: host {host!r} is none of {fabric.name}; {did_you_mean(host, hosts)}give --hosts FILE with "
                f"the names of its {fabric.num_hosts} hosts, one a line, in the topology's order"
            )
        there = np.flatnonzero(fabric.host_of == hosts[host])
        if number >= len(there):
            raise InputError(f"{place}: endpoint {number} of {host}, which has {len(there)} on {fabric.name}")
        found.append(int(there[number]))
    return tuple(found)


def _same_once(found: Sequence[Measurement]) -> list[Measurement]:
    """Of the same thing measured several times the one in the middle, so that no pair counts twice."""
    alike: dict[tuple[object, ...], list[Measurement]] = {}
    for each in found:
        alike.setdefault((each.likeness, each.groups, each.own), []).append(each)
    return [_middle(members) for members in alike.values()]


def _middle(members: Sequence[Measurement]) -> Measurement:
    middle = median(each.record.time_s for each in members)
    return min(members, key=lambda each: abs(each.record.time_s - middle))
