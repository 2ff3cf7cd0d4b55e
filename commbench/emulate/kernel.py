# SPDX-License-Identifier: Apache-2.0
"""What the kernel is told: namespaces, veth pairs, addresses, routes, settings and queues, by way of pyroute2.

Queues (``docs/emulate.md`` has the measurements behind them): each port has an htb that lets out the link's rate, and
under it a class for every pair of NICs whose traffic may come by. Classes get equal turns of one packet, so two flows
that share a port are equal from moment to moment, and a flow waits behind nobody's queue but its own.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nla, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWTFILTER
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from commbench.emulate.namespace import create, inside
from commbench.emulate.plan import Pair, Port, TestbedNode, TestbedPlan
from commbench.errors import RunError

__all__ = ["Kernel", "PortShaping", "names_of"]

_ROOT, _TOP, _OTHERS = 0x10000, 0x1FFFF, 0x1FFFE  # the htb, the class of the whole port, the class of what has none
_ETHERNET = 14  # bytes of header that the kernel counts with every packet
_ONLINK = 4  # RTNH_F_ONLINK, linux/rtnetlink.h: the next hop is there though no prefix says so
_PERMANENT = 0x80  # NUD_PERMANENT, linux/neighbour.h
_ALL_PROTOCOLS = 3  # ETH_P_ALL, linux/if_ether.h
_FOR_ALL, _FOR_DROP = 2, 1  # order of filters: what drops comes first


@dataclass(frozen=True, slots=True)
class PortShaping:
    """How TCP and the queues are set; chosen by measurement (docs/emulate.md).

    Attributes:
        fair: a class for every pair of NICs; False puts all traffic of a port into one queue.
        congestion: congestion control of TCP, of those that the kernel has.
        window_bytes: most that a connection may have under way.
        queue_packets: room of each class; above the window, so that nothing is ever dropped.
        burst_packets: that may leave a port at once after it was idle.
    """

    fair: bool = True
    congestion: str = "reno"
    window_bytes: int = 256 * 1024
    queue_packets: int = 1000
    burst_packets: int = 2


def names_of(testbed: str, plan: TestbedPlan) -> dict[str, str]:
    """TestbedNode -> name of its namespace."""
    return {place.name: f"{testbed}-{place.name}" for place in plan.places}


@contextmanager
def _talk(namespace: str) -> Iterator[IPRoute]:
    """A netlink socket into a namespace; pyroute2's own way to one forks."""
    made = inside(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE))
    with IPRoute(fileno=made.detach()) as ipr:
        yield ipr


