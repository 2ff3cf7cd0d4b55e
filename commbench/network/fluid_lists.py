# SPDX-License-Identifier: Apache-2.0
"""What a sharing has to look at: links where something has changed, flows that may have another rate or end."""

import numpy as np

from commbench.network.fluid_state import CHANGED, STALE, TOUCHED
from commbench.network.jit import jit
from commbench.network.queue import take_out

__all__ = ["enlist", "let_go", "touch", "unsteady"]


@jit
def touch(link, why, net):
    """Let the next filling begin here."""
    if net.links[link].touched == 0:
        net.touched[net.n[TOUCHED]] = link
        net.n[TOUCHED] += 1
    if net.links[link].touched < why:
        net.links[link].touched = why


@jit
def unsteady(link, net):
    """Have the first end of the flows that the link holds back looked for again."""
    if net.links[link].stale == 0:
        net.links[link].stale = 1
        net.stale[net.n[STALE]] = link
        net.n[STALE] += 1


@jit
def let_go(slot, slots, net):
    """The link that has held the flow back does so no more: if it waited for this end, it waits for another."""
    by = net.held_by[slot]
    if net.links[by].soonest == np.int64(slot):
        take_out(slot, slots, net.queue)
        net.links[by].soonest = -1
        unsteady(by, net)


@jit
def enlist(slot, net):
    """The flow may have another rate from now on."""
    if net.flows[slot].listed == 0:
        net.flows[slot].listed = 1
        net.changed[net.n[CHANGED]] = slot
        net.n[CHANGED] += 1
