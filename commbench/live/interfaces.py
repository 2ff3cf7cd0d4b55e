# SPDX-License-Identifier: Apache-2.0
"""By which network interface gloo is to be reached.

gloo takes the address that the host's own name resolves to. Debian and its descendants let that be 127.0.1.1, and then
ranks of other hosts would call themselves. So where a world has several hosts and the name resolves to a loopback
address, the interface of the default route is taken, and said.
"""

import ipaddress
import os
import socket
import struct
from contextlib import suppress

import torch.distributed as dist

from commbench.errors import InputError

__all__ = ["avoid_loopback", "require_interfaces"]

_VARIABLE = "GLOO_SOCKET_IFNAME"
_AWAY = ("192.0.2.1", 9)  # RFC 5737: an address for documentation; a datagram socket sends nothing when it connects
_SIOCGIFADDR = 0x8915  # linux/sockios.h


def require_interfaces() -> None:
    """Refuse a GLOO_SOCKET_IFNAME that gloo would fail on.

    Raises:
        InputError: names the interface, and those that there are.
    """
    for name in filter(None, os.environ.get(_VARIABLE, "").split(",")):
        try:
            dist.ProcessGroupGloo.create_device(interface=name)
        except RuntimeError as error:
            there = ", ".join(name for _, name in socket.if_nameindex())
            raise InputError(
                f"{_VARIABLE}={os.environ[_VARIABLE]!r}: {socket.gethostname()} has no interface {name!r} with an "
                f"address; give names of its interfaces ({there}), separated by commas"
            ) from error


def avoid_loopback() -> str:
    """Have gloo take the interface of the default route where the host's own name is a loopback address.

    For ranks that others on other hosts must reach. What was done, for people; "" if nothing had to be.
    """
    if os.environ.get(_VARIABLE):
        return ""
    host = socket.gethostname()
    try:
        own = socket.gethostbyname(host)
    except OSError:
        own = ""
    if own and not ipaddress.ip_address(own).is_loopback:
        return ""
    why = f"{host} resolves to {own}" if own else f"{host} does not resolve"
    name = _interface_with(_address_away())
    if not name:
        return f"warning: {why}, and there is no default route: other hosts cannot reach this one; set {_VARIABLE}"
    os.environ[_VARIABLE] = name
    return f"{why}, so gloo takes interface {name}, that of the default route ({_VARIABLE})"


def _address_away() -> str:
    """This host's address as far hosts see it; "" if there is no way out."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        way_out.connect(_AWAY)
        return str(way_out.getsockname()[0])
    return ""


def _interface_with(address: str) -> str:
    """The name of the interface that has this IPv4 address; "" if none has."""
    import fcntl

    for _, name in socket.if_nameindex():
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return ""
