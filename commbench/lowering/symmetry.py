# SPDX-License-Identifier: Apache-2.0
"""Which groups of a program's communications are in symmetric positions on a fabric, so that one flow is exact for all.

Colour refinement (engine.colours): flows of one colour must load links of the same colours with the same weights,
links of one colour must be loaded so by flows of the same colours.

Links that can never hold anything back are left out first, for they would break symmetries that no rate knows of. If
all groups of a communication p have one rate x_p, link l carries the sum of w_lp x_p. Where another link m has no more
bandwidth and w_mp >= w_lp for every p, what m lets through l lets through too, whichever are under way. The
max-min rates under the other links then obey l as well, so they are the rates under all links (a largest point of a set
is the largest of any part that it lies in). Of links that say the same, those of one kind are enough.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from commbench.arrays import FloatArray, IntArray
from commbench.engine.colours import Colours, mix, settle
from commbench.lowering.aggregate import GroupFlows, together
from commbench.topology.fabric import NODE_KINDS, Fabric

__all__ = ["kinds_of_links", "positions"]

_MOST_PROFILES = 2000
"""Every two are compared: some tenths of a second. With more of them no link is left out."""


def kinds_of_links(fabric: Fabric) -> IntArray:
    """A number for every link that says what it joins: the same for links between the same kinds of nodes."""
    src, dst = (fabric.node_kinds[ends].astype(np.int64) for ends in (fabric.src, fabric.dst))
    kinds: IntArray = src * len(NODE_KINDS) + dst
    return kinds


def positions(
    flows: Sequence[GroupFlows], bandwidths: FloatArray, *, kinds: IntArray | None = None, marks: IntArray | None = None
) -> list[IntArray]:
    """Class of every group of every communication: all 0 where all of its groups are in symmetric positions.

    Args:
        flows: the groups of every communication.
        bandwidths: of all links, bytes/s.
        kinds: of all links, see :func:`kinds_of_links`; None takes all for one.
        marks: above 0 for links to which something happens, the same number where the same happens; None for none.
    """
    sizes = [len(one.chain_ps) for one in flows]
    if max(sizes, default=1) == 1:
        return [np.zeros(size, dtype=np.int64) for size in sizes]
    marks = np.zeros(len(bandwidths), dtype=np.int64) if marks is None else marks
    kinds = np.zeros(len(bandwidths), dtype=np.int64) if kinds is None else kinds
    binding = _binding(flows, bandwidths, kinds, marks)
    classes = _refined([_over(one, binding) for one in flows], bandwidths, marks)
    return [np.unique(each, return_inverse=True)[1].astype(np.int64) for each in classes]


def _over(groups: GroupFlows, binding: npt.NDArray[np.bool_]) -> GroupFlows:
    """The same over these links only."""
    kept = binding[groups.link]
    return replace(
        groups,
        group=groups.group[kept],
        link=groups.link[kept],
        weights=groups.weights[kept],
        loads=groups.loads[kept],
    )


def _binding(
    flows: Sequence[GroupFlows], bandwidths: FloatArray, kinds: IntArray, marks: IntArray
) -> npt.NDArray[np.bool_]:
    """False for links that another link speaks for; see the module docstring."""
    joint = [together(one) for one in flows]
    pattern = np.repeat(np.arange(len(joint)), [len(one.link) for one in joint])
    link = np.concatenate([one.link for one in joint])
    weight = np.concatenate([one.weights for one in joint])
    own = mix(mix(bandwidths.view(np.uint64)) + kinds.astype(np.uint64)) + marks.astype(np.uint64)
    key = mix(own) + _gather(link, mix(pattern.astype(np.uint64)), weight.view(np.uint64), len(bandwidths))
    _, first, of_link, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if len(first) > _MOST_PROFILES:
        return np.ones(len(bandwidths), dtype=bool)
    row = np.full(len(bandwidths), -1)
    row[first] = np.arange(len(first))
    shown = row[link] >= 0
    profiles = np.zeros((len(first), len(joint)))
    profiles[row[link[shown]], pattern[shown]] = weight[shown]
    spoken_for: npt.NDArray[np.bool_] = _spoken_for(profiles, bandwidths[first], marks[first] == 0, counts)
    binding: npt.NDArray[np.bool_] = ~spoken_for[of_link.ravel()]
    return binding


def _spoken_for(
    profiles: FloatArray, bandwidth: FloatArray, steady: npt.NDArray[np.bool_], counts: IntArray
) -> npt.NDArray[np.bool_]:
    """Per profile (a weight for each communication) whether another allows no more; of equal ones the most frequent is
    kept.
    """
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.lexsort((np.arange(len(counts)), -counts))] = np.arange(len(counts))
    found = np.zeros(len(profiles), dtype=bool)
    for number in np.flatnonzero(steady).tolist():
        tighter = steady & (bandwidth <= bandwidth[number]) & (profiles >= profiles[number]).all(axis=1)
        same = tighter & (bandwidth == bandwidth[number]) & (profiles == profiles[number]).all(axis=1)
        found[number] = bool((tighter & ~same).any() or (same & (rank < rank[number])).any())
    return found


def _refined(flows: Sequence[GroupFlows], bandwidths: FloatArray, marks: IntArray) -> list[IntArray]:
    """Classes of every communication's groups when nothing splits any more."""
    sizes = [len(one.chain_ps) for one in flows]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    pattern = np.repeat(np.arange(len(flows)), sizes)
    flow = np.concatenate([one.group + at for one, at in zip(flows, start, strict=False)])
    link = np.concatenate([one.link for one in flows])
    weight = np.concatenate([one.weights for one in flows]).view(np.uint64)
    own = np.concatenate([one.own_bandwidth for one in flows]).view(np.uint64)
    chain, carried = (np.concatenate([getattr(one, name) for one in flows]) for name in ("chain_ps", "num_bytes"))
    own += mix(chain.view(np.uint64) + mix(carried.view(np.uint64)))
    of_flow = mix(mix(pattern.astype(np.uint64)) ^ mix(own))
    of_link = mix(mix(np.ascontiguousarray(bandwidths).view(np.uint64)) + mix(marks.astype(np.uint64)))

    def refine(of_flow: Colours, of_link: Colours) -> tuple[Colours, Colours]:
        return (
            mix(of_flow + _gather(flow, of_link[link], weight, len(of_flow))),
            mix(of_link + _gather(link, of_flow[flow], weight, len(of_link))),
        )

    found = settle(refine, of_flow, of_link)
    assert found is not None
    return [found[0][first:last] for first, last in pairwise(start.tolist())]


def _gather(row: IntArray, colour: Colours, weight: Colours, size: int) -> Colours:
    """Per row the sum (modulo 2**64) of what stands beside it; the order of the entries does not matter."""
    total = np.zeros(size, dtype=np.uint64)
    np.add.at(total, row, mix(colour ^ mix(weight)))
    return total
