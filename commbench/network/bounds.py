# SPDX-License-Identifier: Apache-2.0
"""Lower bounds: no schedule can be faster on this topology. Shown beside every simulated time.

Bounds, never answers: they leave out every conflict inside the network.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from commbench.errors import InputError
from commbench.network.cuts import Cuts, Surroundings
from commbench.topology.fabric import Fabric
from commbench.units import PS_PER_S

__all__ = ["lower_bound_s"]

_Share = NDArray[np.float64] | float
_Shares = Callable[[Cuts], tuple[_Share, _Share]]
"""Cuts -> buffers that must leave each set, and that must enter it, at the least."""


def _all_reduce(cuts: Cuts) -> tuple[_Share, _Share]:
    """The sum over the inside must get out, the sum over the outside must get in."""
    return 1.0, 1.0


def _reduce_scatter(cuts: Cuts) -> tuple[_Share, _Share]:
    """Sums for the blocks of the other side."""
    return 1 - cuts.inside / cuts.ranks, cuts.inside / cuts.ranks


def _all_gather(cuts: Cuts) -> tuple[_Share, _Share]:
    """The blocks of the other side."""
    return cuts.inside / cuts.ranks, 1 - cuts.inside / cuts.ranks


def _all_to_all(cuts: Cuts) -> tuple[_Share, _Share]:
    """A block of 1/n for each pair across the cut, and each rank's buffer is n blocks."""
    crossing = cuts.inside * (cuts.ranks - cuts.inside) / cuts.ranks
    return crossing, crossing


def _broadcast(cuts: Cuts) -> tuple[_Share, _Share]:
    return np.where(cuts.holds_root, 1.0, 0.0), np.where(cuts.holds_root, 0.0, 1.0)


def _reduce(cuts: Cuts) -> tuple[_Share, _Share]:
    leave, enter = _broadcast(cuts)
    return enter, leave


def _gather(cuts: Cuts) -> tuple[_Share, _Share]:
    own = cuts.inside / cuts.ranks
    return np.where(cuts.holds_root, 0.0, own), np.where(cuts.holds_root, 1 - own, 0.0)


def _scatter(cuts: Cuts) -> tuple[_Share, _Share]:
    leave, enter = _gather(cuts)
    return enter, leave


def _send_recv(cuts: Cuts) -> tuple[_Share, _Share]:
    """Of a ring shift, at least one buffer leaves any set and one enters."""
    return 1.0, 1.0


def _nothing(cuts: Cuts) -> tuple[_Share, _Share]:
    """No data, or amounts that only the schedule knows."""
    return 0.0, 0.0


_SHARES: Mapping[str, _Shares] = MappingProxyType(
    {
        "all-reduce": _all_reduce,
        "reduce-scatter": _reduce_scatter,
        "all-gather": _all_gather,
        "all-to-all": _all_to_all,
        "all-to-all-v": _nothing,
        "broadcast": _broadcast,
        "reduce": _reduce,
        "gather": _gather,
        "scatter": _scatter,
        "send-recv": _send_recv,
        "barrier": _nothing,
    }
)


def lower_bound_s(
    collective: str,
    fabric: Fabric,
    placed: npt.ArrayLike,
    size_bytes: int,
    *,
    root: int = 0,
    in_switch: bool = False,
) -> float:
    """The largest of the bounds, in seconds.

    - *Latency*: data must reach the farthest rank that needs it (from the root, to the root, or from rank 0), over
      links that take at least their latencies, with the message overhead at both ends. No factor for rounds: a rank
      may send to many at once.
    - *Cut*: what must leave or enter a set of nodes crosses the links around it. The sets are each rank (its port),
      each host, and what hangs together when the cores, then the spines, then the leaves are taken away: pods, leaf
      groups.
    - *Messages*, all-reduce without switches that add: for every byte, n inputs become one result that all ranks
      hold, which takes at least 2(n-1) one-way messages; all ranks together send and receive them by their ports.

    Source: F. Harary, A. Schwenk, "The communication problem on graphs and digraphs", J. Franklin Institute 297
    (1974) 491-495, for the 2(n-1) messages (one-way gossip).

    Args:
        collective: key of ``spec.COLLECTIVES``.
        fabric: where.
        placed: endpoint of every rank, as a number among the fabric's ranks.
        size_bytes: of the full buffer.
        root: of rooted collectives.
        in_switch: whether switches add, so that the bound by messages does not hold.

    Raises:
        InputError: no bound is known for the collective.
    """
    if collective not in _SHARES:
        raise InputError(f"no lower bound is known for {collective}")
    nodes = np.asarray(placed, np.int64)
    n = len(nodes)
    if n == 1:
        return 0.0
    around = Surroundings(fabric, nodes)
    cuts = around.cuts(root)
    leave, enter = _SHARES[collective](cuts)
    bounds = [
        _latency_s(collective, fabric, around, n, root),
        np.max(leave * size_bytes / cuts.leave, initial=0.0),
        np.max(enter * size_bytes / cuts.enter, initial=0.0),
    ]
    if collective == "all-reduce" and not in_switch:
        bounds += [2 * (n - 1) * size_bytes / port for port in around.ports()]
    return float(max(bounds))


def _latency_s(collective: str, fabric: Fabric, around: Surroundings, n: int, root: int) -> float:
    """Least latency over which some datum must travel, with the message overhead at both ends."""
    if collective == "all-to-all-v":
        return 0.0  # its matrix may leave every pair empty
    others = np.array([(root + 1) % n]) if collective == "send-recv" else np.arange(n)
    farthest_ps = around.farthest_ps(root, others, backwards=collective in ("reduce", "gather"))
    return (farthest_ps + 2 * fabric.costs.message_overhead_ps) / PS_PER_S
