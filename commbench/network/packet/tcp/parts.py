# SPDX-License-Identifier: Apache-2.0
"""What a network of TCP connections has, for the reference engine."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from commbench.network.packet.tcp.congestion import Window

__all__ = ["LOST", "NEW", "SACKED", "UNDER_WAY", "Message", "Segment", "Stream", "TcpPacket", "TcpPort"]

UNDER_WAY, SACKED, LOST, NEW = range(4)


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
        in_port: bytes of segments, with their overhead, that wait before the first link. port_bytes: as many as may.
        sent_ps: when it sent last.
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
    port_bytes: float = 2.0**62
    sent_ps: int = 0
    stamps: int = 0
    newest: int = 0
    recover: int = 0
    recovering: bool = False
    deadline_ps: int = -1
    timed: bool = False
    backoff: int = 0
    got: int = 0
    got_bytes: int = 0
    early: dict[int, int] = field(default_factory=dict)
    owed_bytes: int = 0
    ack_timed: bool = False
    ack_due_ps: int = 0
    unwritten: deque[Message] = field(default_factory=deque)
    coming: deque[Message] = field(default_factory=deque)

    @property
    def recovered(self) -> bool:
        """Whether all that was under way at the last loss has come."""
        first = self.segments[0].number if self.segments else self.next
        return first >= self.recover

    def leaves(self, segment: Segment) -> None:
        """A segment is known to have come."""
        self.pipe -= segment.state == UNDER_WAY
        self.lost -= segment.state == LOST
        self.sacked -= segment.state == SACKED

    def lose(self, segment: Segment) -> None:
        """A segment counts as lost."""
        segment.state = LOST
        self.lost += 1
        self.pipe -= 1


@dataclass(slots=True)
class TcpPacket:
    """On its way along a stream: segment ``number`` of it up to byte ``end``, or none (-1).

    It acknowledges ``got`` segments of the other direction, and one ``beyond`` them.
    """

    stream: Stream
    number: int
    end: int
    size: int
    got: int
    beyond: int = -1
    hop: int = 0
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

    def in_turn(self, full_bytes: int) -> TcpPacket:
        """The next packet: queues take turns by bytes, as htb's classes do (net/sched/sch_htb.c, htb_dequeue_tree)."""
        place = bisect_left(self.active, self.turn)
        key = self.active[place % len(self.active)]
        queue = self.queues[key]
        packet = queue.popleft()
        if not queue:
            self.active.remove(key)
        left = self.deficits.get(key, 0) - packet.size
        self.turn = key + 1 if left < 0 else key
        self.deficits[key] = left + full_bytes if left < 0 else left
        return packet
