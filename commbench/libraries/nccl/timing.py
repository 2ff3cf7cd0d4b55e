# SPDX-License-Identifier: Apache-2.0
"""How long a call of NCCL takes, once algorithm and protocol are chosen; apart from the choice.

    time = launch + (latency^p + wire^p)^(1/p)

- launch: the floor of the GPU's generation. One process that starts k GPUs starts them one after the other while the
  GPUs are at the call before: the longer of both is what a call takes, and what the host takes longer is launch.
- latency: NCCL's own hops, times a constant for protocol and generation or network.
- wire: bytes over NCCL's own bandwidth, times a constant for protocol and generation or network. NVLS moves small
  chunks below some MiB a channel and head, which costs a share of it; rings copy the rank's own block beside it.
- p: how far steps hide behind the wire; 1 adds them up.

Constants belong to a generation, a kind of link or a kind of network (``constants.yaml``), never to one curve. Times
are in us, sizes in bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2

import numpy as np
import numpy.typing as npt

from commbench.libraries.nccl.graph import Graphs
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.tuning import Cost

__all__ = ["PLUGINS", "CallShape", "names_of", "shape_of", "terms_of", "time_of"]

FloatArray = npt.NDArray[np.float64]
Parts = tuple[tuple[FloatArray, str], ...]

PLUGINS = ("efa", "efa2", "tcpx", "tcpxo")
"""Networks whose plugins go in Simple alone and tune by themselves: the fastest that they may take is taken."""
_BASES = {"LL": 0.0, "LL128": 7.4, "Simple": 1.8}
"""us that a kernel takes longer to begin than in LL (NCCL 2.30.7, baseLat); what LL takes is in the floor."""
_CHUNK = 128 * 1024
_TREE_CHUNK = 512 * 1024  # bytes of a channel's step in Simple; with NCCL_BUFFSIZE=8M, as TCPX wants it, twice as many
_BLOCK = 16
"""Bytes of a rank below which an all-reduce by rings in LL is quicker: seen on curves of H100 and A100 (13 us at 8 and
16 bytes, 15.5 from 128 on with 8 ranks). That blocks are whole multiples of 16 bytes, so that some are empty and their
steps do not wait, would explain it; assumed, not read in NCCL's source."""
P2P_LOW = 16 * 1024
"""Bytes to each peer up to which sends go in LL."""


@dataclass(frozen=True, slots=True)
class CallShape:
    """What a call consists of, each part with the name of the constant that multiplies it.

    Attributes:
        floor, host: names; the second with the number of GPUs that one process starts, or 0.
        latency, wire, copy: parts in us at the sizes asked for.
        small: bytes over those of one large chunk for every channel and head of NVLS; None: not NVLS. spread: which.
        power: name of the exponent, "" for 1.
    """

    floor: str
    host: str
    started: int
    latency: Parts
    wire: Parts
    copy: Parts = ()
    small: FloatArray | None = None
    spread: str = ""
    power: str = ""


def names_of(shape: CallShape) -> tuple[str, ...]:
    """Names of the constants that a shape needs."""
    found = [shape.floor, *(name for part in (shape.latency, shape.wire, shape.copy) for _, name in part if name)]
    found += [shape.host, "host.power"] if shape.started else []
    if shape.small is not None:
        found += [f"small.{what}.{shape.spread}" for what in ("share", "scale")]
    found += [shape.power] if shape.power else []
    return tuple(dict.fromkeys(found))


def terms_of(shape: CallShape, constants: Mapping[str, float]) -> dict[str, FloatArray]:
    """us by what they go to; they add up to the time. Latency is what the wire does not hide.

    Raises:
        KeyError: a constant is not known.
    """
    latency, wire, copy = (_sum(parts, constants) for parts in (shape.latency, shape.wire, shape.copy))
    fill = np.zeros_like(wire)
    if shape.small is not None:
        share, scale = (constants[f"small.{what}.{shape.spread}"] for what in ("share", "scale"))
        fill = wire * share / (1 + (shape.small / scale) ** 1.4)
    moved = wire + copy + fill
    power = constants[shape.power] if shape.power else 1.0
    whole = (latency**power + moved**power) ** (1 / power)
    launch = np.full_like(wire, constants[shape.floor])
    if shape.started:
        device, host, sharp = launch + whole, shape.started * constants[shape.host], constants["host.power"]
        launch = launch + device * ((1 + (host / device) ** sharp) ** (1 / sharp) - 1)
    return {
        "launch": launch,
        "latency": whole - moved,
        "fill": fill,
        "wire": wire,
        "copy": copy,
    }


