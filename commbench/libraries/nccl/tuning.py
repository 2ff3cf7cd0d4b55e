# SPDX-License-Identifier: Apache-2.0
"""NCCL's choice: its tuning formula, which ranks algorithms and protocols, and the channels and threads of a call.

The formula is ``latency + bytes / bandwidth`` for each candidate; the smallest is taken. As a clock it is wrong (see
docs/nccl-accuracy.md); how long things take is :mod:`commbench.libraries.nccl.timing`.
"""

from dataclasses import dataclass, replace
from math import floor, log2

import numpy as np
import numpy.typing as npt

from commbench.libraries.nccl.graph import Graphs, graphs_of
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.tables import PROTOCOLS, Tables

__all__ = ["ALGORITHMS", "Cost", "channels_of", "costs_of", "formula_us", "passed_on"]

FloatArray = npt.NDArray[np.float64]

ALGORITHMS = ("Tree", "Ring", "NVLS", "NVLSTree", "PAT")
"""In the order in which NCCL weighs them; of equal ones the earlier is taken."""
_GATHERS = ("all-gather", "reduce-scatter")
_KEYS = {"Tree": "tree", "Ring": "ring", "NVLS": "nvls", "NVLSTree": "nvls-tree", "PAT": "pat"}
_NO_NVLS = ("tcpx", "tcpxo")  # whose guides set NCCL_NVLS_ENABLE=0, and NCCL_ALGO=Ring for tcpx, Ring,Tree for tcpxo
_USABLE = 0.8  # of an NVLink: 128 bytes of payload at a time (nccl-tests#149)
_REDUCES = {"int8": (), "uint8": (), "float8_e4m3fn": (), "float8_e5m2": (), "float32": ("sum",), "float64": ("sum",)}
"""Element types for which NVLS adds less than sums, minima and maxima."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A candidate: us and GB/s (of the size, not of the bus), and of what hops the latency consists.

    Attributes:
        base_us: what does not depend on hops. intra_hops, inter_hops: how many, each of ``intra_us``, ``inter_us``.
    """

    algorithm: str
    protocol: str
    bandwidth: float
    base_us: float
    intra_hops: float
    intra_us: float
    inter_hops: float
    inter_us: float

    @property
    def latency_us(self) -> float:
        """All of it."""
        return self.base_us + self.intra_hops * self.intra_us + self.inter_hops * self.inter_us


def costs_of(
    machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str, dtype: str = "float32", redop: str = "sum"
) -> tuple[Cost, ...]:
    """All candidates of a collective, in the order in which NCCL weighs them."""
    found = []
    for algorithm in ALGORITHMS:
        if not _allowed(algorithm, machine, graphs, tables, kind, dtype, redop):
            continue
        for number, protocol in enumerate(PROTOCOLS):
            if not _protocol_allowed(algorithm, protocol, machine, graphs):
                continue
            bandwidth = _bandwidth(algorithm, number, machine, graphs, tables, kind)
            if bandwidth > 0:
                found.append(
                    Cost(algorithm, protocol, bandwidth, *_hops(algorithm, number, machine, graphs, tables, kind))
                )
    return tuple(found)


def _allowed(
    algorithm: str, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str, dtype: str, redop: str
) -> bool:
    if machine.algorithms and algorithm not in machine.algorithms:
        return False
    if algorithm == "Ring":
        return not (kind == "all-reduce" and _takes_trees(machine))
    if machine.nodes > 1 and machine.network == "tcpx":
        return False
    if algorithm == "Tree":
        return kind == "all-reduce"
    if algorithm == "PAT":
        alone = machine.gpus_per_node == 1 and machine.nodes > 1
        return bool(tables.rules["pat"]) and kind in _GATHERS and alone and redop != "avg"
    if graphs.nvls is None or (machine.nodes > 1 and machine.network in _NO_NVLS):
        return False
    if (algorithm == "NVLS") != (machine.nodes == 1) or kind not in (*_GATHERS, "all-reduce"):
        return False
    adds = kind == "all-gather" or redop in _REDUCES.get(dtype, ("sum", "min", "max"))
    return adds and (algorithm == "NVLS" or kind == "all-reduce")


