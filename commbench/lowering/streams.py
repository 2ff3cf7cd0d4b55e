# SPDX-License-Identifier: Apache-2.0
"""Programs for networks that have connections: see "Transport" in SEMANTICS.md.

:func:`with_streams` gives every sender, receiver and channel a connection. :func:`over_connections` does it for each
rail, and has a library's messages come as that library sends them: the receiver's notice that it is ready, the sender's
own, then header and payload, all on the one connection of the two ranks, in the order in which they are written.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.engine.setting import Paths
from commbench.lowering.placing import paths_of, triples_of
from commbench.lowering.transport import posts_at
from commbench.network.base import Streams
from commbench.network.transport import Connections
from commbench.program.flat import COLUMNS, COMPUTE, COUPLED, TRANSFER, FlatProgram, compress

__all__ = ["over_connections", "with_streams"]

_Post = tuple[int, bool]
"""A transfer, and whether it is its sender that posts."""



def with_streams(program: FlatProgram, cluster: Cluster, written: IntArray | None = None) -> Paths:
    """The paths of a program's transfers, each with its way back.

    Args:
        program: of transfers. cluster: where. written: as :class:`~commbench.network.base.Streams` has it.
    """
    triples, route_of = triples_of(program)
    both = np.concatenate([triples, triples[:, [1, 0, 2]]])
    ways, number = np.unique(both, axis=0, return_inverse=True)
    number = number.reshape(-1)
    back = np.empty(len(ways), dtype=np.int64)
    back[number] = np.roll(number, len(triples))
    on = np.full(program.num_tasks, -1, dtype=np.int64)
    on[route_of >= 0] = number[: len(triples)][route_of[route_of >= 0]]
    none = np.full(program.num_tasks, -1, dtype=np.int64)
    paths = paths_of(ways, on, cluster.router, cluster.placed)
    return replace(paths, streams=Streams(back, on, none if written is None else written))


def over_connections(program: FlatProgram, cluster: Cluster, over: Connections, seed: int) -> tuple[FlatProgram, Paths]:
    """A program as a library carries it out over connections, with its paths.

    Of the paths the links inside hosts are left out, and all latencies: a testbed has neither.

    Args:
        program: of transfers. cluster: where.
        over: what it goes over. seed: of what is left to chance.
    """
    work = _Connecting(program, over, seed, cluster.one_machine or program.num_ranks)
    work.connect()
    done, written = work.done()
    moves = done.kind != COMPUTE
    rails = replace(
        done, kind=np.where(moves, TRANSFER, COMPUTE), channel=np.where(moves, done.channel % over.rails, -1)
    )
    paths = with_streams(rails, cluster, written)
    kept = ~paths.inside[paths.links]  # a testbed's host has no bus
    first = np.concatenate([[0], np.cumsum(kept)])[paths.first]
    bare = replace(
        paths,
        first=first.astype(np.int64),
        links=paths.links[kept],
        latency_ps=np.zeros_like(paths.latency_ps),
        link_latencies_ps=np.zeros_like(paths.link_latencies_ps),
    )
    return done, bare


@dataclass(slots=True)
class _Connecting:
    """One program being rewritten."""

    old: FlatProgram
    over: Connections
    seed: int
    processors: int
    new: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    notices: list[int] = field(default_factory=list)
    watches: dict[int, int] = field(default_factory=dict)  # of a transfer: the task that ends when it is written
    arrived: dict[int, int] = field(default_factory=dict)  # ... after which its receiver goes on

    def connect(self) -> None:
        """Rewrite every transfer; then what others wait for."""
        old, transport = self.old, self.over.transport
        moves: list[int] = np.flatnonzero(old.kind == TRANSFER).tolist()
        for task in moves:
            self.watches[task] = self._add(task, COUPLED, int(old.rank[task]), peer=int(old.peer[task]))
            self.arrived[task] = self._add(task, COMPUTE, int(old.peer[task]), duration_ps=transport.latency_ps)
            self.edges.append((self.arrived[task], task))
        posts = self._posts(moves)
        for task in moves:
            self._transfer(task, posts)
        for task in np.flatnonzero(old.kind != TRANSFER).tolist():
            self.edges += [(task, self._end(needed, int(old.rank[task]))) for needed in self._needs(task)]

    def _transfer(self, task: int, posts: dict[_Post, int]) -> None:
        """Both sides say that they are ready; the receiver's notice lets the payload go."""
        old, transport = self.old, self.over.transport
        src, dst = int(old.rank[task]), int(old.peer[task])
        ready: dict[bool, set[int]] = {True: set(), False: set()}  # by whether it is the sender's side
        for needed in self._needs(task):
            sides = {True: src, False: dst}
            own = [sends for sends, rank in sides.items() if rank in self._ranks(needed)] or [True, False]
            for sends in own:
                ready[sends].add(self._end(needed, sides[sends]))
        for sends in (True, False):
            self.edges += [(posts[task, sends], each) for each in ready[sends]]
        start = self._add(task, COMPUTE, src, duration_ps=transport.latency_ps)
        if transport.notice_bytes:
            coming = self._add(task, TRANSFER, dst, peer=src, num_bytes=transport.notice_bytes)
            going = self._add(task, TRANSFER, src, peer=dst, num_bytes=transport.notice_bytes)
            self.notices += [coming, going]
            self.edges += [(coming, posts[task, False]), (going, posts[task, True]), (start, coming)]
        else:
            self.edges.append((start, posts[task, False]))
        for waiting in (task, self.watches[task]):
            self.edges += [(waiting, start), (waiting, posts[task, True])]

    def _posts(self, moves: list[int]) -> dict[_Post, int]:
        """Of each transfer and side the task that posts it.

        What a rank posts at one moment it posts one after the other.
        """
        old, listed = self.old, defaultdict[tuple[int, int, int, int], list[_Post]](list)
        for task in moves:
            operation, channel, step = int(old.operation[task]), int(old.channel[task]), int(old.step[task])
            listed[operation, int(old.rank[task]), channel, step].append((task, True))
            listed[operation, int(old.peer[task]), channel, step].append((task, False))
        ranks = sorted(range(old.num_ranks), key=lambda rank: posts_at(self.seed, rank))
        place = {rank: number for number, rank in enumerate(ranks)}
        found = {}
        for (_, rank, channel, _), posts in listed.items():
            ahead = self._ahead(rank, channel, place[rank]) * len(posts)
            posts.sort(key=self._turn)
            for number, post in enumerate(posts, ahead + 1):
                delay_ps = number * self.over.transport.post_ps
                found[post] = self._add(post[0], COMPUTE, rank, duration_ps=delay_ps)
        return found

    def _turn(self, post: _Post) -> tuple[int, bool]:
        """Receives first; or where sends go first in pairs, near distances before far ones."""
        task, sends = post
        if not self.over.transport.answers_late:
            return 0, sends
        return int(self.old.peer[task] - self.old.rank[task]) % self.old.num_ranks, not sends

    def _ahead(self, rank: int, channel: int, place: int) -> int:
        """How many others post before a rank on a channel, where all are ready at one moment.

        Ranks that post all that they send and receive do so in a drawn order, as many at a time as there are
        processors, each until it is through. Else of a rank's channels a drawn one is first.
        """
        if self.over.transport.answers_late:
            return place // self.processors
        channels = range(int(self.old.channel.max(initial=0)) + 1)
        order = sorted(channels, key=lambda other: posts_at(self.seed, rank * len(channels) + other))
        return order.index(channel)

    def _needs(self, task: int) -> list[int]:
        needs: list[int] = self.old.needs[self.old.first[task] : self.old.first[task + 1]].tolist()
        return needs

    def _ranks(self, task: int) -> tuple[int, int]:
        return int(self.old.rank[task]), int(self.old.peer[task])

    def _end(self, task: int, rank: int) -> int:
        """The task after which a rank goes on that waited for ``task``."""
        if task not in self.watches:
            return task
        return self.watches[task] if self.old.rank[task] == rank else self.arrived[task]

    def _add(self, like: int, kind: int, rank: int, *, peer: int = -1, num_bytes: int = 0, duration_ps: int = 0) -> int:
        channel = -1 if kind == COMPUTE else int(self.old.channel[like])
        rest = channel, int(self.old.step[like]), int(self.old.operation[like])
        self.new.append((kind, rank, peer, num_bytes, duration_ps, *rest))
        return self.old.num_tasks + len(self.new) - 1

    def numbers(self) -> IntArray:
        """New numbers of all tasks. Notices come first: what a rank writes at one moment is in the order of numbers."""
        later = np.ones(self.old.num_tasks + len(self.new), dtype=np.int64)
        later[self.notices] = 0
        return np.argsort(np.argsort(later, kind="stable"))

    def done(self) -> tuple[FlatProgram, IntArray]:
        """The new program; and of each of its tasks the one whose bytes it waits for, as Streams has it."""
        old, number = self.old, self.numbers()
        rows = np.array(self.new, dtype=np.int64).reshape(-1, len(COLUMNS)).T
        kept = {name: getattr(old, name) for name in COLUMNS}
        kept["num_bytes"] = old.num_bytes + np.where(old.kind == TRANSFER, self.over.transport.message_bytes, 0)
        order = np.argsort(number)
        columns = {name: np.concatenate([kept[name], row])[order] for name, row in zip(COLUMNS, rows, strict=True)}
        edges = number[np.unique(np.array(self.edges, dtype=np.int64).reshape(-1, 2), axis=0)]
        first, needs = compress(edges[:, 0], edges[:, 1], len(number))
        written = np.full(len(number), -1, dtype=np.int64)
        written[number[list(self.watches.values())]] = number[list(self.watches)]
        return FlatProgram(num_ranks=old.num_ranks, first=first, needs=needs, **columns), written