def time_of(shape: CallShape, constants: Mapping[str, float]) -> FloatArray:
    """us of the whole."""
    terms = iter(terms_of(shape, constants).values())
    total: FloatArray = next(terms)
    for each in terms:
        total = total + each
    return total


def _sum(parts: Parts, constants: Mapping[str, float]) -> FloatArray:
    total: FloatArray = np.zeros(1)
    for amounts, name in parts:
        total = total + amounts * (constants[name] if name else 1.0)
    return total


def shape_of(
    cost: Cost | None, machine: NcclMachine, graphs: Graphs, kind: str, sizes: FloatArray, element: int
) -> CallShape:
    """The parts of a candidate (None: sends and receives) at sizes.

    Args:
        element: bytes of one, as sums of single bytes are slower.
    """
    generation = machine.kind.generation
    started = machine.gpus_per_node if machine.launch == "threads" else 0
    head = (f"floor.{generation}", f"host.{generation}", started)
    if cost is None:
        return _point_to_point((f"p2p.floor.{generation}", *head[1:]), machine, graphs, sizes)
    protocol = cost.protocol
    if cost.algorithm in ("NVLS", "NVLSTree"):
        return _nvls(head, cost, machine, graphs, sizes)
    each = np.ones_like(sizes)
    network = _network(machine)
    latency: list[tuple[FloatArray, str]] = [(each * _BASES[protocol], f"base.{protocol}")]
    latency.append((each * cost.intra_hops * cost.intra_us, f"hop.{protocol}.{generation}"))
    if machine.nodes > 1:
        latency.append((each * cost.inter_hops * cost.inter_us, f"net.{cost.algorithm}.{protocol}.{network}"))
    if protocol == "LL" and cost.algorithm == "Ring" and kind == "all-reduce":
        empty = 1 - (np.clip(np.ceil(sizes / _BLOCK), 1, machine.ranks) - 1) / (machine.ranks - 1)
        latency.append((-empty * cost.intra_hops * cost.intra_us, f"blocks.{generation}"))
    if cost.algorithm == "PAT":
        latency.append((each * (cost.base_us - 8), f"hop.{protocol}.{generation}"))
    wire = _wire(cost, machine, graphs, sizes, kind)
    name = f"wire.{protocol}.{_inside(machine)}" if machine.nodes == 1 else f"netwire.{protocol}.{network}"
    parts: list[tuple[FloatArray, str]] = [(wire, name)]
    if cost.algorithm == "Tree" and protocol == "Simple" and machine.nodes > 1:
        parts.append((_tree_fill(cost, machine, graphs, sizes), f"treefill.{network}"))
    if protocol == "LL":
        alone = np.minimum(sizes, 4096.0 * (machine.ranks if cost.algorithm == "Ring" else 1))
        parts.append(
            (
                alone * graphs.channels / (1000 * cost.bandwidth),
                f"join.{generation}" if machine.nodes == 1 else "join.net",
            )
        )
    copy: Parts = ()
    if (
        cost.algorithm in ("Ring", "PAT")
        and protocol == "Simple"
        and kind in ("all-gather", "reduce-scatter", "all-reduce")
    ):
        bare = sizes / machine.ranks / (1000 * graphs.channels * 40)
        copy = ((bare, f"copy.{kind}.{generation}"),)
        if element == 1 and kind != "all-gather":
            copy = (*copy, (bare, f"bytes.{generation}"))
    power = "" if protocol != "Simple" else f"overlap.{generation}" if machine.nodes == 1 else f"overlap.net.{network}"
    return CallShape(*head, tuple(latency), tuple(parts), copy, None, "", power)


def _inside(machine: NcclMachine) -> str:
    """What the rate inside a node belongs to: the GPU's compute capability, and on GPUs without peer access the way
    that they share: a PCIe switch (2), a socket (4), both sockets."""
    kind, count = machine.kind, machine.gpus_per_node
    name = kind.generation if kind.generation.startswith("cdna") else f"sm{kind.compute_capability}"
    if kind.generation != "ada-server":
        return name
    return f"{name}-{'switch' if count <= 2 else 'socket' if count <= 4 else 'sockets'}"


