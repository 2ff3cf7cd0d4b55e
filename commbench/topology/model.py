# SPDX-License-Identifier: Apache-2.0
"""The words of a fabric: kinds of nodes and links, numbers with their origin, nodes and links as objects."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from numpy.typing import NDArray

__all__ = [
    "HOP_COSTS",
    "STEMS",
    "SWITCH_KINDS",
    "EndpointCosts",
    "Link",
    "LinkKind",
    "Node",
    "NodeKind",
    "Provenance",
    "Quantity",
    "read_only",
]

_Array = TypeVar("_Array", bound=NDArray[Any])


def read_only(array: _Array) -> _Array:
    """The array itself, from now on refusing writes: what is shared must not change."""
    array.setflags(write=False)
    return array


class Provenance(StrEnum):
    """Where a number came from (DESIGN section 2, idea 5)."""

    MEASURED = "measured"
    EMULATED = "emulated"
    SIMULATED = "simulated"
    FITTED = "fitted"
    VENDOR = "vendor"
    ASSUMED = "assumed"


class NodeKind(StrEnum):
    """What a vertex of the graph is."""

    GPU = "gpu"
    CPU = "cpu"  # a CPU rank (plain hosts) or a socket (GPU hosts)
    NVSWITCH = "nvswitch"
    PCIE_SWITCH = "pcie-switch"
    NIC = "nic"
    LEAF = "leaf"
    SPINE = "spine"
    CORE = "core"
    MEMORY = "memory"  # the shared memory system of one host, a resource that its ranks contend for


STEMS = {NodeKind.PCIE_SWITCH: "pcie"}
"""How names of nodes begin, where that is not their kind."""


class LinkKind(StrEnum):
    """What a directed edge is made of."""

    NVLINK = "nvlink"
    MEMORY = "memory"
    PCIE = "pcie"
    SOCKET = "socket"
    NETWORK = "network"


# Only the order matters: one hop of a dearer kind must cost more than a detour over cheaper ones, as in NCCL's path
# classes NVL < PIX/PXB < PHB < SYS (NCCL 2.30.7, src/graph/topo.h).
HOP_COSTS = {LinkKind.MEMORY: 1, LinkKind.NVLINK: 1, LinkKind.PCIE: 10, LinkKind.SOCKET: 100, LinkKind.NETWORK: 1000}
"""What a route inside a host pays for a hop over each kind."""


SWITCH_KINDS = frozenset({NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE})  # those of the fabric, outside any host


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its origin: ``text`` as written ("100 Gbit/s"), ``provenance`` and ``source``."""

    text: str
    provenance: Provenance
    source: str


@dataclass(frozen=True, slots=True)
class Node:
    """One vertex. ``host`` and ``index`` are None where they have no meaning (a spine belongs to no host).

    Attributes:
        name: unique in the topology, for example "h3/gpu5" or "leaf2".
        host: number of the host it stands in, or None for fabric switches.
        index: number among its kind, inside its host or (fabric switches) inside the fabric.
        rail: rail number of a NIC or rail leaf, else None.
    """

    name: str
    kind: NodeKind
    host: int | None = None
    index: int | None = None
    rail: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One directed link: ``bandwidth`` in bytes/s, ``latency_ps`` in picoseconds, numbered by ``index``."""

    index: int
    src: str
    dst: str
    kind: LinkKind
    bandwidth: float
    latency_ps: int


@dataclass(frozen=True, slots=True)
class EndpointCosts:
    """What a rank itself costs, beside the wires.

    Attributes:
        message_overhead_ps: processor time of one message, paid by the sender before and by the receiver after the
            wire (LogGP's o).
        reduction_ps_per_byte: time to add one received byte into the buffer; 0 means done at line rate.
        cores_per_host: processors that the ranks of one host share for their messages; None gives every rank one of
            its own.
    """

    message_overhead_ps: int = 0
    reduction_ps_per_byte: float = 0.0
    cores_per_host: int | None = None
