# SPDX-License-Identifier: Apache-2.0
"""From a topology to the plan of a testbed: what to make and how to call it. Pure; the kernel is asked elsewhere.

Hosts and switches become *places* (one network namespace each), links become pairs of *ports* (the two ends of a veth
pair), and each port shapes what leaves by it. Switches route: every NIC has an address of its own, every switch a route
to every NIC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from commbench.emulate.tables import Tables, attached_switches
from commbench.errors import InputError
from commbench.topology.fabric import Fabric
from commbench.topology.faults import LinkFault
from commbench.topology.model import SWITCH_KINDS, LinkKind, NodeKind, Provenance, Quantity

__all__ = [
    "MOST_CLASSES",
    "Port",
    "Route",
    "TestbedCable",
    "TestbedNode",
    "TestbedPlan",
    "degraded",
    "plan_testbed",
    "require_plain",
    "scaled",
]

_NICS_FROM = IPv4Address("10.64.0.1")  # NIC i; the last 16 bits, i + 1, tell it from all others
_SWITCHES_FROM = IPv4Address("10.65.0.1")
MOST_CLASSES = 0xFF00  # of the 16 bits of a class's minor number; the rest are the root's and the others'
_LONGEST_NAME = 15  # of an interface: IFNAMSIZ less the closing zero, linux/if.h

Pair = tuple[int, int]
"""Numbers of the sending and the receiving NIC."""


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link.

    Attributes:
        place: where it is. interface: its name there. mac: its address on the link.
        address: IPv4 address of a NIC, "" at a switch.
        node, peer: names in the topology of the node that it belongs to and of the one at the other end.
        rate: bytes/s that may leave by it, Ethernet headers counted.
        pairs: whose traffic may leave by it.
    """

    place: str
    interface: str
    mac: str
    address: str
    node: str
    peer: str
    rate: float
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class TestbedCable:
    """A link: its two ends."""

    a: Port
    b: Port

    @property
    def ports(self) -> tuple[Port, Port]:
        """Both ends."""
        return self.a, self.b


@dataclass(frozen=True, slots=True)
class Route:
    """What is for ``address`` leaves by one of the ``hops``: (interface, address of the next place)."""

    address: str
    hops: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TestbedNode:
    """A host or a switch.

    Attributes:
        name: "h3" or "leaf0". forwards: whether it is a switch.
        address: of a switch as a whole, "" of a host.
        neighbours: (interface, address, mac) of what is at the other end of each of its links.
    """

    name: str
    forwards: bool
    address: str
    routes: tuple[Route, ...]
    neighbours: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class TestbedPlan:
    """All of a testbed.

    Attributes:
        topology: with the rates that are shaped. scale: factor from the rates of the file to these.
        routing: name of the policy. places: hosts, then switches. cables: links, both directions.
        nics: names of the NICs by number. planes: kinds of traffic that are told apart between two NICs: 0 is that of
            the ranks, the others are background flows.
        mtu: bytes of an IP packet.
    """

    topology: Fabric
    scale: float
    routing: str
    places: tuple[TestbedNode, ...]
    cables: tuple[TestbedCable, ...]
    nics: tuple[str, ...]
    planes: int
    mtu: int

    @property
    def ports(self) -> tuple[Port, ...]:
        """Every end of every link."""
        return tuple(port for cable in self.cables for port in cable.ports)

    @property
    def total_rate(self) -> float:
        """Bytes/s that all directions of all links can carry together."""
        return sum(port.rate for port in self.ports)

    @property
    def host_rate(self) -> float:
        """Bytes/s of the fastest link of a host."""
        return max(port.rate for port in self.ports if port.address)

    def port(self, src: str, dst: str) -> Port:
        """The port that shapes the link from one node of the topology to the next.

        Raises:
            InputError: there is no such link in the testbed; names both.
        """
        for port in self.ports:
            if (port.node, port.peer) == (src, dst):
                return port
        raise InputError(f"topology {self.topology.name}: the testbed has no link {src} -> {dst}")

    def ports_of(self, place: str) -> list[Port]:
        """The ports at a place, in order."""
        return [port for port in self.ports if port.place == place]

    def host_of_rank(self, rank: int) -> str:
        """The place of a rank of the topology."""
        return f"h{self.topology.host_of[rank]}"

    def class_of(self, pair: Pair, plane: int = 0) -> int:
        """Minor number of the class of a pair's traffic, the same on every port."""
        return 1 + (plane * len(self.nics) + pair[0]) * len(self.nics) + pair[1]

    def pair_of(self, minor: int) -> tuple[Pair, int]:
        """The pair and the plane of a class: the inverse of :meth:`class_of`."""
        rest, dst = divmod(minor - 1, len(self.nics))
        plane, src = divmod(rest, len(self.nics))
        return (src, dst), plane


