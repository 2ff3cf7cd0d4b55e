# SPDX-License-Identifier: Apache-2.0
"""What is under way in a packet network, for the reference engine: messages, packets, answers, links and queues."""

from collections import deque
from dataclasses import dataclass, field

from commbench.network.packet.control import CNP_PS, Dcqcn, Swift
from commbench.units import PS_PER_S

__all__ = [
    "ANSWER",
    "ARRIVAL",
    "ASLEEP",
    "IDLE",
    "IN_TURN",
    "PACE",
    "PULL",
    "SENT",
    "SIGNAL",
    "TIMEOUT",
    "WAKE",
    "Packet",
    "PacketAnswer",
    "PacketFlow",
    "PacketLink",
    "PullQueue",
    "lasts_ps",
]

SENT, SIGNAL, ARRIVAL, PACE, ANSWER, PULL, WAKE, TIMEOUT = range(8)
"""Kinds of events, in the order of one instant."""

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
    # NDP: packets that the sender may send; those that were trimmed, to go first; how many it has sent again.
    credit: int = 0
    trimmed: deque[int] = field(default_factory=deque)
    again: int = 0
    # And its receiver: packets that it has asked for, the first window among them; pulls that wait; headers that came.
    asked: int = 0
    pulls: int = 0
    headers: int = 0


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
    trimmed: bool = False
    arrives_ps: int = 0


@dataclass(slots=True)
class PacketAnswer:
    """From the receiver of a packet: how much it ``got``, whether it asks for the rest again, whether it saw marks.

    ``trimmed``: the packet of which only the header came, -1 for none.
    """

    flow: PacketFlow
    got: int
    again: bool
    notice: bool
    sent_ps: int
    trimmed: int = -1


@dataclass(slots=True)
class PullQueue:
    """Of the receivers behind a link: messages that pulls wait for, in turn, and when the next pull may go."""

    turn: deque[PacketFlow] = field(default_factory=deque)
    due_ps: int = 0
    awake: bool = False  # whether the next one is an event


@dataclass(slots=True)
class PacketLink:
    """One direction of a cable: what waits to cross it and what is on it.

    ``held`` bytes wait before it (its own packet in sending among them), ``arrived`` bytes came over it and wait in
    the switch behind it, of which it takes ``limit``. ``told``: whether that switch has asked it to pause. ``in_row``
    headers have been sent since the last whole packet.
    """

    bandwidth: float
    latency_ps: int
    limit: int
    inside: bool  # of a host
    pauses: bool  # or else what finds no room behind it is dropped
    queue: deque[Packet] = field(default_factory=deque)
    headers: deque[Packet] = field(default_factory=deque)
    turn: deque[PacketFlow] = field(default_factory=deque)  # flows that begin here and may send
    wire: deque[Packet] = field(default_factory=deque)
    sending: tuple[int, int] | None = None  # the link that the packet came by, and its bytes
    own_last: bool = False
    in_row: int = 0
    pulls: PullQueue = field(default_factory=PullQueue)
    paused: bool = False
    paused_since: int = 0
    told: bool = False
    held: int = 0
    arrived: int = 0


def lasts_ps(link: PacketLink, size: int) -> int:
    """Picoseconds in which a packet of ``size`` bytes leaves over a link."""
    return max(int(size / link.bandwidth * PS_PER_S + 0.5), 1)
