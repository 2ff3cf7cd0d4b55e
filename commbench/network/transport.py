# SPDX-License-Identifier: Apache-2.0
"""What messages cost on a network beside their payload: headers, acknowledgements, a library's own messages.

A :class:`Transport` is data; :mod:`commbench.lowering.streams` applies it to a program. Bytes are those that links
count, Ethernet headers included.
"""

from dataclasses import dataclass

__all__ = ["Connections", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """One way to send messages.

    Attributes:
        name: of the library and the protocol.
        segment_bytes: payload of a full packet. packet_bytes: headers of every packet.
        segments_per_ack: full packets that one packet without payload acknowledges on the way back.
        message_bytes: the library's own header of a message. notice_bytes: of the notices that go before a message, one
            from the sender and one from the receiver.
        buffer_bytes: of payload that the sender's side takes at once: so much is "sent" for the sender when it is not
            yet for the network.
        answers_late: whether ranks post what they send before what they receive, so that the notice for a message waits
            behind the rank's own data to the same peer, if that may leave by then.
        latency_ps: from the receiver's notice to the first byte, and again from the last byte to the receiver's going
            on: the machine's own, to be fitted.
        overhead_ps: processor time of a message on either side, to be fitted.
        post_ps: in which a rank posts one send or receive, in the mean.
    """

    name: str
    segment_bytes: int
    packet_bytes: int
    segments_per_ack: int
    message_bytes: int
    notice_bytes: int
    buffer_bytes: int
    answers_late: bool = False
    latency_ps: int = 0
    overhead_ps: int = 0
    post_ps: int = 0

    def bytes_on_wire(self, num_bytes: int) -> int:
        """Of one message on the way to its receiver: payload, headers, and the sender's notice."""
        whole = num_bytes + self.message_bytes
        return whole + -(-whole // self.segment_bytes) * self.packet_bytes + self.notice_packet

    @property
    def full_packet_bytes(self) -> int:
        """Of a full packet on the wire."""
        return self.segment_bytes + self.packet_bytes

    def bytes_back(self, num_bytes: int, ridden: bool) -> float:
        """Of one message on the way back: the receiver's notice, and acknowledgements where they ride on no data."""
        segments = (num_bytes + self.message_bytes) / self.segment_bytes
        acknowledgements = 0.0 if ridden else segments / self.segments_per_ack * self.packet_bytes
        return self.notice_packet + acknowledgements

    @property
    def notice_packet(self) -> int:
        """Bytes of a notice on the wire."""
        return self.notice_bytes + self.packet_bytes if self.notice_bytes else 0


@dataclass(frozen=True, slots=True)
class Connections:
    """What messages go over, from rank to rank: one connection for each rail.

    Attributes:
        transport: what they cost. rails: that the channels take in turn.
        burst_bytes: that the token bucket of a link holds; 0: links have none.
    """

    transport: Transport
    rails: int = 1
    burst_bytes: int = 0