def _takes_trees(machine: NcclMachine) -> bool:
    """Whether an all-reduce never goes by rings: of two nodes over TCPXO, whose plugin has a tuner of its own. The
    public curve keeps to trees from 8 B to 8 GiB, though rings would take half as long at 16 MiB, twice what an
    all-gather takes there."""
    return machine.nodes == 2 and machine.network == "tcpxo" and machine.algorithms != ("Ring",)


def _protocol_allowed(algorithm: str, protocol: str, machine: NcclMachine, graphs: Graphs) -> bool:
    if machine.protocols and protocol not in machine.protocols:
        return False
    if algorithm not in ("Tree", "Ring"):
        return protocol == "Simple"
    return protocol != "LL128" or graphs.ll128


def _row(machine: NcclMachine) -> str:
    capability = machine.kind.compute_capability
    return (
        "blackwell"
        if capability >= 100
        else "hopper"
        if capability >= 90
        else "ampere"
        if capability >= 80
        else "volta"
    )


def _bandwidth(algorithm: str, protocol: int, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str) -> float:
    """GB/s of the size."""
    many = min(machine.nodes, 3) - 1
    if algorithm in ("NVLS", "NVLSTree"):
        bus = _nvls_bus(algorithm, machine, graphs, tables, kind)
        if tables.nvls["rule"] != "efficiency":  # of the size already
            return bus
    else:
        graph = graphs.tree if algorithm == "Tree" else graphs.ring
        count = graph.channels
        bus = count * (graph.intra if machine.nodes <= 2 else graph.inter)
        caps, row = tables.channel_max, _row(machine)
        if algorithm == "Ring" and protocol < 2:
            bus = _ring_low(protocol, bus, count, machine, tables, kind)
        if algorithm == "Tree":
            bus = min(bus * 0.92, count * caps["tree"][row][many])
            if protocol == 0:
                bus = min(bus / 3.8, _ll_max(machine, tables))
            if protocol == 1:
                bus = min(bus * (7 / 9 if machine.nodes == 1 else 120 / 128), count * caps["tree-ll128"][row][many])
            bus *= tables.ratios["tree-pattern"] if graph.pattern == 3 else 1.0
        if algorithm == "PAT":
            bus *= tables.ratios["pat"]
    if kind in _GATHERS and algorithm != "Ring":
        return bus
    if algorithm in ("Ring", "NVLS", "NVLSTree"):
        steps = _steps(machine, kind)
        return bus * machine.ranks / steps if steps else 0.0
    return bus * 0.5


def _steps(machine: NcclMachine, kind: str) -> int:
    ranks = machine.ranks
    return 2 * (ranks - 1) if kind == "all-reduce" else ranks - 1 if kind in _GATHERS else ranks


def _ll_max(machine: NcclMachine, tables: Tables) -> float:
    many = min(machine.nodes, 3) - 1
    row = _row(machine) if machine.nodes == 1 else "ampere" if machine.cpu == "amd" else "volta"
    return tables.ll_max[row][many]


def _ring_low(protocol: int, bus: float, count: int, machine: NcclMachine, tables: Tables, kind: str) -> float:
    """GB/s of a ring's bus in LL and LL128."""
    ratios = tables.ratios
    if protocol == 0:
        gathers = machine.nodes == 1 and kind != "all-reduce"
        return min(_ll_max(machine, tables), bus * ratios["ring-ll-gathers" if gathers else "ring-ll"])
    alone = machine.gpus_per_node < 2
    cap = tables.channel_max["ring-ll128"][_row(machine)][min(machine.nodes, 3) - 1]
    return min(bus * ratios["ring-ll128-alone" if alone else "ring-ll128"], count * cap)


