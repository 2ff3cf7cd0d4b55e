# SPDX-License-Identifier: Apache-2.0
"""What a network of TCP connections has, for the reference engine."""

from collections import deque
from dataclasses import dataclass, field

from commbench.network.packet.tcp.congestion import Window

__all__ = ["LOST", "SACKED", "UNDER_WAY", "Message", "Segment", "Stream", "TcpPacket", "TcpPort"]

UNDER_WAY, SACKED, LOST = range(3)


@dataclass(slots=True)
class Message:
    """A flow: ``end`` is the place in its stream behind its last byte, -1 before it has one."""

    task: int
    num_bytes: int
    end: int = -1


@dataclass(slots=True)
class Segment:
    """Payload that was sent and is not acknowledged: ``size`` bytes up to ``end``; ``stamp`` counts transmissions."""

    number: int
    size: int
    end: int
    state: int = UNDER_WAY
    stamp: int = 0
    sent_ps: int = 0


@dataclass(slots=True)
class Stream:
    """One direction of a connection, ``back`` being the other.

    Attributes:
        window: of congestion. window_bytes: what the sender's buffer takes.
        total: bytes that messages have in all. room: up to which they are in the buffer. next_bytes: ... are sent.
            acked_bytes: ... are acknowledged.
        next: number of the next segment. segments: under way. pipe, lost, sacked: how many of them are what.
        in_port: segments that wait before the first link.
        stamps: transmissions. newest: the latest of which is known that it came.
        recover: segments below it were sent before the last loss. recovering: whether that is being made up for.
        deadline_ps: when what is under way counts as lost, -1: nothing is. timed: whether an event is due for it.
        got: segments that have come in order. got_bytes: their bytes. early: those beyond, by number, with their ends.
        owed_bytes: came since the last acknowledgement.
        unwritten, coming: messages not in the buffer yet, not there yet.
    """

    number: int
    back: int
    links: tuple[int, ...]
    window: Window
    window_bytes: int
    total: int = 0
    room: int = 0
    next_bytes: int = 0
    acked_bytes: int = 0
    next: int = 0
    segments: deque[Segment] = field(default_factory=deque)
    pipe: int = 0
    lost: int = 0
    sacked: int = 0
    in_port: int = 0
    stamps: int = 0
    newest: int = 0
    recover: int = 0
    recovering: bool = False
    deadline_ps: int = -1
    timed: bool = False
    backoff: int = 0
    round_trip_ps: int = 0
    got: int = 0
    got_bytes: int = 0
    early: dict[int, int] = field(default_factory=dict)
    owed_bytes: int = 0
    ack_timed: bool = False
    ack_due_ps: int = 0
    unwritten: deque[Message] = field(default_factory=deque)
    coming: deque[Message] = field(default_factory=deque)


@dataclass(slots=True)
class TcpPacket:
    """On its way along a stream: segment ``number`` of it up to byte ``end``, or none (-1).

    It acknowledges ``got`` segments of the other direction, and one ``beyond`` them; ``echo_ps`` is when the segment
    was sent that called for it.
    """

    stream: Stream
    number: int
    end: int
    size: int
    got: int
    beyond: int = -1
    echo_ps: int = -1
    hop: int = 0
    sent_ps: int = 0
    arrives_ps: int = 0


@dataclass(slots=True)
class TcpPort:
    """What waits to cross a link: a queue for each stream, or one (0).

    Attributes:
        due_ps: when it has no debts. held: bytes that wait.
        active: numbers of queues that are not empty, ascending. turn: the first that may be next. deficits: what each
            may still send in its turn.
        wire: packets that have left and are not there yet. awake: whether an event is due for the next one.
    """

    bandwidth: float
    latency_ps: int
    inside: bool
    due_ps: int = 0
    held: int = 0
    queues: dict[int, deque[TcpPacket]] = field(default_factory=dict)
    active: list[int] = field(default_factory=list)
    turn: int = 0
    deficits: dict[int, int] = field(default_factory=dict)
    wire: deque[TcpPacket] = field(default_factory=deque)
    awake: bool = False