def _network(machine: NcclMachine) -> str:
    """The network, apart for RCCL and for a single GPU a node, which one NIC's proxy serves. InfiniBand and RoCE are
    one: NCCL drives both by verbs, and their curves are alike."""
    name = "verbs" if machine.network in ("ib", "roce") else machine.network
    name = name if machine.library == "nccl" else f"{name}-{machine.library}"
    return name if machine.gpus_per_node > 1 else f"{name}-alone"


def _wire(cost: Cost, machine: NcclMachine, graphs: Graphs, sizes: FloatArray, kind: str) -> FloatArray:
    """us of bytes over the candidate's bandwidth. In LL a rank of one node handles each byte as often whatever the
    number of ranks."""
    bandwidth = cost.bandwidth
    if cost.algorithm == "Ring" and cost.protocol == "LL" and machine.nodes == 1 and machine.link != "pcie":
        bandwidth *= 2 * (machine.ranks - 1) / machine.ranks
    return sizes / (1000 * bandwidth)


def _tree_fill(cost: Cost, machine: NcclMachine, graphs: Graphs, sizes: FloatArray) -> FloatArray:
    """us until the first chunks have gone down a tree: depth times a chunk of every channel."""
    depth = machine.gpus_per_node - 1 + log2(machine.nodes)
    most = graphs.channels * _TREE_CHUNK * (2 if machine.network in ("tcpx", "tcpxo") else 1)
    return depth * _wire(cost, machine, graphs, np.minimum(sizes, most), "all-reduce")


def _nvls(head: tuple[str, str, int], cost: Cost, machine: NcclMachine, graphs: Graphs, sizes: FloatArray) -> CallShape:
    generation, each = machine.kind.generation, np.ones_like(sizes)
    latency = [(each * cost.intra_us, f"nvls.{generation}")]
    name = f"wire.{cost.algorithm}.{_inside(machine)}"
    if machine.nodes > 1:
        latency.append((each * cost.inter_hops * cost.inter_us, f"net.NVLSTree.Simple.{_network(machine)}"))
    assert graphs.nvls is not None
    if machine.nodes > 2 or (machine.nodes == 2 and cost.bandwidth >= graphs.nvls.channels * graphs.nvls.inter):
        name = f"netwire.Simple.{_network(machine)}"  # the NICs hold it up, not the switches
    heads = machine.gpus_per_node if machine.nodes == 1 else graphs.nvls.channels
    small = sizes / (graphs.nvls_channels * heads * _CHUNK)
    wire = sizes / (1000 * cost.bandwidth)
    return CallShape(*head, tuple(latency), ((wire, name),), (), small, cost.algorithm)


def _point_to_point(head: tuple[str, str, int], machine: NcclMachine, graphs: Graphs, sizes: FloatArray) -> CallShape:
    """All-to-all: every rank sends a block to each other one."""
    generation, ranks, each = machine.kind.generation, machine.ranks, np.ones_like(sizes)
    block = sizes / ranks
    low = block <= P2P_LOW
    latency = [
        (each * (ranks - 1), f"peers.{generation}"),
        (np.where(low, 0.0, each), f"p2p.Simple.{generation}"),
    ]
    per_gpu = graphs.ring.channels * graphs.ring.intra
    wire = [(block * (machine.gpus_per_node - 1) / (1000 * per_gpu), f"p2p.wire.{_inside(machine)}")]
    copy = ((block / (1000 * graphs.channels * 40), f"copy.all-gather.{generation}"),)
    if machine.nodes > 1:
        network = _network(machine) + ("-pcie" if machine.link == "pcie" else "")
        rate = machine.nics * min(machine.nic_Gbps / 8, graphs.ring.inter * graphs.ring.channels)
        crossing = block * (ranks - machine.gpus_per_node) * machine.gpus_per_node
        wire = [(crossing / (1000 * rate), f"p2p.netwire.{network}")]
        latency = [(each, f"p2p.net.{network}"), (each * machine.nodes, f"p2p.nodes.{network}")]
    return CallShape(
        *head, tuple(latency), tuple(wire), copy, None, "", f"overlap.p2p.{generation}" if machine.nodes == 1 else ""
    )
