# SPDX-License-Identifier: Apache-2.0
"""Programs for networks that have connections: see "Transport" in SEMANTICS.md.

:func:`with_streams` gives every sender, receiver and channel a connection. :func:`over_connections` does it for each
rail, and has a library's messages come as that library sends them: the receiver's notice that it is ready, the sender's
own, then header and payload, all on the one connection of the two ranks, in the order in which they are written.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.engine.setting import Paths
from commbench.lowering.placing import paths_of, triples_of
from commbench.network.base import Streams
from commbench.network.transport import Connections
from commbench.program.flat import COLUMNS, COMPUTE, COUPLED, TRANSFER, FlatProgram, compress

__all__ = ["over_connections", "with_streams"]

_Post = tuple[int, bool]
"""A transfer, and whether it is its sender that posts."""

_Moment = tuple[int, int, int, int]
"""Operation, step, rank, and channel; -1 for all channels."""


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


def over_connections(
    program: FlatProgram, cluster: Cluster, over: Connections, seed: int, *, framed: bool
) -> tuple[FlatProgram, Paths]:
    """A program as a library carries it out over connections, with its paths.

    Latencies of links are left out, and on a testbed, which is one machine, the links inside hosts: it has none.

    Args:
        program: of transfers. cluster: where.
        over: what it goes over. seed: of what is left to chance.
        framed: whether bytes are those on the wire, with all headers, and a message carries the bytes of its notices,
            which have none of their own; else the network cuts what is written into packets.
    """
    work = _Connecting(program, over, seed, cluster.one_machine or program.num_ranks, framed)
    work.connect()
    done, written = work.done()
    moves = done.kind != COMPUTE
    rails = replace(
        done, kind=np.where(moves, TRANSFER, COMPUTE), channel=np.where(moves, done.channel % over.rails, -1)
    )
    paths = with_streams(rails, cluster, written)
    kept = np.full(len(paths.links), True)
    if cluster.one_machine is not None:  # a testbed's host has no bus
        kept = ~paths.inside[paths.links]
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
    framed: bool
    new: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    notices: list[int] = field(default_factory=list)
    watches: dict[int, int] = field(default_factory=dict)  # of a transfer: the task that ends when it is written
    arrived: dict[int, int] = field(default_factory=dict)  # ... after which its receiver goes on
    worlds: dict[int, int] = field(default_factory=dict)  # of an operation: how many ranks take part

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
            notice = 0 if self.framed else transport.notice_bytes
            coming = self._add(task, TRANSFER, dst, peer=src, num_bytes=notice)
            going = self._add(task, TRANSFER, src, peer=dst, num_bytes=notice)
            self.notices += [coming, going]
            self.edges += [(coming, posts[task, False]), (going, posts[task, True]), (start, coming)]
        else:
            self.edges.append((start, posts[task, False]))
        for waiting in (task, self.watches[task]):
            self.edges += [(waiting, start), (waiting, posts[task, True])]

    def _posts(self, moves: list[int]) -> dict[_Post, int]:
        """Of each transfer and side the task that posts it.

        A rank posts one after the other, each in a drawn time. What it begins an operation with it posts when a
        processor is free for it: ranks come to theirs in a drawn order, and each goes on until it is through, its first
        channel before the others, for the thread that wakes theirs goes on with its own.
        """
        draw = np.random.default_rng(self.seed)
        places = draw.permutation(self.old.num_ranks).tolist()
        free: dict[int, list[int]] = {}
        found = {}
        for (operation, _, rank, _), (begins, posts) in self._in_order(moves, places):
            processors = free.setdefault(operation, [0] * self.processors)
            now_ps = heappop(processors) if begins else 0
            posts.sort(key=lambda post: (int(self.old.channel[post[0]]), *self._turn(post)))
            for post in posts:
                now_ps += int(draw.exponential(self.over.transport.post_ps))
                found[post] = self._add(post[0], COMPUTE, rank, duration_ps=now_ps)
            if begins:
                heappush(processors, now_ps)
        return found

    def _in_order(self, moves: list[int], places: list[int]) -> list[tuple[_Moment, tuple[bool, list[_Post]]]]:
        """What ranks post at one moment, and whether they begin with it; ranks in the order of their places."""
        old, begin = self.old, dict[tuple[int, int], int]()
        ends = [(task, rank) for task in moves for rank in self._ranks(task)]
        self.worlds = Counter(operation for operation, _ in {(int(old.operation[task]), rank) for task, rank in ends})
        for task, rank in ends:
            whose, step = (int(old.operation[task]), rank), int(old.step[task])
            begin[whose] = min(begin.get(whose, step), step)
        found: dict[_Moment, tuple[bool, list[_Post]]] = {}
        for place, (task, rank) in enumerate(ends):
            operation, step = int(old.operation[task]), int(old.step[task])
            begins = step == begin[operation, rank]
            key = operation, step, rank, -1 if begins else int(old.channel[task])
            found.setdefault(key, (begins, []))[1].append((task, place % 2 == 0))
        return sorted(found.items(), key=lambda item: (*item[0][:2], places[item[0][2]], item[0][3]))

    def _turn(self, post: _Post) -> tuple[int, bool]:
        """Receives first; or where sends go first in pairs, near distances before far ones."""
        task, sends = post
        if not self.over.transport.answers_late:
            return 0, sends
        away = int(self.old.peer[task] - self.old.rank[task])
        return away % self.worlds[int(self.old.operation[task])], not sends

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

    def _bytes(self) -> IntArray:
        """Of the messages."""
        old, transport = self.old, self.over.transport
        found, moves = old.num_bytes.copy(), old.kind == TRANSFER
        if self.framed:
            found[moves] = [transport.bytes_on_wire(size) for size in found[moves].tolist()]
        else:
            found[moves] += transport.message_bytes
        return found

    def done(self) -> tuple[FlatProgram, IntArray]:
        """The new program; and of each of its tasks the one whose bytes it waits for, as Streams has it."""
        old, number = self.old, self.numbers()
        rows = np.array(self.new, dtype=np.int64).reshape(-1, len(COLUMNS)).T
        kept = {name: getattr(old, name) for name in COLUMNS}
        kept["num_bytes"] = self._bytes()
        order = np.argsort(number)
        columns = {name: np.concatenate([kept[name], row])[order] for name, row in zip(COLUMNS, rows, strict=True)}
        edges = number[np.unique(np.array(self.edges, dtype=np.int64).reshape(-1, 2), axis=0)]
        first, needs = compress(edges[:, 0], edges[:, 1], len(number))
        written = np.full(len(number), -1, dtype=np.int64)
        written[number[list(self.watches.values())]] = number[list(self.watches)]
        return FlatProgram(num_ranks=old.num_ranks, first=first, needs=needs, **columns), written
