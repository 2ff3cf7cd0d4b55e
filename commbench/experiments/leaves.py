# SPDX-License-Identifier: Apache-2.0
"""Under which leaf every endpoint of a topology is, by the names that live ranks have."""

from pathlib import Path

from commbench.errors import InputError
from commbench.topology.fabric import Fabric
from commbench.topology.host_names import read_host_names
from commbench.topology.load import load_fabric

__all__ = ["leaf_of"]


def leaf_of(topology: str, hosts: Path | None) -> dict[str, str]:
    """Leaf of every endpoint by "host number": the switch of its first NIC.

    Args:
        topology: name or path. hosts: file with the names of its hosts (:func:`read_host_names`); None: its own names.

    Raises:
        InputError: a file that cannot be read, or endpoints without a switch.
    """
    fabric = load_fabric(topology)
    names = None if hosts is None else read_host_names(hosts, fabric)
    switch_of = dict(zip(fabric.src[fabric.to_network].tolist(), fabric.dst[fabric.to_network].tolist(), strict=True))
    found: dict[str, str] = {}
    seen: dict[int, int] = {}
    for rank in range(fabric.num_ranks):
        host = int(fabric.host_of[rank])
        nic = int(fabric.nics[fabric.nics_first[rank]]) if fabric.nics_first[rank] < fabric.nics_first[rank + 1] else -1
        if nic not in switch_of:
            raise InputError(f"--topology {topology}: {fabric.ranks[rank]} has no NIC with a switch, so it has no leaf")
        number = seen[host] = seen.get(host, -1) + 1
        found[f"{_name(fabric, rank, names)} {number}"] = fabric.name_of(switch_of[nic])
    return found


def _name(fabric: Fabric, rank: int, names: list[str] | None) -> str:
    return fabric.ranks[rank].partition("/")[0] if names is None else names[int(fabric.host_of[rank])]
