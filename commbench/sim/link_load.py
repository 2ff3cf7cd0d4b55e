# SPDX-License-Identifier: Apache-2.0
"""The load of links over time, from the transfers of a simulated collective."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import FloatArray, IntArray
from commbench.units import PS_PER_S

if TYPE_CHECKING:
    from commbench.engine.setting import Paths
    from commbench.sim.collective import Simulation

__all__ = ["MOST_LINKS", "LinkSpans", "busiest_spans", "loads_by_time"]

MOST_LINKS = 10


@dataclass(frozen=True, slots=True)
class LinkSpans:
    """What goes over a link when: from ``begin_ps`` to ``end_ps`` at ``rate`` bytes/s, one of each per transfer."""

    link: int
    bandwidth: float
    begin_ps: IntArray
    end_ps: IntArray
    rate: FloatArray

    def steps(self) -> tuple[IntArray, FloatArray]:
        """Times (ps), and the bytes/s from each of them to the next; the last is 0."""
        times, place = np.unique(np.concatenate([self.begin_ps, self.end_ps]), return_inverse=True)
        change = np.bincount(place, weights=np.concatenate([self.rate, -self.rate]), minlength=len(times))
        values = np.maximum(np.cumsum(change), 0.0)
        values[-1] = 0.0
        return times, values

    def mean_load(self, edges_ps: IntArray) -> FloatArray:
        """Share of the bandwidth that is in use, on average from each edge to the next."""
        times, values = self.steps()
        moved = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(times))])
        found: FloatArray = np.diff(np.interp(edges_ps, times, moved)) / np.diff(edges_ps) / self.bandwidth
        return found


def busiest_spans(simulation: "Simulation", most: int = MOST_LINKS) -> Iterator[LinkSpans]:
    """Of the links that are in use for most of the time, the busiest first; none where paths are not known.

    Every transfer goes at its mean rate, from when its latency is over to its end: so the sum over time is the bytes
    that went over the link, and transfers that share a link unevenly may be told above its bandwidth for a moment.
    """
    paths = simulation.paths
    if paths is None or simulation.links_why:
        return
    sent = _sent(simulation, paths)
    of_route = np.bincount(sent.route, weights=sent.num_bytes, minlength=len(paths.latency_ps))
    loads = np.bincount(paths.links, weights=np.repeat(of_route, np.diff(paths.first)) * sent.weights)
    busy = loads / paths.bandwidths[: len(loads)]
    owner = np.repeat(np.arange(len(paths.latency_ps)), np.diff(paths.first))
    for link in np.argsort(-busy, kind="stable")[:most].tolist():
        at = np.flatnonzero(paths.links == link)
        share = np.zeros(len(paths.latency_ps))
        share[owner[at]] = sent.weights[at]
        mine = np.flatnonzero((share[sent.route] > 0) & (sent.rate > 0))
        if len(mine):
            scaled = sent.rate[mine] * share[sent.route[mine]]
            yield LinkSpans(link, float(paths.bandwidths[link]), sent.begin_ps[mine], sent.end_ps[mine], scaled)


def loads_by_time(simulation: "Simulation", links: IntArray, edges_ps: IntArray) -> FloatArray | None:
    """Share of the bandwidth of each of ``links`` that is in use, on average from each edge to the next.

    Shape (links, edges - 1), each transfer at its mean rate as in :func:`busiest_spans`; the first edge is 0, and the
    last not before the last transfer ends. None where paths are not known.
    """
    paths = simulation.paths
    if paths is None or simulation.links_why:
        return None
    sent, slices = _sent(simulation, paths), len(edges_ps) - 1
    row_of = np.full(len(paths.bandwidths), -1)
    row_of[links] = np.arange(len(links))
    at = np.flatnonzero(row_of[paths.links] >= 0)
    entry, transfer = _crossings(np.repeat(np.arange(len(paths.latency_ps)), np.diff(paths.first))[at], sent.route)
    row, rate = row_of[paths.links[at]][entry], sent.rate[transfer] * sent.weights[at][entry]
    within, after = np.zeros((2, len(links) * slices))
    for time_ps, change in ((sent.begin_ps[transfer], rate), (sent.end_ps[transfer], -rate)):
        place = np.clip(np.searchsorted(edges_ps, time_ps, side="right") - 1, 0, slices - 1)
        cell = row * slices + place
        within += np.bincount(cell, weights=change * (edges_ps[place + 1] - time_ps), minlength=len(within))
        after += np.bincount(cell, weights=change, minlength=len(after))
    widths, rates = np.diff(edges_ps), after.reshape(-1, slices)
    moved = within.reshape(-1, slices) + (np.cumsum(rates, axis=1) - rates) * widths
    found: FloatArray = np.maximum(moved, 0.0) / widths / paths.bandwidths[links, np.newaxis]
    return found


@dataclass(frozen=True, slots=True)
class _Sent:
    """Every transfer: route, bytes, and its mean rate (bytes/s) from begin to end; ``weights`` of ``paths.links``."""

    route: IntArray
    num_bytes: IntArray
    begin_ps: IntArray
    end_ps: IntArray
    rate: FloatArray
    weights: FloatArray


def _sent(simulation: "Simulation", paths: "Paths") -> _Sent:
    trace, program = simulation.trace, simulation.flat
    sends = np.flatnonzero(program.peer >= 0)
    route, num_bytes, end = paths.route_of[sends], program.num_bytes[sends], trace.end_ps[sends]
    begin = np.minimum(trace.start_ps[sends] + paths.latency_ps[route], end - 1)
    weights = paths.weights if len(paths.weights) else np.ones(len(paths.links))
    return _Sent(route, num_bytes, begin, end, num_bytes / (end - begin) * PS_PER_S, weights)


def _crossings(entries: IntArray, routes: IntArray) -> tuple[IntArray, IntArray]:
    """Of every entry of a route each transfer that takes this route: numbers of the entry and of the transfer."""
    order = np.argsort(routes, kind="stable")
    first = np.searchsorted(routes[order], entries)
    count = np.searchsorted(routes[order], entries, side="right") - first
    entry = np.repeat(np.arange(len(entries)), count)
    return entry, order[np.arange(len(entry)) - np.repeat(np.cumsum(count) - count - first, count)]
