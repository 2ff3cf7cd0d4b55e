# SPDX-License-Identifier: Apache-2.0
"""Congestion control (network.packet.control) for the compiled engine; ``flow`` is a record of state.FLOW."""

import numpy as np

from commbench.network.jit import jit
from commbench.network.packet.control import (
    AI_PACKETS,
    ALPHA_PS,
    BETA,
    BYTES,
    FAST,
    GAIN,
    LEAST_RATE,
    LEAST_WINDOW,
    MAX_CUT,
    RATE_AI,
    RATE_HAI,
    TIMER_PS,
)

__all__ = ["dcqcn_notice", "dcqcn_sent", "swift_allows", "swift_answered", "swift_sent"]


@jit
def _rise(flow):
    most, least = max(flow.by_time, flow.by_bytes), min(flow.by_time, flow.by_bytes)
    if least > FAST:
        flow.target += (least - FAST) * RATE_HAI
    elif most > FAST:
        flow.target += RATE_AI
    flow.target = min(flow.target, flow.line)
    flow.rate = (flow.target + flow.rate) / 2.0


@jit
def _catch_up(now, flow):
    while flow.alpha_due <= now:
        flow.alpha_due += ALPHA_PS
        flow.alpha = (1.0 - GAIN) * flow.alpha
    while flow.timer_due <= now:
        flow.timer_due += TIMER_PS
        flow.by_time += 1
        _rise(flow)


@jit
def dcqcn_notice(now, flow):
    """A congestion notice arrives."""
    if flow.limited:
        _catch_up(now, flow)
    flow.target = flow.rate
    flow.rate = max(flow.rate * (1.0 - flow.alpha / 2.0), LEAST_RATE)
    flow.alpha = (1.0 - GAIN) * flow.alpha + GAIN
    flow.limited = 1
    flow.alpha_due, flow.timer_due = now + ALPHA_PS, now + TIMER_PS
    flow.bytes_left, flow.by_time, flow.by_bytes = BYTES, 0, 0


@jit
def dcqcn_sent(size, now, flow):
    """A packet leaves: ps until the next may follow."""
    if not flow.limited:
        return 0
    _catch_up(now, flow)
    flow.bytes_left -= size
    if flow.bytes_left <= 0:
        flow.bytes_left += BYTES
        flow.by_bytes += 1
        _rise(flow)
    return np.int64(size / flow.rate * 1e12 + 0.5) if flow.rate < flow.line else 0


@jit
def swift_answered(delay, now, flow):
    """An acknowledgement arrives."""
    flow.round_trip = delay
    if delay < flow.target_ps:
        flow.window += AI_PACKETS / flow.window if flow.window >= 1.0 else AI_PACKETS
    elif now - flow.cut >= delay:
        flow.window *= max(1.0 - BETA * (delay - flow.target_ps) / delay, 1.0 - MAX_CUT)
        flow.cut = now
    flow.window = min(max(flow.window, LEAST_WINDOW), flow.most)


@jit
def swift_allows(in_flight, flow):
    """Whether another packet may follow."""
    return in_flight < max(np.int64(flow.window), 1)


@jit
def swift_sent(flow):
    """A packet leaves: ps until the next may follow."""
    return np.int64(flow.round_trip / flow.window + 0.5) if flow.window < 1.0 else 0