class Kernel:
    """A testbed as the kernel has it: open netlink sockets into its namespaces.

    Args:
        plan: what it is made of. names: namespace of each place. shaping: of TCP and the queues.
        seed: of the hash that spreads flows over routes of equal cost.
    """

    def __init__(self, plan: TestbedPlan, names: Mapping[str, str], shaping: PortShaping, seed: int) -> None:
        self.plan = plan
        self.names = names
        self.shaping = shaping
        self._seed = seed
        self._index: dict[tuple[str, str], int] = {}
        self._down: set[Port] = set()

    def make(self) -> None:
        """Make everything.

        Raises:
            RunError: the kernel refused; says what and why.
        """
        with _told("the testbed cannot be made"), ExitStack() as stack:
            routes: dict[str, IPRoute] = {}
            for place in self.plan.places:
                name = self.names[place.name]
                create(name)
                inside(name, partial(self._set, place))
                routes[place.name] = stack.enter_context(_talk(name))
            for cable in self.plan.cables:
                self._connect(routes, *cable.ports)
            for place in self.plan.places:
                self._address(routes[place.name], place)
            for port in self.plan.ports:
                self._shape(routes[port.place], port)

    def set_rate(self, port: Port, rate: float) -> None:
        """Shape a port anew, in bytes/s."""
        with _told(f"the rate of {port.node} -> {port.peer} cannot be set"), self._at(port) as ipr:
            ipr.tc("change-class", "htb", self._index_of(port), _TOP, **self._top(rate))

    def take_down(self, port: Port) -> None:
        """Drop all that would leave by a port from now on."""
        drop = _bpf([(0x06, 0, 0, 2)])  # return TC_ACT_SHOT, linux/pkt_cls.h
        with _told(f"{port.node} -> {port.peer} cannot be taken down"), self._at(port) as ipr:
            if port not in self._down:
                self._filter(ipr, port, drop, order=_FOR_DROP, direct=True)
        self._down.add(port)

    def restore(self, port: Port) -> None:
        """Undo :meth:`take_down`."""
        with _told(f"{port.node} -> {port.peer} cannot be restored"), self._at(port) as ipr:
            if port in self._down:
                ipr.tc("del-filter", "bpf", self._index_of(port), parent=_ROOT, info=_info(_FOR_DROP))
        self._down.discard(port)

    def counted(self) -> dict[Port, dict[tuple[Pair, int], tuple[int, int]]]:
        """By port, (pair, plane) -> bytes and packets, Ethernet headers counted, that have left by it so far."""
        found: dict[Port, dict[tuple[Pair, int], tuple[int, int]]] = {}
        for port, ipr in self._each_port():
            for message in ipr.get_classes(index=self._index_of(port)):
                basic = message.get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")
                if message["handle"] not in (_TOP, _OTHERS) and basic["bytes"]:
                    key = self.plan.pair_of(message["handle"] & 0xFFFF)
                    found.setdefault(port, {})[key] = (basic["bytes"], basic["packets"])
        return found

    def dropped(self) -> dict[Port, int]:
        """By port, packets that found no room there so far."""
        found = {}
        for port, ipr in self._each_port():
            queues = [m for m in ipr.get_qdiscs(index=self._index_of(port)) if m["handle"] == _ROOT]
            found[port] = int(queues[0].get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")["drops"])
        return found

    def _each_port(self) -> Iterator[tuple[Port, IPRoute]]:
        """Every port with a socket into its place."""
        for place in self.plan.places:
            with _talk(self.names[place.name]) as ipr:
                yield from ((port, ipr) for port in self.plan.ports_of(place.name))

    def _at(self, port: Port) -> AbstractContextManager[IPRoute]:
        return _talk(self.names[port.place])

    def _index_of(self, port: Port) -> int:
        return self._index[port.place, port.interface]

    def _set(self, place: TestbedNode) -> None:
        """Settings of a namespace, from within it; those that a kernel may lack are set where it has them."""
        window = self.shaping.window_bytes
        always: dict[str, int | str] = {"ipv4/ip_forward": int(place.forwards), "ipv4/fib_multipath_hash_policy": 1}
        if not place.forwards:
            always |= {
                "ipv4/tcp_congestion_control": self.shaping.congestion,
                "ipv4/tcp_wmem": f"4096 {window} {window}",
                "ipv4/tcp_rmem": f"4096 {2 * window} {2 * window}",  # half of it is the window, tcp_adv_win_scale
                "ipv4/tcp_no_metrics_save": 1,
                "ipv4/tcp_slow_start_after_idle": 0,
            }
        sometimes = {
            "ipv6/conf/all/disable_ipv6": 1,
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/fib_multipath_hash_seed": self._seed,
        }
        for name, value in [*sometimes.items(), *always.items()]:
            path = Path("/proc/sys/net", name)
            if path.exists() or name in always:
                path.write_text(str(value))

    def _connect(self, routes: Mapping[str, IPRoute], a: Port, b: Port) -> None:
        """A veth pair that no other namespace ever sees."""
        common = {"mtu": self.plan.mtu, "txqlen": self.shaping.queue_packets}
        peer = common | {"ifname": b.interface, "address": b.mac, "net_ns_fd": self.names[b.place]}
        routes[a.place].link("add", kind="veth", ifname=a.interface, address=a.mac, peer=peer, **common)
        for port in (a, b):
            index = routes[port.place].link_lookup(ifname=port.interface)[0]
            self._index[port.place, port.interface] = index
            # one segment at a time, as on a wire: shaping and turns are by the packet
            routes[port.place].link("set", index=index, gso_max_segs=1, state="up")

    def _address(self, ipr: IPRoute, place: TestbedNode) -> None:
        ipr.link("set", index=1, state="up")
        if place.address:
            ipr.addr("add", index=1, address=place.address, prefixlen=32)
        for port in self.plan.ports_of(place.name):
            if port.address:
                ipr.addr("add", index=self._index_of(port), address=port.address, prefixlen=32)
        for interface, address, mac in place.neighbours:
            index = self._index[place.name, interface]
            ipr.neigh("add", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT)
        for route in place.routes:
            hops = [
                {"gateway": via, "oif": self._index[place.name, interface], "flags": _ONLINK}
                for interface, via in route.hops
            ]
            ipr.route("add", dst=f"{route.address}/32", **({"multipath": hops} if len(hops) > 1 else hops[0]))

    def _shape(self, ipr: IPRoute, port: Port) -> None:
        index = self._index_of(port)
        ipr.tc("add", "htb", index, _ROOT, default=_OTHERS & 0xFFFF)
        ipr.tc("add-class", "htb", index, _TOP, **self._top(port.rate))
        ipr.tc("add-class", "htb", index, _OTHERS, **self._leaf(port.rate))
        if not self.shaping.fair:
            return
        for plane in range(self.plan.planes):
            for pair in port.pairs:
                handle = _ROOT | self.plan.class_of(pair, plane)
                ipr.tc("add-class", "htb", index, handle, **self._leaf(port.rate))
        self._filter(ipr, port, _classifier(len(self.plan.nics)), order=_FOR_ALL)

    @property
    def _frame(self) -> int:
        return self.plan.mtu + _ETHERNET

    def _top(self, rate: float) -> dict[str, int]:
        """Parameters of the class of a whole port."""
        burst = self.shaping.burst_packets * self._frame
        whole = max(1, round(rate))
        return {"parent": _ROOT, "rate": whole, "ceil": whole, "burst": burst, "cburst": burst, "quantum": self._frame}

    def _leaf(self, rate: float) -> dict[str, int]:
        """Of one class: next to nothing of its own, so that all it gets is an equal share of what the port has."""
        burst = self.shaping.burst_packets * self._frame
        own = {"rate": self._frame // 10, "burst": self._frame, "quantum": self._frame}
        # ceil far above the port: only the port's own class limits, also when a fault changes its rate
        return own | {"parent": _TOP, "ceil": max(1000, round(4 * rate)), "cburst": burst}

    def _filter(self, ipr: IPRoute, port: Port, program: bytes, *, order: int, direct: bool = False) -> None:
        message = _FilterMessage()
        fields = {"index": self._index_of(port), "parent": _ROOT, "info": _info(order)}
        for name, _ in _FilterMessage.fields:
            message[name] = fields.get(name, 0)
        options: list[list[Any]] = [["TCA_BPF_OPS_LEN", len(program) // 8], ["TCA_BPF_OPS", program]]
        if direct:
            options.append(["TCA_BPF_FLAGS", 1])  # TCA_BPF_FLAG_ACT_DIRECT: what it returns is a verdict
        message["attrs"] = [["TCA_KIND", "bpf"], ["TCA_OPTIONS", {"attrs": options}]]
        message["header"]["type"] = RTM_NEWTFILTER
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        ipr.nlm_request_batch([message])


class _FilterMessage(nlmsg):  # type: ignore[misc]
    """A classic-BPF filter; pyroute2's own knows only programs that are loaded elsewhere."""

    prefix = "TCA_"
    fields = tcmsg.fields
    nla_map = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "classic"))

    class classic(nla):  # type: ignore[misc]  # noqa: N801  pyroute2 finds it by this name
        """TCA_BPF_* of linux/pkt_cls.h."""

        nla_map = (
            ("TCA_BPF_UNSPEC", "none"),
            ("TCA_BPF_ACT", "hex"),
            ("TCA_BPF_POLICE", "hex"),
            ("TCA_BPF_CLASSID", "uint32"),
            ("TCA_BPF_OPS_LEN", "uint16"),
            ("TCA_BPF_OPS", "cdata"),
            ("TCA_BPF_FD", "uint32"),
            ("TCA_BPF_NAME", "asciiz"),
            ("TCA_BPF_FLAGS", "uint32"),
        )


def _info(order: int) -> int:
    return order << 16 | socket.htons(_ALL_PROTOCOLS)


def _bpf(instructions: Iterable[tuple[int, int, int, int]]) -> bytes:
    """struct sock_filter, linux/filter.h."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _classifier(num_nics: int) -> bytes:
    """A program that returns the class of a packet: :meth:`TestbedPlan.class_of` of its addresses and type of service.

    NIC i has the address base + i + 1, so the last 16 bits of an address are i + 1. A background flow of plane p
    has the type of service 4 p (the two low bits are TCP's). What is no class falls into the class of others.
    """
    load_half, load_byte = 0x28, 0x30  # BPF_LD | BPF_ABS with BPF_H, BPF_B
    from_m, to_m = 0x61, 0x02  # BPF_LDX | BPF_MEM, BPF_ST: the one word of memory that is used
    multiply, add, add_x, shift, subtract = 0x24, 0x04, 0x0C, 0x74, 0x14
    header = 0xFFF00000  # SKF_NET_OFF, linux/filter.h: offsets from the IP header on
    return _bpf(
        [
            (load_half, 0, 0, header + 18),  # of the receiver: j + 1
            (to_m, 0, 0, 0),
            (load_half, 0, 0, header + 14),  # of the sender: i + 1
            (subtract, 0, 0, 1),
            (multiply, 0, 0, num_nics),
            (from_m, 0, 0, 0),
            (add_x, 0, 0, 0),
            (to_m, 0, 0, 0),  # i N + j + 1
            (load_byte, 0, 0, header + 1),
            (shift, 0, 0, 2),
            (multiply, 0, 0, num_nics * num_nics),
            (from_m, 0, 0, 0),
            (add_x, 0, 0, 0),
            (add, 0, 0, _ROOT),
            (0x16, 0, 0, 0),  # return A
        ]
    )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What the kernel refuses becomes an error of the run."""
    try:
        yield
    except NetlinkError as error:
        raise RunError(f"{what}: {errno.errorcode.get(error.code, error.code)}: {error}") from error
    except OSError as error:
        raise RunError(f"{what}: {error.filename or ''} {error.strerror or error}") from error
