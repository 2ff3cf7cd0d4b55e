# SPDX-License-Identifier: Apache-2.0
"""How the inside of one host is wired: pure functions from a host number to its parts, and what joins GPUs beside.

Names are ``h<host>/<kind><index>``: "h3/gpu5", "h3/nic0", "h3/cpu1", "h3/pcie2", "h3/nvswitch0". In GPU hosts
the ranks are the GPUs, and the CPUs are sockets; in plain and shared-memory hosts the ranks are the CPUs.
NIC r of every host is rail r.
"""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations, product

from commbench.errors import TopologyError
from commbench.topology.model import STEMS, LinkKind, Node, NodeKind
from commbench.topology.parts import Cable, Parts, Wire, duplex, join, pairs

__all__ = [
    "CUBE_MESH",
    "PcieTree",
    "at_least",
    "check_cube_mesh",
    "check_tree",
    "cube_mesh",
    "mesh",
    "pcie_host",
    "plain_host",
    "rack",
    "shared_memory_host",
    "under_nvswitch",
]

# NVLinks between the eight GPUs of a DGX-1 with V100, as `nvidia-smi topo -m` prints them (NV1, NV2) and as
# the whitepaper "NVIDIA DGX-1 with Tesla V100 System Architecture" draws them: two fully connected quads, and
# each GPU joined to its twin in the other quad. Every GPU ends six NVLinks.
CUBE_MESH = {
    (0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 2,
    (4, 5): 1, (4, 6): 1, (4, 7): 2, (5, 6): 2, (5, 7): 1, (6, 7): 2,
    (0, 4): 2, (1, 5): 2, (2, 6): 1, (3, 7): 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PcieTree:
    """The PCIe and socket side of a GPU host.

    Attributes:
        switches: PCIe switches, shared out evenly to the sockets; 0 puts devices on the sockets themselves.
        sockets: CPU sockets, every two of them joined by a ``socket`` wire.
        pcie: one direction of one PCIe link (device to switch, switch to socket).
        socket: one direction of the link between two sockets.
    """

    switches: int
    sockets: int
    pcie: Wire
    socket: Wire


def _nodes(host: int, kind: NodeKind, count: int) -> tuple[Node, ...]:
    stem = STEMS.get(kind, kind.value)
    rails: tuple[int | None, ...] = tuple(range(count)) if kind is NodeKind.NIC else (None,) * count
    return tuple(Node(f"h{host}/{stem}{i}", kind, host, i, rails[i]) for i in range(count))


def at_least(key: str, value: int, least: int) -> None:
    """Refuse a count of the host section that is below ``least``.

    Raises:
        TopologyError: it is; names key, value and rule.
    """
    if value < least:
        raise TopologyError(f"host.{key}: {value} must be at least {least}")


def plain_host(host: int, *, nics: int, bus: Wire) -> Parts:
    """One CPU rank and its NICs, each on its own full-duplex bus link.

    Nodes: 1 + nics. Directed links: 2 nics. All NICs are the rank's own, NIC 0 first.

    Args:
        host: host number.
        nics: NICs of the host, 1 or more.
        bus: one direction of one CPU-NIC link.

    Raises:
        TopologyError: no NIC.
    """
    at_least("nics", nics, 1)
    (cpu,) = _nodes(host, NodeKind.CPU, 1)
    ports = _nodes(host, NodeKind.NIC, nics)
    cables = pairs(((cpu.name, nic.name) for nic in ports), LinkKind.PCIE, bus)
    return Parts((cpu, *ports), cables, (cpu.name,), {cpu.name: tuple(nic.name for nic in ports)})


def shared_memory_host(host: int, *, ranks: int, rank_link: Wire, memory: Wire) -> Parts:
    """CPU ranks of one machine that exchange messages through its memory and contend for it::

        cpu0 --.                              .--> cpu0
        cpu1 ---+--> memory-in ==> memory-out +--> cpu1
        cpu2 --'      (one link for all)      '--> cpu2

    Nodes: ranks + 2. Directed links: 2 ranks + 1. Every message crosses the one middle link, so at most
    ``memory.bandwidth`` passes through the host at a time, whoever talks to whom.

    Args:
        host: host number.
        ranks: CPU ranks, 1 or more.
        rank_link: what one rank alone can move in or out (its copy thread).
        memory: what all ranks together can move.

    Raises:
        TopologyError: no rank.
    """
    at_least("ranks", ranks, 1)
    cpus = _nodes(host, NodeKind.CPU, ranks)
    inward = Node(f"h{host}/memory-in", NodeKind.MEMORY, host, 0)
    outward = Node(f"h{host}/memory-out", NodeKind.MEMORY, host, 1)
    cables = [Cable(cpu.name, inward.name, LinkKind.MEMORY, rank_link) for cpu in cpus]
    cables.append(Cable(inward.name, outward.name, LinkKind.MEMORY, memory))
    cables += [Cable(outward.name, cpu.name, LinkKind.MEMORY, rank_link) for cpu in cpus]
    return Parts((*cpus, inward, outward), tuple(cables), tuple(cpu.name for cpu in cpus))


def pcie_host(host: int, *, gpus: int, nics: int, tree: PcieTree) -> Parts:
    """GPUs without NVLink: all they have is the PCIe tree and the link between the sockets.

    ::

        nic0 nic1        nic2 nic3         with 0 switches, devices sit on the sockets' host bridges
          '---pcie0---.---pcie1---'
          .--'  '--.  |   .--' '--.
        gpu0    gpu1 cpu0 gpu2    gpu3

    Nodes: gpus + switches + nics + sockets.
    Directed links: 2 (gpus + nics + switches + sockets (sockets - 1) / 2).
    A GPU's own NICs are on its switch, else on its socket, shared out in order; with as many NICs as GPUs it has
    the NIC of its number, with fewer it shares one.

    Raises:
        TopologyError: no GPU or socket, GPUs that do not share out to switches evenly, switches to sockets.
    """
    check_tree(gpus, nics, tree)
    devices, switches = _nodes(host, NodeKind.GPU, gpus), _nodes(host, NodeKind.PCIE_SWITCH, tree.switches)
    ports, sockets = _nodes(host, NodeKind.NIC, nics), _nodes(host, NodeKind.CPU, tree.sockets)
    points = switches or sockets
    up = _share_out(devices, points) | _share_out(ports, points)
    trunk = _share_out(switches, sockets)
    cables = pairs((up | trunk).items(), LinkKind.PCIE, tree.pcie)
    cables += pairs(((a.name, b.name) for a, b in combinations(sockets, 2)), LinkKind.SOCKET, tree.socket)
    names = tuple(node.name for node in devices)
    nics_of = _nearest_nics(names, tuple(node.name for node in ports), up, trunk)
    return Parts(devices + switches + ports + sockets, cables, names, nics_of)


def _share_out(nodes: tuple[Node, ...], points: tuple[Node, ...]) -> dict[str, str]:
    """The point that each node hangs on: equal shares, in order."""
    return {node.name: points[i * len(points) // len(nodes)].name for i, node in enumerate(nodes)}


def check_tree(gpus: int, nics: int, tree: PcieTree) -> None:
    """Refuse counts of a GPU host that do not share out evenly.

    Raises:
        TopologyError: no GPU or socket, GPUs no multiple of the switches, or switches none of the sockets.
    """
    at_least("gpus", gpus, 1)
    at_least("nics", nics, 0)
    at_least("pcie_switches", tree.switches, 0)
    at_least("sockets", tree.sockets, 1)
    if tree.switches % tree.sockets:
        raise TopologyError(f"host.pcie_switches: {tree.switches} is not a multiple of sockets {tree.sockets}")
    points = tree.switches or tree.sockets
    if gpus % points:
        where = "pcie_switches" if tree.switches else "sockets"
        raise TopologyError(f"host.gpus: {gpus} is not a multiple of {where} {points}")


def _nearest_nics(
    gpus: tuple[str, ...], nics: tuple[str, ...], up: dict[str, str], trunk: dict[str, str]
) -> dict[str, tuple[str, ...]]:
    """Each GPU's NICs: same switch, else same socket, else any; the GPUs there share them out in order."""

    def place(name: str, level: int) -> str:
        return (up[name], trunk.get(up[name], up[name]), "")[level]

    near: dict[tuple[int, str], list[str]] = {}
    for level, nic in product(range(3), nics):
        near.setdefault((level, place(nic, level)), []).append(nic)
    mates: dict[tuple[int, str], int] = Counter((level, place(gpu, level)) for level, gpu in product(range(3), gpus))
    found, before = dict[str, tuple[str, ...]](), Counter[tuple[int, str]]()
    for gpu in gpus if nics else ():
        keys = [(level, place(gpu, level)) for level in range(3)]
        key = next(key for key in keys if key in near)
        first, end = (number * len(near[key]) // mates[key] for number in (before[key], before[key] + 1))
        found[gpu] = tuple(near[key][first : max(end, first + 1)])
        before.update(keys)
    return found


def under_nvswitch(base: Parts, nvlink: Wire) -> Parts:
    """A host whose GPUs all hang on NVSwitch as well.

    All NVSwitch chips of the host are one node, as in NCCL's own graph (NCCL 2.30.7 src/graph/topo.h, node
    type NVS): each GPU spreads its NVLinks evenly over the chips, so that they act as one crossbar.

    Nodes: those of base + 1. Directed links: those of base + 2 gpus.

    Args:
        base: a host of :func:`pcie_host`, or a rack. nvlink: all NVLinks of one GPU together, one direction.
    """
    switches = _nodes(base.nodes[0].host or 0, NodeKind.NVSWITCH, 1)
    ends = ((gpu, switches[0].name) for gpu in base.ranks)
    return join(base, Parts(switches, pairs(ends, LinkKind.NVLINK, nvlink)))


def rack(tray: Parts, trays: int) -> Parts:
    """So many trays as in :func:`pcie_host`, which nothing joins; under NVSwitch they are a GB200 NVL72.

    It counts as one host: tray t has GPUs t x gpus and on, and NICs, CPUs alike. What NCCL makes of such a rack is not
    verified.
    """
    sizes = Counter(node.kind for node in tray.nodes)
    rows = [{node.name: _moved(node, t * sizes[node.kind]) for node in tray.nodes} for t in range(trays)]
    parts = [
        Parts(
            tuple(names.values()),
            tuple(replace(c, src=names[c.src].name, dst=names[c.dst].name) for c in tray.cables),
            tuple(names[rank].name for rank in tray.ranks),
            {names[gpu].name: tuple(names[nic].name for nic in near) for gpu, near in tray.nics_of.items()},
        )
        for names in rows
    ]
    return join(*parts)


def _moved(node: Node, step: int) -> Node:
    """A node whose number is so much higher."""
    index = (node.index or 0) + step
    name = f"{node.name.rstrip('0123456789')}{index}"
    return replace(node, name=name, index=index, rail=None if node.rail is None else node.rail + step)


def mesh(base: Parts, link: Wire) -> Parts:
    """Accelerators with one direct link between every two (an OAM baseboard).

    Directed links: those of base + gpus (gpus - 1).

    Args:
        base: a host of :func:`pcie_host`. link: the direct link between two accelerators, one direction.
    """
    return join(base, Parts((), pairs(combinations(base.ranks, 2), LinkKind.NVLINK, link)))


def check_cube_mesh(gpus: int) -> None:
    """Refuse a hybrid cube mesh of other than eight GPUs.

    Raises:
        TopologyError: it is one.
    """
    if gpus != 8:
        raise TopologyError(f"host.gpus: {gpus} must be 8, the hybrid cube mesh is drawn for 8 GPUs")


def cube_mesh(base: Parts, link: Wire) -> Parts:
    """Eight GPUs in the hybrid cube mesh of DGX-1V (:data:`CUBE_MESH`).

    Directed links: those of base + 2 x 16; 8 pairs have two NVLinks.

    Args:
        base: a host of :func:`pcie_host`. link: one NVLink, one direction.

    Raises:
        TopologyError: other than 8 GPUs.
    """
    check_cube_mesh(len(base.ranks))
    cables = [
        cable
        for (a, b), links in CUBE_MESH.items()
        for cable in duplex(base.ranks[a], base.ranks[b], LinkKind.NVLINK, link.times(links))
    ]
    return join(base, Parts((), tuple(cables)))
