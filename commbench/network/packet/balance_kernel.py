# SPDX-License-Identifier: Apache-2.0
"""Which way packets take (SEMANTICS.md, "Ways"), for the compiled engine; and the lots that are drawn (lottery)."""

import numpy as np

from commbench.network.jit import call, jit
from commbench.network.packet.lottery import INCREMENT, MIX, MIX_AGAIN, OF_MESSAGES
from commbench.network.packet.settings import ADAPTIVE, FLOWLET
from commbench.network.packet.state import BALANCE, GAP_PS, SEED

__all__ = ["chooses", "lot", "next_place", "path_number", "shortest"]

_INCREMENT, _MIX, _MIX_AGAIN = np.uint64(INCREMENT), np.uint64(MIX), np.uint64(MIX_AGAIN)


@jit
def lot(whose, number, net):
    """64 bits: the ``number`` th lot that ``whose`` draws."""
    state = ((np.uint64(net.given[SEED]) << np.uint64(32)) | np.uint64(whose)) * _MIX_AGAIN
    state += np.uint64(number) * _INCREMENT
    state = (state ^ (state >> np.uint64(30))) * _MIX
    state = (state ^ (state >> np.uint64(27))) * _MIX_AGAIN
    return state ^ (state >> np.uint64(31))


@jit
def _sprayed_path(task, number, paths, net):
    """Each of ``paths`` once in so many packets, each time in another order."""
    place = np.int64(number % paths)
    ones = np.int64(1)
    while ones < paths:
        ones *= 2
    ones -= 1
    half = 0
    while (np.int64(1) << (2 * half)) <= ones:
        half += 1
    key = lot(OF_MESSAGES | task, number // paths, net)
    added = np.int64(key & np.uint64(ones))
    odd = np.int64((key >> np.uint64(32)) & np.uint64(ones)) | 1
    odder = np.int64((key >> np.uint64(16)) & np.uint64(ones)) | 1
    while True:
        place = ((place ^ added) * odd) & ones
        place = ((place ^ (place >> half)) * odder) & ones
        if place < paths:
            return place


@call
def path_number(task, now, net):
    """Of a flow's next packet."""
    flow, given = net.flows[task], net.given
    paths, number = net.paths[flow.route], flow.next + flow.again
    if given[BALANCE] != FLOWLET:
        return _sprayed_path(task, number, paths, net)
    if number == 0 or now - flow.departed > given[GAP_PS]:
        flow.path = np.int64(lot(OF_MESSAGES | task, number, net) % np.uint64(paths))
    flow.departed = now
    return flow.path


@jit
def next_place(path, state, net):
    """In the ways, of the link that comes next by a path number."""
    first = net.way_first[state]
    return first + path % (net.way_first[state + 1] - first)


@jit
def chooses(link, state, net):
    """Whether the node behind a link looks at its queues before it takes one of those that may come next."""
    several = net.way_first[state + 1] - net.way_first[state] > 1
    return several and net.given[BALANCE] == ADAPTIVE and not net.links[link].inside


@jit
def shortest(place, state, net):
    """The place of the link before which the fewest bytes wait, the first from ``place`` on and round."""
    begin, end = net.way_first[state], net.way_first[state + 1]
    best, least = place, net.links[net.way_links[place]].held
    for step in range(1, end - begin):
        other = place + step if place + step < end else place + step - (end - begin)
        held = net.links[net.way_links[other]].held
        if held < least:
            best, least = other, held
    return best
