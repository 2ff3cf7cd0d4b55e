# SPDX-License-Identifier: Apache-2.0
"""The fluid model: every flow in progress gets its max-min fair rate, and rates change only when flows come or go.

Only flows that share a link, directly or through others, with one that came, went or moved, or whose link changed,
can change their rate, so only that connected part is solved again. The result is the same as solving everything (see
maxmin's contract). The compiled engine solves less still (network.filling).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from commbench.network.base import LAST_PS, NEVER, too_long
from commbench.network.maxmin import max_min_rates
from commbench.units import PS_PER_S

__all__ = ["FluidNetwork"]


@dataclass(slots=True)
class _Flow:
    """A flow in progress: at ``since_ps`` it had ``left`` bytes to go and it runs at ``rate`` bytes/s since then.

    ``end_ps`` is when its last byte passes, as of the latest sharing.
    """

    links: tuple[int, ...]
    weights: tuple[float, ...] | None
    left: float
    since_ps: int
    rate: float = 0.0
    end_ps: int = NEVER


class FluidNetwork:
    """Flows over links; see network.base.Network."""

    def __init__(self, bandwidths: Sequence[float]) -> None:
        """``bandwidths``: bytes/s of every link, by link number."""
        self._bandwidths = list(bandwidths)
        self._flows: dict[int, _Flow] = {}
        self._on_link: dict[int, set[int]] = {}
        self._touched: set[int] = set()  # links to start from at the next sharing
        self._ends: list[tuple[int, int]] = []  # heap of (end, flow); some are of flows that have another end by now

    def start(
        self,
        flow: int,
        links: Sequence[int],
        num_bytes: int,
        now_ps: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        """A flow of ``num_bytes`` enters; it gets its rate at the next sharing."""
        self._flows[flow] = _Flow((), None, float(num_bytes), now_ps)
        self.move(flow, links, weights)

    def finish(self, flow: int) -> None:
        """A flow leaves."""
        self.move(flow, ())
        del self._flows[flow]

    def move(self, flow: int, links: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """A flow goes on over other links with what it has left."""
        entry = self._flows[flow]
        for link in entry.links:
            self._on_link[link].discard(flow)
        for link in links:
            self._on_link.setdefault(link, set()).add(flow)
        self._touched.update(entry.links, links)
        entry.links, entry.weights = tuple(links), None if weights is None else tuple(weights)

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        """A link has another bandwidth from now on; returns whether any flow is on it."""
        self._bandwidths[link] = bandwidth
        self._touched.add(link)
        return bool(self._on_link.get(link))

    def next_event(self, now_ps: int) -> int:
        """Give every flow its fair rate from now on; the first end of all, or NEVER."""
        for flow, end_ps in self.share(now_ps):
            if end_ps > LAST_PS:
                raise too_long()
            self._flows[flow].end_ps = end_ps
            heappush(self._ends, (end_ps, flow))
        while self._ends and not self._stands(*self._ends[0]):
            heappop(self._ends)
        return self._ends[0][0] if self._ends else NEVER

    def _stands(self, end_ps: int, flow: int) -> bool:
        return flow in self._flows and self._flows[flow].end_ps == end_ps

    def advance(self, now_ps: int) -> list[int]:
        """The flows whose last byte passes at ``now_ps``, ascending."""
        ended: list[int] = []
        while self._ends and self._ends[0][0] == now_ps:
            end_ps, flow = heappop(self._ends)
            if self._stands(end_ps, flow) and ended[-1:] != [flow]:
                ended.append(flow)
        return ended

    def share(self, now_ps: int) -> list[tuple[int, int]]:
        """Give every flow its fair rate from now on.

        Returns:
            (flow, time in ps at which its last byte passes) for each flow whose rate changed, in ascending order.
            A flow whose rate stayed the same keeps the end it was given before.
        """
        part = self._connected_part()
        self._touched.clear()
        entries = [self._flows[flow] for flow in part]
        rates = max_min_rates(self._bandwidths, [e.links for e in entries], [e.weights for e in entries])
        changed = []
        for flow, entry, rate in zip(part, entries, rates, strict=True):
            if rate == entry.rate:
                continue
            passed = entry.rate * (now_ps - entry.since_ps) / PS_PER_S
            entry.left = max(entry.left - passed, 0.0)
            entry.since_ps = now_ps
            entry.rate = rate
            changed.append((flow, now_ps + int(entry.left / rate * PS_PER_S + 0.5)))
        return changed

    def _connected_part(self) -> list[int]:
        """Flows joined to a touched link through shared links, ascending."""
        flows: set[int] = set()
        links = list(self._touched)
        seen = set(links)
        while links:
            for flow in self._on_link.get(links.pop(), ()):
                if flow in flows:
                    continue
                flows.add(flow)
                for link in self._flows[flow].links:
                    if link not in seen:
                        seen.add(link)
                        links.append(link)
        return sorted(flows)
