# SPDX-License-Identifier: Apache-2.0
"""All network models by name. Another one is another entry: what it must do stands in network.base."""

from functools import cache, partial
from typing import TYPE_CHECKING

from commbench.errors import InputError
from commbench.network.base import NetworkKernel, NetworkModel, Wiring
from commbench.network.fluid import FluidNetwork

if TYPE_CHECKING:
    from commbench.network.connected.reference import ConnectedNetwork
    from commbench.network.connected.settings import Connected
    from commbench.network.packet.reference import PacketNetwork
    from commbench.network.packet.settings import Packets
    from commbench.network.packet.tcp.reference import TcpNetwork
    from commbench.network.packet.tcp.settings import Tcp

__all__ = ["AUTO", "FLUID", "NETWORKS", "get_network", "packet_model", "packets_if_needed", "tcp_model"]

AUTO = "auto"
"""Fluid where it is right, else packets: ``auto:dcqcn`` as ``packet:dcqcn`` (see :mod:`commbench.door`)."""


def _fluid_kernel() -> NetworkKernel:
    from commbench.network.fluid_kernel import KERNEL  # loads numba

    return KERNEL


FLUID = NetworkModel("fluid", lambda wiring: FluidNetwork(wiring.bandwidths.tolist()), _fluid_kernel, weighted=True)

NETWORKS: dict[str, NetworkModel] = {FLUID.name: FLUID}


def _packet_network(given: "Packets", wiring: Wiring) -> "PacketNetwork":
    from commbench.network.packet.reference import PacketNetwork

    return PacketNetwork(wiring, given)


def _packet_kernel(given: "Packets") -> NetworkKernel:
    from commbench.network.packet.kernel import packet_kernel  # loads numba

    return packet_kernel(given)


@cache
def packet_model(given: "Packets") -> NetworkModel:
    """The packet network of these settings."""
    from commbench.network.packet.settings import FLOW

    made, kernel = partial(_packet_network, given), partial(_packet_kernel, given)
    return NetworkModel(given.text, made, kernel, delays=True, balanced=given.number_of_balance != FLOW)


def _tcp_network(given: "Tcp", wiring: Wiring) -> "TcpNetwork":
    from commbench.network.packet.tcp.reference import TcpNetwork

    return TcpNetwork(wiring, given)


def _tcp_kernel(given: "Tcp") -> NetworkKernel:
    from commbench.network.packet.tcp.kernel import tcp_kernel  # loads numba

    return tcp_kernel(given)


@cache
def tcp_model(given: "Tcp") -> NetworkModel:
    """The network of TCP connections of these settings."""
    made, kernel = partial(_tcp_network, given), partial(_tcp_kernel, given)
    return NetworkModel(given.text, made, kernel, delays=True, connected=True)


def _connected_network(given: "Connected", wiring: Wiring) -> "ConnectedNetwork":
    from commbench.network.connected.reference import ConnectedNetwork

    return ConnectedNetwork(wiring, given)


def _connected_kernel(given: "Connected") -> NetworkKernel:
    from commbench.network.connected.kernel import connected_kernel  # loads numba

    return connected_kernel(given)


@cache
def connected_model(given: "Connected") -> NetworkModel:
    """The fluid model where messages go over connections; its name is the fluid model's."""
    made, kernel = partial(_connected_network, given), partial(_connected_kernel, given)
    return NetworkModel(FLUID.name, made, kernel, delays=True, connected=True)


def packets_if_needed(name: str) -> str | None:
    """The packet network that ``auto`` or ``auto:CONTROL,key=value,...`` falls back on; None for other names."""
    kind, _, settings = name.partition(":")
    if kind != AUTO:
        return None
    from commbench.network.packet.settings import PREFIX

    return f"{PREFIX}:{settings}" if settings else PREFIX


def get_network(name: str) -> NetworkModel:
    """The model of a name: one of NETWORKS, or a packet network with its settings; of AUTO the one it falls back on.

    Raises:
        InputError: nothing has this name.
    """
    name = packets_if_needed(name) or name
    if name in NETWORKS:
        return NETWORKS[name]
    from commbench.network.connected.settings import parse_connected  # most runs have none of these
    from commbench.network.packet.settings import CONTROLS, PREFIX, TCP, parse_packets
    from commbench.network.packet.tcp.settings import parse_tcp

    if connected := parse_connected(name):
        return connected_model(connected)
    if name.split(",")[0] == f"{PREFIX}:{TCP}":
        return tcp_model(parse_tcp(name))
    if name.split(":")[0] == PREFIX:
        return packet_model(parse_packets(name))
    known = ", ".join([*NETWORKS, f"{PREFIX}[:{'|'.join((*CONTROLS, TCP))}]", AUTO])
    raise InputError(f"--network {name!r} is unknown; known: {known}")
