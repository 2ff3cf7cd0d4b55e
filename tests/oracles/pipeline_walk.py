# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline takes whose passes and transfers take what they take alone: a walk through its schedule."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise

from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, gives, needs

__all__ = ["walk_seconds"]


@lru_cache(maxsize=64)
def _order(schedule: PipelineSchedule) -> tuple[tuple[int, tuple[Action, ...], tuple[int, ...], tuple[int, ...]], ...]:
    """Steps in an order in which all that they wait for stands before them: (rank, passes, steps of the same rank and
    of others that it waits for).
    """
    found: list[tuple[int, tuple[Action, ...], tuple[int, ...], tuple[int, ...]]] = []
    where: dict[object, int] = {}
    places, left = [0] * schedule.num_ranks, sum(len(order) for order in schedule.orders)
    while left:
        for rank, order in enumerate(schedule.orders):
            while places[rank] < len(order):
                parts = order[places[rank]].parts
                wanted = [need for action in parts for need in needs(action, schedule.num_stages)]
                if any(need not in where for need in wanted):
                    break
                steps = [where[need] for need in wanted]
                own = tuple(step for step in steps if found[step][0] == rank)
                where.update({gives(action): len(found) for action in parts})
                found.append((rank, parts, own, tuple(step for step in steps if found[step][0] != rank)))
                places[rank] += 1
                left -= 1
    return tuple(found)


def walk_seconds(
    schedule: PipelineSchedule,
    lasts: Mapping[tuple[int, Pass], float],
    sent_s: Callable[[int, int], float],
    *,
    waits: bool,
) -> float:
    """When the last pass of a schedule ends.

    Args:
        lasts: of every stage's passes. sent_s: seconds of a transfer between two ranks. waits: whether its sender waits
            for it.
    """
    ranks, way = schedule.rank_of_stage, {Pass.FORWARD: 1, Pass.BACKWARD: -1, Pass.INPUT: -1}
    pairs = [(a, b) for a, b in pairwise(ranks) if a != b]
    between = {pair: sent_s(*pair) for a, b in pairs for pair in ((a, b), (b, a))}
    clocks, ends, there = [0.0] * schedule.num_ranks, list[float](), list[float]()
    for rank, parts, own, others in _order(schedule):
        start = max([clocks[rank], *[ends[step] for step in own], *[there[step] for step in others]])
        end = start + sum([lasts[action.stage, action.kind] for action in parts])
        sent = 0.0
        for action in parts:
            to = action.stage + way.get(action.kind, 0)
            if 0 <= to < len(ranks):
                sent = max(sent, between.get((rank, ranks[to]), 0.0))
        ends.append(end)
        there.append(end + sent)
        clocks[rank] = end + sent if waits else end
    return max(clocks)
