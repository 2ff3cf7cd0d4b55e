# SPDX-License-Identifier: Apache-2.0
"""Packets that are trimmed and pulls of receivers (SEMANTICS.md, "Trimmed packets"), for the compiled engine."""

from commbench.network.jit import jit
from commbench.network.packet.control import HEADERS
from commbench.network.packet.events_kernel import at
from commbench.network.packet.senders_kernel import lasts
from commbench.network.packet.state import FULL, HEADER, PACE, PULL, TRIMS

__all__ = ["HEADERS", "pace", "trimmed_joins", "want"]


@jit
def trimmed_joins(packet, beyond, net):
    """A packet that is a header, from now on if it was whole, joins the headers before link ``beyond``."""
    entry, here = net.links[beyond], net.packets[packet]
    if not here.trimmed:
        net.counts[TRIMS, beyond] += 1
        here.trimmed, here.size = 1, max(net.given[HEADER], 1)
    here.via, here.next = -1, -1
    if entry.headers < 0:
        entry.headers = packet
    else:
        net.packets[entry.headers_end].next = packet
    entry.headers_end = packet


@jit
def _join_pulls(task, link, net):
    entry = net.links[link]
    net.flows[task].after_pull = -1
    if entry.pulls < 0:
        entry.pulls = task
    else:
        net.flows[entry.pulls_end].after_pull = task
    entry.pulls_end = task


@jit
def want(task, now, net):
    """Something of a message has come: a pull waits, if its sender has a packet that nobody asked for."""
    flow = net.flows[task]
    if flow.asked == flow.packets + flow.headers:
        return
    flow.asked += 1
    flow.pulls += 1
    if flow.pulls > 1:
        return  # it stands in a turn
    link = net.pulled[flow.route]
    entry = net.links[link]
    _join_pulls(task, link, net)
    if not entry.pulling:
        entry.pulling = 1
        at(max(now, entry.pull_due), PACE, link, -1, net)


@jit
def pace(link, now, net):
    """A pull goes; the next one after the time of a full packet on the link."""
    entry = net.links[link]
    task = entry.pulls
    flow = net.flows[task]
    entry.pulls = flow.after_pull
    flow.pulls -= 1
    if flow.pulls > 0:
        _join_pulls(task, link, net)
    at(now + net.back[flow.route], PULL, task, -1, net)
    entry.pull_due = now + lasts(net.given[FULL], entry.bandwidth, net)
    entry.pulling = entry.pulls >= 0
    if entry.pulling:
        at(entry.pull_due, PACE, link, -1, net)
