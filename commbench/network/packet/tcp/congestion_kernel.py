# SPDX-License-Identifier: Apache-2.0
"""The congestion window (tcp.congestion) for the compiled engine; ``stream`` is a record of state.STREAM."""

import numpy as np

from commbench.network.jit import jit
from commbench.network.packet.tcp.congestion import (
    BETA,
    GAIN,
    LEAST_WINDOW,
    PACING_SHIFT,
    RENO_BETA,
    SLOW_START_GAIN,
    C,
)
from commbench.network.packet.tcp.settings import CUBIC
from commbench.network.packet.tcp.state import CONGESTION, FIRST_WINDOW, MSS, WINDOWS

__all__ = ["cut", "grow", "in_port_bytes", "measured", "note", "rest", "used"]


@jit
def used(stream):
    """Whether the sender needs a larger window."""
    return stream.limited or (stream.size < stream.threshold and stream.size < 2 * stream.most_out)


@jit
def note(stream, full):
    """Segments are under way."""
    out = stream.next - stream.first
    if stream.first >= stream.until or full or (not stream.limited and out > stream.most_out):
        stream.limited, stream.most_out, stream.until = full, out, stream.next


@jit
def measured(stream, round_trip):
    """Another round trip."""
    stream.smoothed += (round_trip - stream.smoothed) // 8


@jit
def in_port_bytes(stream, net):
    """That may wait in the host's queue, by the estimated rate."""
    if stream.smoothed <= 0:
        return 2.0**62
    gain = SLOW_START_GAIN if stream.size < stream.threshold / 2.0 else GAIN
    out = max(float(np.int64(stream.size)), float(stream.next - stream.first))
    return net.given[MSS] * gain * out / stream.smoothed * 1e12 / float(1 << PACING_SHIFT)


@jit
def rest(stream, idle, timeout, net):
    """Nothing was sent for so long."""
    if idle <= timeout:
        return
    before = np.int64(stream.size)
    stream.threshold = max(stream.threshold, 0.75 * stream.size)
    least = min(float(net.given[FIRST_WINDOW]), stream.size)
    while idle > timeout and stream.size > least:
        stream.size = float(np.int64(stream.size) // 2)
        idle -= timeout
    stream.size = max(stream.size, least)
    net.n[WINDOWS] += np.int64(stream.size) - before


@jit
def cut(stream, timeout, net):
    """Something was lost."""
    beta, before = RENO_BETA, np.int64(stream.size)
    if net.given[CONGESTION] == CUBIC:
        beta = BETA
        stream.most = stream.size * (1.0 + BETA) / 2.0 if stream.size < stream.most else stream.size
        stream.epoch = -1
    stream.threshold = max(stream.size * beta, LEAST_WINDOW)
    stream.size = 1.0 if timeout else stream.threshold
    net.n[WINDOWS] += np.int64(stream.size) - before


@jit
def grow(stream, segments, now, net):
    """So many segments were acknowledged while the window was used."""
    before = np.int64(stream.size)
    if stream.size < stream.threshold:
        stream.size = min(stream.size + segments, stream.threshold)
    elif net.given[CONGESTION] != CUBIC:
        stream.size += segments / stream.size
    else:
        if stream.epoch < 0:
            stream.epoch, stream.reno = now, stream.size
            stream.most = max(stream.most, stream.size)
            stream.inflection = ((stream.most - stream.size) / C) ** (1.0 / 3.0)
        late = (now - stream.epoch + stream.smoothed) / 1e12 - stream.inflection
        target = min(max(stream.most + C * late * late * late, stream.size), 1.5 * stream.size)
        stream.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / stream.size
        stream.size = max(stream.size + segments * (target - stream.size) / stream.size, stream.reno)
    net.n[WINDOWS] += np.int64(stream.size) - before
