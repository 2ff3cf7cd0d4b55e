# SPDX-License-Identifier: Apache-2.0
"""Connections of the fluid model (connected.reference) for the compiled engine: the same, on records of state.py."""

from functools import cache, partial
from pathlib import Path

import numpy as np

from commbench.network.base import PAST_THE_END, NetworkKernel
from commbench.network.connected.settings import Connected
from commbench.network.connected.state import BURST, DUE, FRESH, PACKET, READY, WINDOW, WORK, build_state
from commbench.network.fluid_kernel import KERNEL
from commbench.network.heap import put_in_order
from commbench.network.jit import call, jit

__all__ = ["connected_kernel"]

_SOURCES = tuple(str(file) for file in sorted(Path(__file__).parent.glob("*.py")))

_start_flow, _finish_flow, _set_flows = KERNEL.start, KERNEL.finish, KERNEL.set_bandwidth
_next_of_flows, _advance_flows = KERNEL.next_event, KERNEL.advance


@call
def _flow(piece, route, size, now, net):
    """A piece of a message enters the fluid model."""
    net.slots[piece].left = float(size)
    _start_flow(piece, route, now, net.slots, net.fluid)


@jit
def _ends(task, net):
    net.ready[net.n[READY]] = task
    net.n[READY] += 1


@jit
def _write(task, net):
    message = net.messages[task]
    message.written = 1
    watch = message.watch
    if watch >= 0 and net.messages[watch].waiting:
        net.messages[watch].waiting = 0
        _ends(watch, net)


@jit
def _credit(port, size, net):
    """Bytes of a message that need not be waited for."""
    if net.given[BURST] == 0:
        return np.int64(0)
    credit = min(port.saved + (size - 1) % net.given[PACKET] + 1, size)
    port.saved -= credit
    return credit


@call
def _rest(task, now, net):
    """What the window takes of a message is on every link."""
    message = net.messages[task]
    if not message.written:
        _write(task, net)
    first = net.first[message.stream]
    length = net.first[message.stream + 1] - first
    size = min(message.num_bytes, net.given[WINDOW])
    message.pieces = length
    for place in range(length):
        link = net.links[first + place]
        credit = _credit(net.ports[link], size, net)
        _flow(message.first + 1 + place, net.streams.size + link, size - credit, now, net)


@call
def _go(number, now, net):
    """The next messages of a stream are on their way."""
    stream, messages = net.streams[number], net.messages
    while stream.head >= 0 and messages[stream.head].num_bytes == 0:
        task = stream.head
        stream.head = messages[task].after
        if not messages[task].written:
            _write(task, net)
        _ends(task, net)
    if stream.head < 0:
        stream.last = -1
        return
    task = stream.head
    for hop in range(net.first[number], net.first[number + 1]):
        port = net.ports[net.links[hop]]
        if port.busy == 0:
            idle = np.int64((now - port.since) * port.bandwidth / 1e12)
            port.saved = min(net.given[BURST], port.saved + idle)
        port.busy += 1
    more = messages[task].num_bytes - net.given[WINDOW]
    if more > 0:
        messages[task].pieces = 1
        _flow(messages[task].first, number, more, now, net)
    else:
        _rest(task, now, net)


@call
def _begin(task, now, net):
    message = net.messages[task]
    told = message.told
    if told >= 0:
        if net.messages[told].written:
            _ends(task, net)
        else:
            message.waiting = 1
        return
    stream = net.streams[message.stream]
    stream.total += message.num_bytes
    message.end, message.after = stream.total, -1
    if stream.last >= 0:
        net.messages[stream.last].after = task
    stream.last = task
    if message.end - stream.came <= net.given[WINDOW]:
        _write(task, net)
    if stream.head < 0:
        stream.head = task
        _go(message.stream, now, net)


@call
def _passed(piece, now, net):
    """A piece is through: of the message's beginning, or on one link."""
    task = net.owner[piece]
    message = net.messages[task]
    message.pieces -= 1
    if piece == message.first:
        _rest(task, now, net)
    elif message.pieces == 0:
        number = message.stream
        net.streams[number].head = message.after
        net.streams[number].came = message.end
        _ends(task, net)
        for hop in range(net.first[number], net.first[number + 1]):
            port = net.ports[net.links[hop]]
            port.busy -= 1
            port.since = now
        _go(number, now, net)


# What the engine says ------------------------------------------------------------------------------------------------


@jit
def _start(slot, route, now, slots, net):
    task = slots[slot].task
    net.messages[task].slot, net.messages[task].num_bytes = slot, np.int64(slots[slot].left)
    net.fresh[net.n[FRESH]] = task
    net.n[FRESH] += 1


@jit
def _finish(slot, slots, net):
    return


@jit
def _move(slot, route, now, slots, net):
    return


@jit
def _set_bandwidth(link, bandwidth, net):
    net.ports[link].bandwidth = bandwidth
    return _set_flows(link, bandwidth, net.fluid)


@call
def _next_event(now, slots, net):
    put_in_order(net.fresh, net.n[FRESH])
    for i in range(net.n[FRESH]):
        _begin(net.fresh[i], now, net)
    net.n[FRESH] = 0
    net.n[DUE] = _next_of_flows(now, net.slots, net.fluid)
    if net.n[DUE] == PAST_THE_END:
        return PAST_THE_END
    return now if net.n[READY] > 0 else net.n[DUE]


@call
def _advance(now, slots, net, ended, count):
    n = net.n
    if n[DUE] == now:
        through = _advance_flows(now, net.slots, net.fluid, net.passed, 0)
        put_in_order(net.passed, through)
        n[WORK] += through
        for i in range(through):
            _finish_flow(net.passed[i], net.slots, net.fluid)
            _passed(net.passed[i], now, net)
    n[WORK] += n[READY]
    for i in range(n[READY]):
        ended[count] = net.messages[net.ready[i]].slot
        count += 1
    n[READY] = 0
    return count


@cache
def connected_kernel(given: Connected) -> NetworkKernel:
    """The network of connections that ``given`` describes, for the compiled engine."""
    return NetworkKernel(
        build=partial(build_state, given),
        start=_start,
        finish=_finish,
        move=_move,
        set_bandwidth=_set_bandwidth,
        next_event=_next_event,
        advance=_advance,
        sources=_SOURCES,
    )
