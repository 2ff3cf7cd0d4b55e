# SPDX-License-Identifier: Apache-2.0
"""Lower bounds: no schedule of sends and receives can be faster on this topology. Shown beside every simulated time.

Bounds, never answers: they leave out every conflict inside the network.
"""

import networkx as nx

from commbench.errors import InputError
from commbench.topology.model import Topology
from commbench.units import PS_PER_S

__all__ = ["lower_bound_s"]


def lower_bound_s(collective: str, topology: Topology, endpoints: tuple[str, ...], size_bytes: int) -> float:
    """The largest of a latency bound and three port bounds, in seconds.

    - *Latency*: the first rank's input must reach the farthest rank, over links that take at least their
      latencies, with the message overhead at both ends. No factor for rounds: a rank may send to many at once.
    - *Ports*: for every byte of the buffer, n inputs become one result that all n ranks hold. That takes at
      least 2(n-1) one-way messages, so all ranks together send, and receive, at least 2(n-1) buffers by their
      own links. Each single rank must send its own input at least once, and receive at least one buffer.

    Source: F. Harary, A. Schwenk, "The communication problem on graphs and digraphs", J. Franklin Institute 297
    (1974) 491-495, for the 2(n-1) messages (one-way gossip). In-switch reduction is outside these bounds.

    Raises:
        InputError: no bound is known for the collective.
    """
    if collective != "all-reduce":
        raise InputError(f"no lower bound is known for {collective}")
    n = len(endpoints)
    if n == 1:
        return 0.0
    bounds = [(_farthest_ps(topology, endpoints) + 2 * topology.costs.message_overhead_ps) / PS_PER_S]
    for edges in (topology.graph.out_edges, topology.graph.in_edges):
        ports = [sum(data["link"].bandwidth for _, _, data in edges(name, data=True)) for name in endpoints]
        bounds += [2 * (n - 1) * size_bytes / sum(ports), size_bytes / min(ports)]
    return max(bounds)


def _farthest_ps(topology: Topology, endpoints: tuple[str, ...]) -> int:
    """Least sum of latencies from the first endpoint to the one that is farthest from it."""
    reached = nx.single_source_dijkstra_path_length(
        topology.graph, endpoints[0], weight=lambda _src, _dst, data: data["link"].latency_ps
    )
    return int(max(reached[name] for name in endpoints))
