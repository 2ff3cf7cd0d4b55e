# SPDX-License-Identifier: Apache-2.0
"""How much of the time the links between two boxes of a picture were in use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from commbench.report.gantt import has_transfers
from commbench.report.svg import mixed
from commbench.sim.link_load import loads_by_time
from commbench.topology.fabric import LINK_KINDS, Fabric
from commbench.topology.layout import outer_ends
from commbench.topology.model import LinkKind
from commbench.units import seconds

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["LOAD_RAMP", "FabricLoad", "LinkLoad", "busiest_boxes", "fabric_load", "load_colour"]

LOAD_RAMP = ("#9aa7b8", "#e0b13c", "#d9652b", "#b3152b")  # idle to busy; ever darker in print as well
_SLICES = 60
_PER_MILLE = 1000


@dataclass(frozen=True, slots=True)
class LinkLoad:
    """The busiest of the links between two boxes: its name, its bytes, and the share of the time that these take it.

    ``by_time`` is the load of whichever of these links is busiest in each slice of the run, in thousandths.
    """

    name: str
    num_bytes: float
    share: float
    by_time: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FabricLoad:
    """Loads by the boxes that the links join; ``edges_s`` of their slices of time, empty where these are not known."""

    links: Mapping[frozenset[str], LinkLoad] = field(default_factory=dict)
    edges_s: tuple[float, ...] = ()


def load_colour(share: float) -> str:
    """Of a link that is in use for this share of the time."""
    return mixed(LOAD_RAMP, min(1.0, max(0.0, share)))


def busiest_boxes(fabric: Fabric, simulation: "Simulation | None") -> dict[str, int]:
    """Switches and hosts that the network's links put to use by their place among these, the busiest at 0.

    Links between hosts and switches and those between tiers of switches take turns, each from the fullest on, so that
    both ends of the fullest ones come first. Empty where loads were not counted on this fabric.
    """
    if simulation is None or not _known(fabric, simulation):
        return {}
    busy = simulation.link_bytes / fabric.bandwidths
    used = np.flatnonzero((fabric.link_kinds == LINK_KINDS.index(LinkKind.NETWORK)) & (busy > 0))
    used = used[np.argsort(-busy[used], kind="stable")]
    tiers = np.sort(np.stack([fabric.node_kinds[fabric.src[used]], fabric.node_kinds[fabric.dst[used]]]), axis=0)
    _, make = np.unique(tiers, axis=1, return_inverse=True)
    make = make.ravel()
    turn = np.zeros(len(used), dtype=np.int64)
    for one in range(int(make.max(initial=-1)) + 1):
        mine = np.flatnonzero(make == one)
        turn[mine] = np.arange(len(mine))
    ordered = used[np.lexsort((make, turn))].tolist()
    names = dict.fromkeys(name for link in ordered for name in outer_ends(fabric, fabric.links[link]))
    return {name: place for place, name in enumerate(names)}


def _known(fabric: Fabric, simulation: "Simulation") -> bool:
    return simulation.record.topology == fabric.name and len(simulation.link_bytes) > 0


def fabric_load(fabric: Fabric, simulation: "Simulation | None", drawn: Collection[frozenset[str]]) -> FabricLoad:
    """Loads of the network's links between ``drawn`` boxes; none where they were not counted on this fabric."""
    if simulation is None or not _known(fabric, simulation):
        return FabricLoad()
    between: dict[frozenset[str], list[int]] = {ends: [] for ends in drawn}
    network = np.flatnonzero(fabric.link_kinds == LINK_KINDS.index(LinkKind.NETWORK))
    for number in network.tolist():
        ends = frozenset(outer_ends(fabric, fabric.links[number]))
        if ends in between:
            between[ends].append(number)
    busy = simulation.link_bytes / fabric.bandwidths / simulation.record.time_s
    found = {}
    for ends, links in between.items():
        if links:
            busiest = links[int(np.argmax(busy[links]))]
            name, num_bytes = fabric.link_name(busiest), float(simulation.link_bytes[busiest])
            found[ends] = LinkLoad(name, num_bytes, float(busy[busiest]))
    return _by_time(found, [between[ends] for ends in found], simulation)


def _by_time(found: Mapping[frozenset[str], LinkLoad], links: list[list[int]], simulation: "Simulation") -> FabricLoad:
    finish = simulation.trace.finish_ps
    edges = np.unique(np.linspace(0, finish, _SLICES + 1).astype(np.int64))
    if not found or not has_transfers(simulation) or len(edges) < 2:
        return FabricLoad(found)
    loads = loads_by_time(simulation, np.concatenate(links), edges)
    if loads is None:
        return FabricLoad(found)
    first = np.cumsum([0, *map(len, links)])[:-1]
    shown = np.rint(_PER_MILLE * np.minimum(np.maximum.reduceat(loads, first), 1.0)).astype(np.int64).tolist()
    timed = {e: replace(load, by_time=tuple(row)) for (e, load), row in zip(found.items(), shown, strict=True)}
    return FabricLoad(timed, tuple(seconds(edge) for edge in edges.tolist()))