def _nvls_bus(algorithm: str, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str) -> float:
    """GB/s of the bus of NVLS, or by the rules of older versions of the size; 0 where it is off."""
    graph, rule = graphs.nvls, tables.nvls["rule"]
    assert graph is not None
    count, many = graph.channels, min(machine.nodes, 3) - 1
    if count < 2:
        return 0.0
    if rule == "efficiency":
        intra = graph.intra * tables.nvls["efficiency"][_row(machine)] * (count - 1) / count
        local = machine.gpus_per_node
        intra *= 2 if kind == "all-reduce" else (local - 1) / local
        inter = graph.inter * (2 if machine.nodes <= 2 and algorithm == "NVLSTree" else 1)
        each = min(intra, inter)
        if algorithm == "NVLSTree":
            each = min(each, tables.channel_max["nvls-tree"][_row(machine)][many])
        return float(count * each)
    if algorithm == "NVLS" or rule == "ratio":
        inter = graph.inter if machine.nodes <= 2 else graph.inter / 2
        return count * min(graph.intra, inter if algorithm == "NVLSTree" else graph.inter) * 5 / 6
    return count * min(graph.intra, graph.inter) * 0.70 * machine.nodes / (2 * (machine.nodes - 1))


def _hops(
    algorithm: str, protocol: int, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str
) -> tuple[float, float, float, float, float]:
    """Base, then number and us of hops inside and between nodes (see :class:`Cost`)."""
    key, nodes, local = _KEYS[algorithm], machine.nodes, machine.gpus_per_node
    graph = {"Tree": graphs.tree, "NVLS": graphs.nvls, "NVLSTree": graphs.nvls}.get(
        algorithm, graphs.ring
    ) or graphs.ring
    hops = tables.hop_us
    base = tables.base_us[key][protocol]
    link = "nvlink" if graph.nvlink else "pci"
    intra = hops[link][key][protocol]
    if machine.cpu == "power" and link == "pci" and algorithm == "Tree" and protocol == 2:
        intra = hops["pci"]["ring"][2]
    alone = local == 1 and tables.rules["alone-tree-hops"]
    inter = hops["net"]["tree" if alone else key][protocol] + graph.latency_us * (2 if protocol == 2 else 1)
    depth = floor(log2(nodes)) if nodes > 1 else 0
    if algorithm == "Ring":
        return _ring_hops(protocol, base, intra, inter, machine, graph.nvlink, tables, kind)
    if algorithm == "Tree":
        return base, 2 * (local - 1), intra, 2 * depth, inter
    if algorithm == "NVLS":
        return 0.0, 1, intra, int(nodes > 1), inter
    if algorithm == "NVLSTree":
        crossings = 2 * (nodes - 1) if tables.nvls["rule"] == "hops" else 2 * depth
        return 0.0, 1, intra, crossings, inter
    return base + 2.8 * machine.ranks, 0, intra, depth / 3.5, inter


def _ring_hops(
    protocol: int,
    base: float,
    intra: float,
    inter: float,
    machine: NcclMachine,
    nvlink: bool,
    tables: Tables,
    kind: str,
) -> tuple[float, float, float, float, float]:
    steps, nodes = _steps(machine, kind), machine.nodes
    if kind not in (*_GATHERS, "all-reduce"):  # one to the next along the ring
        hw = tables.hop_us["net" if nodes > 1 else "nvlink" if nvlink else "pci"]
        each = hw["tree"][2] if protocol == 2 else hw["ring"][protocol]
        return base, 0 if nodes > 1 else steps, each, steps if nodes > 1 else 0, each
    crossings = 0 if nodes == 1 else 2 * (nodes - 1) if kind == "all-reduce" else nodes - 1
    if nodes > 1 and kind == "all-reduce" and tables.rules["extra-ring-hop"]:
        crossings = 2 * nodes
    if nodes > 1:
        overhead = tables.net_overhead_us.get(machine.cpu, 1.0) * (3 if protocol == 2 else 1)
        intra = max(intra, overhead)
    return base, max(steps - crossings, 0), intra, crossings, inter


def passed_on(cost: Cost, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str) -> Cost:
    """The candidate with the hops and the rate that data take, where they are not those of NCCL's formula: it has a
    ring from a root cross the network at every rank, yet that leaves each node but the last once; and it counts trees
    of two nodes as if each sent the size twice, yet each sends it once (see :func:`_of_two`)."""
    if machine.nodes == 1:
        return cost
    if machine.nodes == 2 and cost.algorithm in ("Tree", "NVLSTree") and cost.protocol != "LL":
        return replace(cost, bandwidth=max(cost.bandwidth, _of_two(cost, machine, graphs, tables, kind)))
    if cost.algorithm != "Ring" or kind not in ("broadcast", "reduce"):
        return cost
    number = PROTOCOLS.index(cost.protocol)
    hops = tables.hop_us["nvlink" if graphs.ring.nvlink else "pci"]
    each = hops["tree"][2] if number == 2 else hops["ring"][number]
    return replace(cost, intra_hops=machine.ranks - machine.nodes, intra_us=each, inter_hops=machine.nodes - 1)


