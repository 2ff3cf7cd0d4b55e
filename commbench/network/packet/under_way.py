# SPDX-License-Identifier: Apache-2.0
"""What is under way in a packet network, for the reference engine: messages, packets, answers, links and queues."""

from collections import deque
from dataclasses import dataclass, field

from commbench.network.packet.control import CNP_PS, Dcqcn, Swift

__all__ = ["ASLEEP", "IDLE", "IN_TURN", "Packet", "PacketAnswer", "PacketFlow", "PacketLink"]

IDLE, IN_TURN, ASLEEP = range(3)
"""States of a sender: nothing to be sent, in the turn of its link, waiting for its pace."""


@dataclass(slots=True)
class PacketFlow:
    """A message: ``next`` packet to be sent, ``acked`` that its sender knows of, ``got`` by its receiver.

    ``links`` of its route, and the state of the ways in which its packets begin.
    """

    task: int
    links: tuple[int, ...]
    begins: int
    num_bytes: int
    packets: int
    state: int = IDLE
    next: int = 0
    acked: int = 0
    got: int = 0
    complained: bool = False  # whether the receiver has asked for ``got`` already
    ready_ps: int = 0  # when its pace allows the next packet
    deadline_ps: int = 0
    noticed_ps: int = -CNP_PS  # when the receiver last told the sender of marks
    latest: int = -1  # highest number of a packet that the receiver took
    path: int = 0  # of the flowlet, and when its last packet left
    left_ps: int = 0
    dcqcn: Dcqcn | None = None
    swift: Swift | None = None


@dataclass(slots=True)
class Packet:
    """On its way: ``place`` in the ways is that of the link that it takes; it came into its queue by link ``via``.

    ``path``: what is left of its path number. ``back_ps``: latency of the links that it has crossed.
    """

    flow: PacketFlow
    number: int
    size: int
    place: int
    path: int
    sent_ps: int
    back_ps: int = 0
    via: int = -1
    marked: bool = False
    arrives_ps: int = 0


@dataclass(slots=True)
class PacketAnswer:
    """From the receiver of a packet: how much it ``got``, whether it asks for the rest again, whether it saw marks."""

    flow: PacketFlow
    got: int
    again: bool
    notice: bool
    sent_ps: int


@dataclass(slots=True)
class PacketLink:
    """One direction of a cable: what waits to cross it and what is on it.

    ``held`` bytes wait before it (its own packet in sending among them), ``arrived`` bytes came over it and wait in
    the switch behind it, of which it takes ``limit``. ``told``: whether that switch has asked it to pause.
    """

    bandwidth: float
    latency_ps: int
    limit: int
    inside: bool  # of a host
    pauses: bool  # or else what finds no room behind it is dropped
    queue: deque[Packet] = field(default_factory=deque)
    turn: deque[PacketFlow] = field(default_factory=deque)  # flows that begin here and may send
    wire: deque[Packet] = field(default_factory=deque)
    sending: tuple[int, int] | None = None  # the link that the packet came by, and its bytes
    own_last: bool = False
    paused: bool = False
    paused_since: int = 0
    told: bool = False
    held: int = 0
    arrived: int = 0