def scaled(plan: TestbedPlan, host_rate: float) -> TestbedPlan:
    """The plan with all rates in proportion, the hosts' fastest link at ``host_rate`` bytes/s."""
    factor = host_rate / plan.host_rate
    topology, scale = plan.topology, plan.scale * factor
    source = f"all rates of {topology.origin or topology.name} times this, so that one machine carries them"
    numbers = {**topology.numbers, "emulate.scale": Quantity(f"{scale:.6g}", Provenance.EMULATED, source)}

    def slower(port: Port) -> Port:
        return replace(port, rate=port.rate * factor)

    cables = tuple(TestbedCable(slower(cable.a), slower(cable.b)) for cable in plan.cables)
    slow = replace(topology, bandwidths=topology.bandwidths * factor, numbers=numbers)
    return replace(plan, topology=slow, scale=scale, cables=cables)


def degraded(plan: TestbedPlan, links: Iterable[LinkFault]) -> TestbedPlan:
    """The plan with these links, a direction each, at a part of their rates from the start; routes stay.

    Raises:
        InputError: there is no such link; names both ends.
    """
    for fault in links:
        port = plan.port(fault.src, fault.dst)
        slow = replace(port, rate=port.rate * fault.factor)
        bandwidths = plan.topology.bandwidths.copy()
        bandwidths[plan.topology.links_between(fault.src, fault.dst)] = slow.rate
        ends = ((slow if end == port else end for end in cable.ports) for cable in plan.cables)
        cables = tuple(TestbedCable(a, b) for a, b in ends)
        plan = replace(plan, cables=cables, topology=replace(plan.topology, bandwidths=bandwidths))
    return plan


def require_plain(topology: Fabric) -> None:
    """Refuse what namespaces cannot be: GPUs, hosts with an inside, a host alone.

    Raises:
        InputError: names the first node that is no plain host's and no switch.
    """
    known = {NodeKind.CPU, NodeKind.NIC, *SWITCH_KINDS}
    for node in topology.nodes:
        if node.kind not in known:
            raise InputError(
                f"topology {topology.name}: {node.name} is a {node.kind}; only plain hosts (host.wiring: plain) "
                "joined by switches can be emulated"
            )
    if topology.graph.number_of_edges() < topology.num_links:
        raise InputError(f"topology {topology.name}: links side by side (links: 2) cannot be emulated; give one")
    if len(set(topology.host_of.tolist())) != topology.num_ranks or topology.num_ranks < 2:
        raise InputError(f"topology {topology.name}: a testbed needs two hosts or more, with one rank each")


def plan_testbed(
    topology: Fabric, tables: Tables, *, routing: str, mtu: int = 1500, num_background: int = 0
) -> TestbedPlan:
    """Lay out a testbed with the topology's own rates; :func:`scaled` gives it others.

    Args:
        topology: of plain hosts.
        tables: what each switch does with what is for a NIC (:mod:`commbench.emulate.tables`).
        routing: name of the policy that the tables follow.
        mtu: bytes of an IP packet. num_background: background flows that are to be told apart.

    Raises:
        InputError: the topology has something else than plain hosts and switches, or too many NICs.
    """
    require_plain(topology)
    if not 576 <= mtu <= 65535:  # RFC 791: every host takes 576; an IPv4 packet's length has 16 bits
        raise InputError(f"--mtu {mtu} must be from 576 to 65535 bytes")
    attached = attached_switches(topology)
    nics, planes = tuple(attached), 1 + num_background
    if planes * len(nics) ** 2 > MOST_CLASSES:
        raise InputError(
            f"topology {topology.name}: {len(nics)} NICs with {num_background} background flows need "
            f"{planes * len(nics) ** 2} classes of traffic; the kernel numbers at most {MOST_CLASSES}"
        )
    makes = _Makes(topology, tables, attached, {nic: i for i, nic in enumerate(nics)})
    cables = tuple(makes.cables())
    places = tuple(makes.place(name, cables) for name in makes.place_names())
    return TestbedPlan(topology, 1.0, routing, places, cables, nics, planes, mtu)


