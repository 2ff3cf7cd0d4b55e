# SPDX-License-Identifier: Apache-2.0
"""The packet network's events for the compiled engine: a binary heap by (time, key); and lists of packets.

Every link has at most two events in it (its packet is sent, the first on its wire arrives), so the heap stays small
however many packets are under way.
"""

from commbench.network.jit import jit
from commbench.network.packet.state import EVENTS, FREE, KIND_BITS, LATE, USED

__all__ = ["at", "free_packet", "new_packet", "pop"]


@jit
def at(time, kind, number, packet, net):
    """Let something happen at ``time``."""
    n, events = net.n, net.events
    if time < 0:  # the sum has passed 2**63 and wrapped round
        n[LATE] = 1
        return
    key = (kind << KIND_BITS) | number
    place = n[EVENTS]
    n[EVENTS] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if events[parent].time < time or (events[parent].time == time and events[parent].key <= key):
            break
        events[place].time, events[place].key = events[parent].time, events[parent].key
        events[place].packet = events[parent].packet
        place = parent
    events[place].time, events[place].key, events[place].packet = time, key, packet


@jit
def pop(net):
    """Take the first event out; who calls has read it."""
    n, events = net.n, net.events
    n[EVENTS] -= 1
    size = n[EVENTS]
    time, key, packet = events[size].time, events[size].key, events[size].packet
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            events[other].time < events[child].time
            or (events[other].time == events[child].time and events[other].key < events[child].key)
        ):
            child = other
        if events[child].time > time or (events[child].time == time and events[child].key >= key):
            break
        events[place].time, events[place].key = events[child].time, events[child].key
        events[place].packet = events[child].packet
        place = child
    events[place].time, events[place].key, events[place].packet = time, key, packet


@jit
def new_packet(net):
    """A record for a packet."""
    n = net.n
    packet = n[FREE]
    if packet >= 0:
        n[FREE] = net.packets[packet].next
    else:
        packet = n[USED]
        n[USED] += 1
    return packet


@jit
def free_packet(packet, net):
    """Its record may serve another."""
    net.packets[packet].next = net.n[FREE]
    net.n[FREE] = packet
