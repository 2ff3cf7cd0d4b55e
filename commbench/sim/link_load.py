# SPDX-License-Identifier: Apache-2.0
"""The load of links over time, from the transfers of a simulated collective."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from commbench.units import PS_PER_S

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["MOST_LINKS", "LinkSpans", "busiest_spans"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

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
    paths, trace, program = simulation.paths, simulation.trace, simulation.flat
    if paths is None:
        return
    sends = np.flatnonzero(program.peer >= 0)
    weights = paths.weights if len(paths.weights) else np.ones(len(paths.links))
    route = paths.route_of[sends]
    end = trace.end_ps[sends]
    begin = np.minimum(trace.start_ps[sends] + paths.latency_ps[route], end - 1)
    rate = program.num_bytes[sends] / (end - begin) * PS_PER_S
    of_route = np.bincount(route, weights=program.num_bytes[sends], minlength=len(paths.latency_ps))
    loads = np.bincount(paths.links, weights=np.repeat(of_route, np.diff(paths.first)) * weights)
    busy = loads / paths.bandwidths[: len(loads)]
    owner = np.repeat(np.arange(len(paths.latency_ps)), np.diff(paths.first))
    for link in np.argsort(-busy, kind="stable")[:most].tolist():
        at = np.flatnonzero(paths.links == link)
        share = np.zeros(len(paths.latency_ps))
        share[owner[at]] = weights[at]
        mine = np.flatnonzero((share[route] > 0) & (rate > 0))
        if len(mine):
            scaled = rate[mine] * share[route[mine]]
            yield LinkSpans(link, float(paths.bandwidths[link]), begin[mine], end[mine], scaled)
