# SPDX-License-Identifier: Apache-2.0
"""Another network model, in both forms: whole messages from link to link, each link theirs in the order of starts."""

from collections import namedtuple

import numpy as np

from commbench.network.base import NEVER, NetworkKernel, NetworkModel
from commbench.network.jit import jit


class StoreAndForward:
    def __init__(self, wiring):
        self.bandwidths, self.free_ps = wiring.bandwidths.tolist(), [0] * len(wiring.bandwidths)
        self.flows, self.new, self.ends = {}, set(), {}  # (bytes, links); not yet sent; when they end

    def start(self, flow, links, num_bytes, now_ps, weights=None):
        self.flows[flow] = num_bytes, links
        self.new.add(flow)

    def finish(self, flow):
        del self.flows[flow], self.ends[flow]

    def move(self, flow, links, weights=None):
        self.start(flow, links, self.flows[flow][0], 0)  # once more, from the beginning

    def set_bandwidth(self, link, bandwidth):
        self.bandwidths[link] = bandwidth
        return False  # what is on its way keeps its time

    def next_event(self, now_ps):
        for flow in sorted(self.new):
            self.ends[flow] = now_ps
            for link in self.flows[flow][1]:
                lasts_ps = int(self.flows[flow][0] / self.bandwidths[link] * 1e12 + 0.5)
                self.ends[flow] = self.free_ps[link] = max(self.ends[flow], self.free_ps[link]) + lasts_ps
        self.new.clear()
        return min(self.ends.values(), default=NEVER)

    def advance(self, now_ps):
        return [flow for flow, end_ps in self.ends.items() if end_ps == now_ps]


State = namedtuple("State", "n bandwidths first links free_ps ends")  # ends by slot: -1 no flow, -2 a new one


def build(wiring, route_of, moves):
    wires = wiring.bandwidths.copy(), wiring.first.copy(), wiring.links.copy()
    return State(np.zeros(1, np.int64), *wires, np.zeros(len(wires[0]), np.int64), np.full(len(route_of), -1))


@jit
def start(slot, route, now, slots, net):
    slots[slot].route, net.ends[slot] = route, -2


@jit
def finish(slot, slots, net):
    net.ends[slot] = -1


@jit
def set_bandwidth(link, bandwidth, net):
    net.bandwidths[link] = bandwidth
    return False


@jit
def next_event(now, slots, net):
    ends, free_ps = net.ends, net.free_ps
    for task in range(ends.size):
        for slot in range(ends.size):
            if ends[slot] == -2 and slots[slot].task == task:
                ends[slot] = now
                for link in net.links[net.first[slots[slot].route] : net.first[slots[slot].route + 1]]:
                    lasts_ps = np.int64(slots[slot].left / net.bandwidths[link] * 1e12 + 0.5)
                    ends[slot] = free_ps[link] = max(ends[slot], free_ps[link]) + lasts_ps
    found = NEVER
    for end in ends:
        found = end if end >= 0 and (found == NEVER or end < found) else found
    return found


@jit
def advance(now, slots, net, ended, count):
    for slot in range(net.ends.size):
        if net.ends[slot] == now:
            ended[count] = slot
            count += 1
    return count


KERNEL = NetworkKernel(build, start, finish, start, set_bandwidth, next_event, advance)
MODEL = NetworkModel("store-and-forward", StoreAndForward, lambda: KERNEL)
