# SPDX-License-Identifier: Apache-2.0
"""Gloo as torch.distributed uses it: its own algorithms, or schedules of ours sent through it; over TCP on Linux.

Its algorithms are in :mod:`commbench.collectives.algorithms.gloo`; what was counted on the wire is in docs/gloo.md.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from commbench.collectives.algorithm import Request
from commbench.collectives.registry import get_algorithm
from commbench.libraries.base import Choice, Layout, Wanted
from commbench.network.transport import Connections, Transport

__all__ = ["GLOO_TCP", "NATIVE", "GlooLibrary", "transport_for"]

NATIVE = "native"
"""The algorithm of records in which the library itself chose."""

BARRIER = "barrier"

GLOO_TCP = Transport(
    name="gloo over TCP",
    segment_bytes=1448,  # MTU 1500 less IPv4 20 (RFC 791) and TCP 32 with timestamps (RFC 9293, RFC 7323)
    packet_bytes=66,  # the same and Ethernet 14 (IEEE 802.3; veth has no preamble and no checksum)
    segments_per_ack=2,  # RFC 9293, 3.8.6.3: at least every second full segment
    message_bytes=48,  # gloo 70dc3602, transport/tcp/pair.h, Op::preamble; counted in docs/gloo.md
    notice_bytes=48,  # likewise: notifySendReady, notifyRecvReady
    # phases_s of the emulated campaign's schedules, 64 KiB at 10 Mbit/s and less: 19 to 36 us each, 10 to 20 the least
    post_ps=20_000_000,
    buffer_bytes=128 * 1024,  # half of tcp_wmem (256 KiB, emulate.kernel.PortShaping): the kernel counts its overhead
)
"""Gloo's TCP transport on Linux at MTU 1500, as in a lab."""

SENDS_FIRST = frozenset({"all-to-all", "all-to-all-v"})
"""Collectives of gloo's own in which a rank posts a send to a peer before the receive from it: gloo/alltoall.cc. Their
transport has ``answers_late``; schedules of commbench post receives first (live.execute)."""


def transport_for(transport: Transport, collective: str, algorithm: str) -> Transport:
    """The transport as the messages of a collective use it."""
    return replace(transport, answers_late=algorithm == NATIVE and collective in SENDS_FIRST)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlooLibrary:
    """Gloo over some connections.

    Attributes:
        connections: None simulates messages that cost nothing beside their payload.
        algorithm: NATIVE, or the name of the one whose schedule is sent through gloo; barriers are gloo's own in any
            case. channels, group: of that.
    """

    connections: Connections | None = None
    algorithm: str = NATIVE
    channels: int = 1
    group: int = 1
    name: str = "gloo"
    has_model: ClassVar[bool] = False

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """See :class:`commbench.libraries.base.Library`."""
        native = self.algorithm == NATIVE or wanted.kind == BARRIER
        entry = get_algorithm(wanted.kind, "gloo" if native else self.algorithm)
        request = Request(
            num_ranks=len(layout.hosts),
            slices=entry.default_slices,
            channels=1 if native else self.channels,
            root=wanted.root,
            group=1 if native else self.group,
            num_elements=wanted.num_elements,
            element_bytes=wanted.element_bytes,
        )
        return Choice(algorithm=entry, request=request)