@dataclass(frozen=True, slots=True)
class _Makes:
    """What the parts of one plan are made from; ``numbers`` are those of the NICs."""

    topology: Fabric
    tables: Tables
    attached: Mapping[str, str]
    numbers: Mapping[str, int]

    def place_of(self, node: str) -> str:
        host = self.topology.by_name[node].host
        return node if host is None else f"h{host}"

    def place_names(self) -> list[str]:
        return list(dict.fromkeys(self.place_of(node.name) for node in self.topology.nodes))

    def switches(self) -> list[str]:
        return [node.name for node in self.topology.of_kind(*SWITCH_KINDS)]

    def nic_address(self, nic: str) -> str:
        return str(_NICS_FROM + self.numbers[nic])

    def address(self, node: str) -> str:
        """Of a NIC, or of a switch."""
        if node in self.numbers:
            return self.nic_address(node)
        return str(_SWITCHES_FROM + self.switches().index(node))

    def cables(self) -> Iterable[TestbedCable]:
        """Each link once, in the order of the topology."""
        pairs, serial = self._pairs_by_edge(), 0
        for link in self.topology.links:
            if link.kind is LinkKind.NETWORK and link.index < self._back(link.src, link.dst):
                ends = ((link.src, link.dst), (link.dst, link.src))
                a, b = (self._port(src, dst, 2 * serial + i, pairs) for i, (src, dst) in enumerate(ends))
                yield TestbedCable(a, b)
                serial += 1

    def _back(self, src: str, dst: str) -> int:
        """Number of the link in the other direction."""
        if not self.topology.graph.has_edge(dst, src):
            raise InputError(f"topology {self.topology.name}: link {src} -> {dst} has no way back; a veth pair has")
        return int(self.topology.graph.edges[dst, src]["link"].index)

    def _port(self, src: str, dst: str, serial: int, pairs: Mapping[tuple[str, str], list[Pair]]) -> Port:
        interface = src.partition("/")[2] if src in self.numbers else dst.replace("/", "-")
        if len(interface) > _LONGEST_NAME:
            raise InputError(f"topology {self.topology.name}: interface {interface!r} has over {_LONGEST_NAME} letters")
        return Port(
            place=self.place_of(src),
            interface=interface,
            mac="02:" + ":".join(f"{byte:02x}" for byte in serial.to_bytes(5)),
            address=self.nic_address(src) if src in self.numbers else "",
            node=src,
            peer=dst,
            rate=self._rate(src, dst),
            pairs=tuple(sorted(pairs.get((src, dst), []))),
        )

    def _rate(self, src: str, dst: str) -> float:
        """Of the link, and of the host's own bus behind it where that is slower."""
        edges = self.topology.graph.edges
        rate = edges[src, dst]["link"].bandwidth
        if src in self.numbers:
            rate = min([rate, *(edges[cpu, src]["link"].bandwidth for cpu in self._cpus(src))])
        if dst in self.numbers:
            rate = min([rate, *(edges[dst, cpu]["link"].bandwidth for cpu in self._cpus(dst))])
        return float(rate)

    def _cpus(self, nic: str) -> list[str]:
        return [n for n in self.topology.graph.successors(nic) if self.topology.by_name[n].kind is NodeKind.CPU]

    def _pairs_by_edge(self) -> dict[tuple[str, str], list[Pair]]:
        """Directed link -> the pairs whose traffic the tables may send over it."""
        found: dict[tuple[str, str], list[Pair]] = {}
        for src, first in self.attached.items():
            for dst in self._same_rail(src):
                pair = self.numbers[src], self.numbers[dst]
                edges = {(src, first)}
                front = {first}
                while front:
                    steps = {(here, after) for here in front for after in self._next(here, dst)}
                    edges |= steps
                    front = {after for _, after in steps} - {dst}
                for edge in edges:
                    found.setdefault(edge, []).append(pair)
        return found

    def _next(self, switch: str, nic: str) -> tuple[str, ...]:
        if nic not in self.tables.get(switch, {}):
            raise InputError(f"topology {self.topology.name}: no way from {switch} to {nic}")
        return self.tables[switch][nic]

    def _same_rail(self, nic: str) -> list[str]:
        """NICs of other hosts that this one talks to: those of its rail."""
        here = self.topology.by_name[nic]
        others = (self.topology.by_name[name] for name in self.attached)
        return [node.name for node in others if node.rail == here.rail and node.host != here.host]

    def place(self, name: str, cables: tuple[TestbedCable, ...]) -> TestbedNode:
        """A place with its routes; ``cables`` are all of the testbed."""
        both = [(mine, other) for cable in cables for mine, other in (cable.ports, cable.ports[::-1])]
        here = [(mine, other) for mine, other in both if mine.place == name]
        neighbours = tuple((mine.interface, self.address(mine.peer), other.mac) for mine, other in here)
        if name in self.switches():
            by = {mine.peer: mine.interface for mine, _ in here}
            table = self.tables.get(name, {})
            routes = (
                Route(self.nic_address(nic), tuple((by[n], self.address(n)) for n in table[nic]))
                for nic in self.numbers
                if nic in table
            )
            return TestbedNode(name, True, self.address(name), tuple(routes), neighbours)
        return TestbedNode(name, False, "", tuple(self._host_routes(name)), neighbours)

    def _host_routes(self, name: str) -> Iterable[Route]:
        """What is for a NIC leaves by this host's NIC of the same rail."""
        for own in (nic for nic in self.attached if self.place_of(nic) == name):
            hop = (own.partition("/")[2], self.address(self.attached[own]))
            for nic in self._same_rail(own):
                yield Route(self.nic_address(nic), (hop,))
