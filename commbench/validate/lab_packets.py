# SPDX-License-Identifier: Apache-2.0
"""What packets say of a point that was measured in a lab: the same queues, the same TCP, gloo's own messages."""

from dataclasses import dataclass
from typing import Any

from commbench.network.packet.tcp.settings import Tcp
from commbench.network.transport import Transport
from commbench.results.records import Measured
from commbench.validate.lab_predict import DRAWS, burst_bytes, lab_draws, median_s

__all__ = ["PacketPrediction", "is_fair", "predict_packets", "tcp_of"]

_HEADERS = 52  # of IPv4 and TCP with timestamps, in the MTU: as GLOO_TCP has them


@dataclass(frozen=True, slots=True)
class PacketPrediction:
    """Simulated seconds of one job; packets lost and sent again, of the last draw."""

    time_s: float
    drops: int
    repeated: int


def is_fair(record: Measured) -> bool:
    """Whether the ports of the record's lab had a queue for every pair of hosts."""
    return bool(record.environment["emulated"]["shaping"].get("fair", True))


def tcp_of(lab: dict[str, Any], transport: Transport) -> Tcp:
    """The network of a lab, as its record tells how it was shaped.

    Windows of congestion begin small, as on any connection, and have grown before the iteration that counts.
    """
    mss = lab["mtu"] - _HEADERS
    return Tcp(
        congestion=lab["shaping"]["congestion"],
        mss_bytes=mss,
        header_bytes=transport.packet_bytes,
        window_bytes=transport.buffer_bytes,
        queue_packets=lab["shaping"]["queue_packets"],
        fair=lab["shaping"]["fair"],
        burst_bytes=burst_bytes(lab),
        restart=False,
    )


def predict_packets(record: Measured, transport: Transport, num_draws: int = DRAWS) -> PacketPrediction:
    """Simulate by packets what a record was measured on.

    Args:
        record: measured in a lab. transport: of its messages.
    """
    lab = record.environment["emulated"]
    draws = lab_draws(record, transport, tcp_of(lab, transport).text, num_draws=num_draws)
    drops, repeated = (int(draws[-1].done.trace.counted[name].sum()) for name in ("drops", "repeated"))
    return PacketPrediction(median_s(draws), drops, repeated)
