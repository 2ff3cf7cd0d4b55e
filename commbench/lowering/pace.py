# SPDX-License-Identifier: Apache-2.0
"""Messages at the pace of a library whose model says how long a collective takes.

A :class:`commbench.libraries.base.Timing` knows a collective as a whole: a delay that is the same on any fabric, of
which the launch is a part, and the seconds of a flow. Its messages then take together as long as the model says, by
what each is given:

    launch      before the first message of every rank
    step end    the rest of the delay, in equal parts, after each of the S steps of a rank
    rate        of a message of b bytes in step s: b / (k D_s), where D_s = max_l B_l / C_l is the time that the step's
                bytes B_l take on links of bandwidth C_l, and k = (seconds of the flow) / sum over s of D_s

so that in health a collective ends after launch + S (delay - launch) / S + k sum D_s, which is what the model says.
The rate is a link of the route's own; where faults or other traffic leave a link less than its messages want, these
take longer, and those that wait for them too.

The model knows hosts and their NICs: in health these never hold it back, whatever the messages would load them with
(NVSwitches that add need fewer bytes than any schedule of ranks). On such links a message has a weight below 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from commbench.arrays import FloatArray
from commbench.engine.setting import Change, Paths, What
from commbench.libraries.base import Timing
from commbench.lowering.aggregate import weights_below
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.routing.routes import rows_at
from commbench.topology.fabric import Fabric
from commbench.units import PS_PER_S

__all__ = ["Paced", "launch_ps", "paced", "step_end_ps"]


def launch_ps(timing: Timing) -> int:
    """Before the first message."""
    return round(min(timing.terms.get("launch", 0.0), timing.delay_s) * PS_PER_S)


def step_end_ps(timing: Timing, num_steps: int) -> int:
    """After each step: an equal part of the delay behind the launch."""
    return round((timing.delay_s * PS_PER_S - launch_ps(timing)) / max(num_steps, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Paced:
    """Paths whose routes have a pace.

    Attributes:
        paths: the routes with their weights on the fabric's links; their latencies are in the model.
        rates: bytes/s that each route cannot exceed, infinite where it has no pace; shape (routes,).
    """

    paths: Paths
    rates: FloatArray

    def with_own_links(self, paths: Paths, changes: Sequence[Change] = ()) -> Paths:
        """Those paths with a link of its own behind every route that has a pace.

        Args:
            paths: these ones, or what a scenario made of them: further routes behind the own.
            changes: of the scenario. A route that stands in for others is as fast as they are together.
        """
        rates = np.full(len(paths.latency_ps), np.inf)
        rates[: len(self.rates)] = self.rates
        stands_in = {(change.index, int(change.value)) for change in changes if change.what is What.ROUTE}
        for own, other in sorted(stands_in):
            if other >= len(self.rates):
                rates[other] = self.rates[own] + (rates[other] if np.isfinite(rates[other]) else 0.0)
        routes = np.flatnonzero(np.isfinite(rates))
        behind, fabric_links = paths.first[routes + 1], len(paths.bandwidths)
        widths = np.diff(paths.first)
        widths[routes] += 1
        none = np.zeros(len(routes), dtype=np.int64)
        return replace(
            paths,
            bandwidths=np.concatenate([paths.bandwidths, rates[routes]]),
            first=np.concatenate([[0], np.cumsum(widths)]),
            links=np.insert(paths.links, behind, fabric_links + np.arange(len(routes))),
            weights=np.insert(paths.weights, behind, 1.0),
            link_latencies_ps=np.concatenate([paths.link_latencies_ps, none]),
        )


def paced(program: FlatProgram, paths: Paths, timings: Mapping[int, Timing], fabric: Fabric) -> Paced:
    """The paths of a program, with a pace for the messages of operations whose time a model says.

    Args:
        program: its messages. timings: of these operations.
        paths: a route is of one operation alone. fabric: whose links they are.
    """
    moves = np.flatnonzero((program.kind == TRANSFER) & np.isin(program.operation, list(timings)))
    route, sizes = paths.route_of[moves], program.num_bytes[moves].astype(np.float64)
    routes = np.unique(route)
    operations, operation = np.unique(program.operation[moves], return_inverse=True)
    num_steps = int(program.step[moves].max(initial=0)) + 1
    step = operation * num_steps + program.step[moves]  # steps of all operations, one behind the other
    starts, place = rows_at((paths.first, np.arange(len(paths.links))), route)  # a message on each link of its route
    message, link = np.repeat(np.arange(len(moves)), np.diff(starts)), paths.links[place]
    pair, of_pair = np.unique(step[message] * len(paths.bandwidths) + link, return_inverse=True)
    crossing_s = np.bincount(of_pair, weights=sizes[message]) / paths.bandwidths[pair % len(paths.bandwidths)]
    lasts_s = np.zeros(len(operations) * num_steps)
    np.maximum.at(lasts_s, pair // len(paths.bandwidths), crossing_s)
    wire_s = np.array([max(timings[number].wire_s, 1 / PS_PER_S) for number in operations.tolist()])
    lasts_s = (lasts_s.reshape(-1, num_steps) * (wire_s / lasts_s.reshape(-1, num_steps).sum(axis=1))[:, None]).ravel()
    rates, latency_ps = np.full(len(paths.latency_ps), np.inf), paths.latency_ps.copy()
    rates[routes], latency_ps[routes] = 0.0, 0
    np.maximum.at(rates, route, sizes / lasts_s[step])
    weights = np.ones(len(paths.links))
    known = ((fabric.node_hosts[fabric.src] >= 0) | (fabric.node_hosts[fabric.dst] >= 0))[link]
    share = np.minimum(1.0, lasts_s[step[message]] / crossing_s[of_pair])
    np.minimum.at(weights, place[known], share[known])
    return Paced(replace(paths, weights=weights_below(weights), latency_ps=latency_ps), rates)