def _of_two(cost: Cost, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str) -> float:
    """GB/s of the size in trees of two nodes, of which one sends its sum and the other sends the whole back: the NICs
    carry it once (so that the bus exceeds them: NVIDIA in nccl-tests#309), unless what is inside the nodes is slower:
    switches that add, as on one node; GPUs that send all of it up and down their chain; or NCCL's most for a channel,
    which counts both ways."""
    if cost.algorithm == "NVLSTree":
        assert graphs.nvls is not None
        one = replace(machine, nodes=1, searched=())
        inside = _bandwidth("NVLS", 2, one, graphs_of(one, tables), tables, kind)
        return min(inside, graphs.nvls.channels * graphs.nvls.inter)
    tree = graphs.tree
    between = 0.92 * tree.channels * tree.inter
    inside = _USABLE * machine.link_GBps / 2 if machine.link == "nvswitch" else np.inf
    if cost.protocol == "LL128":  # 120 of 128 bytes are data
        between *= 120 / 128
        inside = min(inside, tree.channels * tables.channel_max["tree-ll128"][_row(machine)][1] / 2)
    return float(min(between, inside))


def formula_us(
    cost: Cost, sizes: FloatArray, machine: NcclMachine, graphs: Graphs, tables: Tables, kind: str
) -> FloatArray:
    """NCCL's estimate of a candidate at sizes in bytes."""
    bandwidth = np.full(len(sizes), cost.bandwidth)
    latency = np.full(len(sizes), cost.latency_us)
    index = np.floor(np.log2(np.maximum(sizes, 64) / 64)).astype(int)
    factor = _factor(cost, machine, tables, kind)
    if factor is not None:
        bandwidth *= np.where((sizes >= 64) & (index < len(factor)), factor[np.minimum(index, len(factor) - 1)], 1.0)
    between = cost.algorithm == "Ring" and cost.protocol == "Simple" and machine.nodes > 1 and kind == "all-reduce"
    if between:
        dear = tables.plateau["new" if machine.kind.compute_capability >= 80 else "old"]
        latency = np.where(sizes / (graphs.channels * machine.ranks) >= 64, latency * dear, latency)
    found: FloatArray = latency + sizes / (1000 * bandwidth)
    return found


def _factor(cost: Cost, machine: NcclMachine, tables: Tables, kind: str) -> FloatArray | None:
    if kind != "all-reduce":
        return None
    if cost.algorithm == "Tree":
        return np.array(tables.tree_factor[cost.protocol.lower()][:23])
    blackwell = machine.kind.compute_capability >= 100 and machine.cpu in ("intel", "amd")
    if cost.algorithm == "NVLSTree" and blackwell and tables.rules["nvls-tree-factor"]:
        return np.array(tables.tree_factor["simple"])
    return None


def channels_of(cost: Cost, size: float, machine: NcclMachine, graphs: Graphs) -> tuple[int, int]:
    """Channels and threads that a call of so many bytes gets."""
    if cost.algorithm in ("NVLS", "NVLSTree"):
        return graphs.nvls_channels, 640
    slow = cost.algorithm == "Ring" and graphs.ring.intra * graphs.ring.channels <= 12
    threads = {"LL": 512, "LL128": 640}.get(cost.protocol, 256 if slow else 512)
    each = {"LL": 8 * (machine.ranks if cost.algorithm == "Ring" else 1), "LL128": 8}.get(cost.protocol, 64)
    channels = graphs.channels
    channels = max(1, min(channels, int(size // (threads * each))))
    if channels == 1:
        while size < threads * each and threads % 128 == 0:
            threads //= 2
    if cost.algorithm in ("Tree", "PAT"):
        threads = 640
    elif cost.protocol == "Simple":
        threads += 32
    return channels, max(threads, 96)
