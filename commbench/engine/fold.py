# SPDX-License-Identifier: Apache-2.0
"""Symmetric ranks folded: tasks that must do the same at the same time are simulated as one.

Tasks and links get colours: a task that of its kind, amount and latency, a link that of its bandwidth. Then colours
are refined until nothing changes: tasks of one colour must wait for the same colours and cross links of the same
colours, links of one colour must be crossed by equally many tasks of each colour. In such a colouring (an equitable
partition) all tasks of a colour have the same times, by induction over time: what they wait for is done at the same
time, and max-min rates, being unique, are equal on equal links. So one task per colour and one link per colour stand
for all, each flow with the number of its like on a link as its weight. The sums are exact (see network.maxmin), so
the folded program has the same times to the picosecond. The refinement itself is engine.colours.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.engine.colours import Colours, mix, settle
from commbench.engine.setting import Paths, Setting
from commbench.engine.steady import alike
from commbench.program.loop import LoopProgram

__all__ = ["Folded", "fold"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """What folding gave: a program and a setting to simulate instead, or the same ones and the reason why not."""

    program: LoopProgram
    setting: Setting
    why_not: str = ""


def fold(program: LoopProgram, setting: Setting) -> Folded:
    """Fold what is symmetric; see the module docstring."""
    why_not = _obstacle(program, setting)
    if why_not:
        return Folded(program, setting, why_not)
    task_class, link_class = _refine(program, setting)
    tasks = _first_of(task_class)
    if len(tasks) == len(program.kind):
        return Folded(program, setting, "no two ranks are in the same position")
    return Folded(_quotient(program, task_class, tasks), _folded_setting(setting, task_class, link_class, tasks))


def _obstacle(program: LoopProgram, setting: Setting) -> str:
    if setting.changes:
        return "links or ranks change during the run"
    if not alike(program):
        return "chunks differ in size"
    if setting.processors.overhead_ps:
        return "messages queue for processors"
    if len(setting.paths.weights):
        return "flows are aggregates already"
    return ""


def _row_sums(values: Colours, first: IntArray) -> Colours:
    """Sum of every compressed row, modulo 2^64."""
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    sums: Colours = total[first[1:]] - total[first[:-1]]
    return sums


def _refine(program: LoopProgram, setting: Setting) -> tuple[IntArray, IntArray]:
    """Class of every task and of every link.

    On a large fabric colours take as many rounds to settle as there are ranks between two corners. So first it is
    tried whether ranks a distance apart are alike, for every distance that divides the world: such a colouring, if it
    is equitable, needs no refinement of its tasks at all.
    """
    shape = _Shape.of(program, setting.paths)
    for distance in range(1, program.num_ranks):
        if program.num_ranks % distance == 0:
            own = np.stack([program.rank % distance, program.channel, program.stride]).astype(np.uint64)
            start = mix(shape.task + mix(mix(mix(own[0]) + own[1]) + own[2]))
            found = settle(shape.refine, start, shape.link, may_split=False)
            if found is not None:
                return found
    found = settle(shape.refine, shape.task, shape.link)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """What refinement looks at.

    Attributes:
        task, link: first colours. paths, route_of, moves, place: routes of the tasks that have one.
        needs, first, lag: what tasks wait for. crossing, link_first: tasks on every link, as compressed rows.
    """

    task: Colours
    link: Colours
    paths: Paths
    moves: npt.NDArray[np.bool_]
    place: Colours
    needs: IntArray
    first: IntArray
    lag: Colours
    crossing: IntArray
    link_first: IntArray

    @classmethod
    def of(cls, program: LoopProgram, paths: Paths) -> "_Shape":
        moves = paths.route_of >= 0
        latency = np.where(moves, paths.latency_ps[paths.route_of], -1)
        hops = np.arange(len(paths.links)) - np.repeat(paths.first[:-1], np.diff(paths.first))
        crossing = np.repeat(np.flatnonzero(moves), np.diff(paths.first)[paths.route_of[moves]])
        crossed = _rows(paths, paths.route_of[moves])
        by_link = np.argsort(crossed, kind="stable")
        return cls(
            # Equal amounts in all tasks (see alike), so that kind and latency tell first colours apart.
            task=mix(mix(program.kind.astype(np.uint64)) + latency.astype(np.uint64)),
            link=mix(paths.bandwidths.view(np.uint64)),
            paths=paths,
            moves=moves,
            place=mix(hops.astype(np.uint64) + np.uint64(1)),
            needs=program.needs,
            first=program.first,
            lag=mix(program.lag.astype(np.uint64) + np.uint64(7)),
            crossing=crossing[by_link],
            link_first=np.searchsorted(crossed[by_link], np.arange(len(paths.bandwidths) + 1)),
        )

    def refine(self, task: Colours, link: Colours) -> tuple[Colours, Colours]:
        """One round: every colour takes in those around it."""
        routes = _row_sums(mix(link[self.paths.links] * np.uint64(3) + self.place), self.paths.first)
        waits = _row_sums(mix(task[self.needs] + self.lag), self.first)
        road = np.zeros_like(task)
        road[self.moves] = routes[self.paths.route_of[self.moves]]
        load = _row_sums(mix(task + np.uint64(11))[self.crossing], self.link_first)
        return mix(task * np.uint64(5) + mix(waits * np.uint64(9)) + mix(road * np.uint64(13))), mix(
            link * np.uint64(5) + load
        )


def _rows(paths: Paths, routes: IntArray) -> IntArray:
    """Links of the routes, one behind the other."""
    length = np.diff(paths.first)[routes]
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    links: IntArray = paths.links[np.repeat(paths.first[routes], length) + within]
    return links


def _first_of(classes: IntArray) -> IntArray:
    """The lowest member of every class."""
    return np.unique(classes, return_index=True)[1].astype(np.int64)


def _quotient(program: LoopProgram, task_class: IntArray, tasks: IntArray) -> LoopProgram:
    """One task per class; it waits for classes."""
    rows = [
        np.unique(np.stack([task_class[program.needs[a:b]], program.lag[a:b]]), axis=1)
        for a, b in zip(program.first[tasks], program.first[tasks + 1], strict=True)
    ]
    columns = ("kind", "rank", "peer", "channel", "block", "stride", "piece")
    return replace(
        program,
        base=np.arange(len(tasks), dtype=np.int64) * program.num_rounds,
        pitch=np.ones(len(tasks), dtype=np.int64),
        **{name: getattr(program, name)[tasks] for name in columns},
        first=np.cumsum([0, *(row.shape[1] for row in rows)], dtype=np.int64),
        needs=np.concatenate([row[0] for row in rows]),
        lag=np.concatenate([row[1] for row in rows]),
    )


def _folded_setting(setting: Setting, task_class: IntArray, link_class: IntArray, tasks: IntArray) -> Setting:
    """One route per class of transfers and one link per class, with the number of like flows as weights."""
    paths = setting.paths
    moving = np.flatnonzero(paths.route_of >= 0)
    length = np.diff(paths.first)[paths.route_of[moving]]
    owner = np.repeat(task_class[moving], length)
    crossed = _rows(paths, paths.route_of[moving])
    pairs, counts = np.unique(np.stack([owner, crossed]), axis=1, return_counts=True)
    keys = pairs[0] * len(paths.bandwidths) + pairs[1]  # ascending, as pairs are
    routes: list[list[int]] = []
    weights: list[list[float]] = []
    latency: list[int] = []
    route_of: list[int] = []
    for kind, task in enumerate(tasks.tolist()):
        route = int(paths.route_of[task])
        if route < 0:
            route_of.append(-1)
            continue
        own = paths.links[paths.first[route] : paths.first[route + 1]]
        load = counts[np.searchsorted(keys, kind * len(paths.bandwidths) + own)]
        seen, at = np.unique(link_class[own], return_index=True)
        route_of.append(len(routes))
        routes.append(seen.tolist())
        weights.append(load[at].astype(float).tolist())
        latency.append(int(paths.latency_ps[route]))
    bandwidths = paths.bandwidths[_first_of(link_class)]
    return replace(setting, paths=Paths.of_lists(bandwidths.tolist(), routes, latency, route_of, weights))
