# SPDX-License-Identifier: Apache-2.0
"""How much of the time the links between two boxes of a picture were in use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commbench.report.svg import mixed
from commbench.topology.fabric import LINK_KINDS, Fabric
from commbench.topology.layout import outer_ends
from commbench.topology.model import LinkKind

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["LOAD_RAMP", "LinkLoad", "link_loads", "load_colour"]

LOAD_RAMP = ("#9aa7b8", "#e0b13c", "#d9652b", "#b3152b")  # idle to busy; ever darker in print as well


@dataclass(frozen=True, slots=True)
class LinkLoad:
    """The busiest of the links between two boxes: its name, its bytes, and the share of the time that these take it."""

    name: str
    num_bytes: float
    share: float


def load_colour(share: float) -> str:
    """Of a link that is in use for this share of the time."""
    return mixed(LOAD_RAMP, min(1.0, max(0.0, share)))


def link_loads(fabric: Fabric, simulation: "Simulation | None") -> Mapping[frozenset[str], LinkLoad]:
    """Loads of the network's links by the boxes that they join; none where they were not counted on this fabric."""
    if simulation is None or simulation.record.topology != fabric.name or not len(simulation.link_bytes):
        return {}
    busy = simulation.link_bytes / fabric.bandwidths / simulation.record.time_s
    found: dict[frozenset[str], LinkLoad] = {}
    network = np.flatnonzero(fabric.link_kinds == LINK_KINDS.index(LinkKind.NETWORK))
    for number in network.tolist():
        ends, share = frozenset(outer_ends(fabric, fabric.links[number])), float(busy[number])
        if share > (found[ends].share if ends in found else -1.0):
            found[ends] = LinkLoad(fabric.link_name(number), float(simulation.link_bytes[number]), share)
    return found
