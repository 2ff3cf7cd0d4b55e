# SPDX-License-Identifier: Apache-2.0
"""The congestion window (tcp.congestion) for the compiled engine; ``stream`` is a record of state.STREAM."""

from commbench.network.jit import jit
from commbench.network.packet.tcp.congestion import BETA, LEAST_WINDOW, RENO_BETA, C
from commbench.network.packet.tcp.settings import CUBIC
from commbench.network.packet.tcp.state import CONGESTION

__all__ = ["cut", "grow"]


@jit
def cut(stream, timeout, net):
    """Something was lost."""
    beta = RENO_BETA
    if net.given[CONGESTION] == CUBIC:
        beta = BETA
        stream.most = stream.size * (1.0 + BETA) / 2.0 if stream.size < stream.most else stream.size
        stream.epoch = -1
    stream.threshold = max(stream.size * beta, LEAST_WINDOW)
    stream.size = 1.0 if timeout else stream.threshold


@jit
def grow(stream, segments, now, net):
    """So many segments were acknowledged while the window was full."""
    if stream.size < stream.threshold:
        stream.size = min(stream.size + segments, stream.threshold)
    elif net.given[CONGESTION] != CUBIC:
        stream.size += segments / stream.size
    else:
        if stream.epoch < 0:
            stream.epoch, stream.reno = now, stream.size
            stream.most = max(stream.most, stream.size)
            stream.inflection = ((stream.most - stream.size) / C) ** (1.0 / 3.0)
        late = (now - stream.epoch + stream.round_trip) / 1e12 - stream.inflection
        target = min(max(stream.most + C * late * late * late, stream.size), 1.5 * stream.size)
        stream.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / stream.size
        stream.size = max(stream.size + segments * (target - stream.size) / stream.size, stream.reno)
