# SPDX-License-Identifier: Apache-2.0
"""What a network of TCP connections is made of, and how users write it: ``packet:tcp``, ``packet:tcp,fair=on``.

Every constant states its source. Linux is 6.18, in whose namespaces testbeds are (``docs/emulate.md``).
"""

from dataclasses import dataclass

from commbench.errors import InputError
from commbench.network.packet.settings import PREFIX, TCP, read_settings, written_settings

__all__ = ["CONGESTIONS", "CUBIC", "RENO", "Tcp", "parse_tcp"]

RENO, CUBIC = range(2)

CONGESTIONS = ("reno", "cubic")
"""Congestion controls by number: RENO (RFC 5681), CUBIC (RFC 9438)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp:
    """One network of TCP connections.

    Attributes:
        congestion: one of CONGESTIONS; cubic is Linux's own choice.
        mss_bytes: payload of a full segment: MTU 1500 less IPv4 20 (RFC 791) and TCP 32 with timestamps (RFC 9293,
            RFC 7323).
        header_bytes: of every packet on the wire: the same 52 with preamble 8, Ethernet 14, FCS 4, and gap 12 (IEEE
            802.3).
        window_bytes: payload that a connection's send buffer takes: so much may be written and not acknowledged. Half
            of 4 MiB, the end of Linux's tcp_wmem; the other half is the kernel's overhead.
        ack_segments: more than so many full segments, less one byte, are acknowledged at once (RFC 9293, 3.8.6.3).
        ack_ms: ... else after so long: TCP_DELACK_MIN, include/net/tcp.h.
        rto_ms: least time without news after which what is under way counts as lost: TCP_RTO_MIN, include/net/tcp.h.
        first_window: segments under way before anything was acknowledged (RFC 6928).
        port_segments: that one connection may always have in the queue of its own host; beyond them, a millisecond of
            its estimated rate (TCP small queues: net/ipv4/tcp_output.c, tcp_small_queue_check).
        queue_packets: room of each queue: Linux's txqueuelen, which is a pfifo's limit.
        fair: whether ports have a queue for every pair, in turn by bytes (deficit round robin, as htb's classes);
            else one for all.
        burst_bytes: that a port saves up while idle, as a token bucket (htb): it then lets a packet out whole, if it
            has no debts. 0: a wire, which takes its time for each packet.
        restart: whether a window shrinks while nothing is sent (Linux: tcp_slow_start_after_idle).
    """

    congestion: str = "cubic"
    mss_bytes: int = 1448
    header_bytes: int = 90
    window_bytes: int = 2 * 1024 * 1024
    ack_segments: int = 2
    ack_ms: int = 40
    rto_ms: int = 200
    first_window: int = 10
    port_segments: int = 2
    queue_packets: int = 1000
    fair: bool = False
    burst_bytes: int = 0
    restart: bool = True

    def __post_init__(self) -> None:
        if self.congestion not in CONGESTIONS:
            known = ", ".join(CONGESTIONS)
            raise InputError(f"--network {PREFIX}:{TCP}: congestion={self.congestion} is unknown; known: {known}")
        for key, value, least, most in (
            ("mss", self.mss_bytes, 1, 2**16),
            ("header", self.header_bytes, 1, 2**12),
            ("window", self.window_bytes, self.mss_bytes, 2**28),
            ("ack_segments", self.ack_segments, 1, 100),
            ("ack_ms", self.ack_ms, 1, 10_000),
            ("rto_ms", self.rto_ms, 1, 100_000),
            ("first_window", self.first_window, 1, 2**20),
            ("port_segments", self.port_segments, 1, 2**20),
            ("queue_packets", self.queue_packets, 1, 2**30),
            ("burst", self.burst_bytes, 0, 2**30),
        ):
            if not least <= value <= most:
                raise InputError(f"--network {PREFIX}:{TCP}: {key}={value}: must be {least:,} to {most:,}")

    @property
    def number(self) -> int:
        """Of the congestion control."""
        return CONGESTIONS.index(self.congestion)

    @property
    def full_bytes(self) -> int:
        """Of a full packet on the wire; it is what a queue may send in one turn, too."""
        return self.mss_bytes + self.header_bytes

    @property
    def text(self) -> str:
        """As users write it, with all that is not as by default."""
        return f"{PREFIX}:{','.join([TCP, *written_settings(self)])}"


def parse_tcp(text: str) -> Tcp:
    """Read ``packet:tcp`` or ``packet:tcp,key=value,...``.

    Raises:
        InputError: a key or value that is not known; says which there are.
    """
    _, *settings = text.removeprefix(f"{PREFIX}:").split(",")
    return read_settings(Tcp, text, settings, {})
