# SPDX-License-Identifier: Apache-2.0
"""Schedules in the order of NCCL's streams, without ranks: every step of a rank one group, one group after the other.

A model in one process of what the executor posts where messages have no tags. A group begins when the rank's group
before it is done; the k-th send to a peer meets the k-th receive that the peer posts for it; a message moves once both
of its groups have begun, for nothing is buffered; a group is done when all of its messages have moved. What comes to
its end here cannot deadlock by the order of its messages on a backend that does no worse, and sends meet receives of
their size. It proves nothing about values (test_every_algorithm.py checks those on live ranks), nor about resources.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import ALGORITHMS, build
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import COLLECTIVES
from commbench.errors import InputError

torch = pytest.importorskip("torch")

EVERY = [a for (_, name), a in ALGORITHMS.items() if name == a.name and a.live]
FULL = "COMMBENCH_FULL"
CUTS = ((1, 1), (3, 1), (1, 2), (2, 2), (4, 2))  # slices, channels


@dataclass(frozen=True)
class Message:
    """The ``number``-th from one rank to another."""

    sender: int
    receiver: int
    number: int


def groups_of(schedule: Schedule, num_elements: int) -> tuple[list[list[list[Message]]], list[str]]:
    """By rank, the messages of each group, as the executor posts them; and what does not fit together."""
    from commbench.live.execute import _compile, _merge

    memory = torch.empty(schedule.num_buffers * num_elements, dtype=torch.uint8)
    posted, sizes = [], defaultdict(dict)
    for rank in range(schedule.num_ranks):
        counts: Counter[tuple[bool, int]] = Counter()
        groups = []
        for step in _merge(_compile(schedule, rank, memory)):
            group = []
            for transfer in step.transfers:
                ends = (rank, transfer.peer) if transfer.sends else (transfer.peer, rank)
                message = Message(*ends, counts[transfer.sends, transfer.peer])
                counts[transfer.sends, transfer.peer] += 1
                sizes[message][transfer.sends] = transfer.tensor.numel()
                group.append(message)
            groups.append(group)
        posted.append(groups)
    return posted, [f"{m}: {ends}" for m, ends in sizes.items() if len(ends) < 2 or ends[True] != ends[False]]


def stuck(posted: Sequence[Sequence[Sequence[Message]]]) -> list[str]:
    """Ranks that never come to their end, with the group that they stand in; empty if all do."""
    at = [0] * len(posted)
    begun: Counter[Message] = Counter()
    left = [0] * len(posted)
    waiting: dict[Message, list[int]] = defaultdict(list)
    ready = list(range(len(posted)))

    def begin(rank: int) -> None:
        """The next group that is not done at once."""
        while at[rank] < len(posted[rank]):
            group = posted[rank][at[rank]]
            left[rank] = len(group)
            for message in group:
                begun[message] += 1
                waiting[message].append(rank)
                if begun[message] == 2:
                    for end in waiting.pop(message):
                        left[end] -= 1
                        if left[end] == 0 and end != rank:
                            ready.append(end)
            if left[rank]:
                return
            at[rank] += 1

    while ready:
        rank = ready.pop()
        if left[rank] == 0 and at[rank] < len(posted[rank]) and begun_whole(posted[rank][at[rank]], begun):
            at[rank] += 1
        begin(rank)
    return [f"rank {r} in group {g} of {len(posted[r])}" for r, g in enumerate(at) if g < len(posted[r])]


def begun_whole(group: Sequence[Message], begun: Counter[Message]) -> bool:
    """Whether both ends of all messages have begun."""
    return bool(group) and all(begun[message] == 2 for message in group)


def requests(n: int, *, full: bool) -> Iterator[Request]:
    hosts = [group for group in range(1, n + 1) if n % group == 0]
    roots = range(n) if full else (0, n - 1)
    for root, group, (slices, channels) in product(roots, hosts, CUTS):
        yield Request(num_ranks=n, root=root, group=group, slices=slices, channels=channels)


def served(algorithm: Algorithm, sizes: Sequence[int], *, full: bool) -> Iterator[tuple[Schedule, int]]:
    """Different schedules of one algorithm, and elements to cut them for: not a multiple of anything."""
    spec = COLLECTIVES[algorithm.collective]
    for n in sizes:
        seen: list[Schedule] = []
        for request in requests(n, full=full):
            if algorithm.refuses(request) or (request.root and not spec.rooted):
                continue
            num_elements = n * 331 if spec.blocked else 1031
            schedule = build(algorithm, replace(request, num_elements=num_elements))
            if schedule not in seen:
                seen.append(schedule)
                yield schedule, max(num_elements, schedule.num_chunks)


def judged(sizes: Sequence[int], *, full: bool) -> tuple[Counter[str], list[str]]:
    """How many schedules kept their order or were refused, and what went wrong with the rest."""
    from commbench.live.execute import require_same_order

    counts: Counter[str] = Counter()
    bad: list[str] = []
    for algorithm in EVERY:
        for schedule, num_elements in served(algorithm, sizes, full=full):
            try:
                require_same_order(schedule, "strict")
            except InputError:
                counts["refused"] += 1
                continue
            posted, unlike = groups_of(schedule, num_elements)
            wrong = [*unlike[:1], *stuck(posted)[:1]]
            bad += [f"{schedule.collective}/{schedule.algorithm} on {schedule.num_ranks}: {one}" for one in wrong]
            counts["kept"] += not wrong
    return counts, bad


def test_schedules_keep_their_order_without_deadlock() -> None:
    counts, bad = judged((2, 3, 6), full=False)
    assert bad == []
    assert counts["kept"] >= 400


@pytest.mark.full
@pytest.mark.skipif(os.environ.get(FULL) != "1", reason=f"thousands of schedules take minutes: set {FULL}=1")
def test_thousands_of_schedules_keep_their_order_without_deadlock() -> None:
    counts, bad = judged((*range(2, 10), 12, 16), full=True)
    print(dict(counts))
    assert bad == []
    assert counts["kept"] >= 2000


def two(*ops: Op) -> Schedule:
    return Schedule.from_ops("all-reduce", "by hand", 2, 2, list(ops), window=1)


def test_an_order_in_which_both_receive_first_is_a_deadlock() -> None:
    ops = [Op(0, r, 0, Kind.REDUCE, 1 - r, r) for r in range(2)]
    ops += [Op(1, r, 0, Kind.SEND, 1 - r, 1 - r) for r in range(2)]
    posted, unlike = groups_of(two(*ops), 8)
    assert unlike == []
    assert stuck(posted) == ["rank 0 in group 0 of 2", "rank 1 in group 0 of 2"]


def test_sends_that_cross_in_one_group_are_none() -> None:
    ops = [Op(0, r, 0, Kind.SEND, 1 - r, r) for r in range(2)]
    ops += [Op(0, r, 0, Kind.REDUCE, 1 - r, 1 - r) for r in range(2)]
    posted, unlike = groups_of(two(*ops), 8)
    assert (unlike, stuck(posted)) == ([], [])


def test_a_ring_of_ranks_that_each_wait_for_the_next_is_a_deadlock() -> None:
    """And not if one of them begins."""
    ring = [[[Message((r - 1) % 4, r, 0)], [Message(r, (r + 1) % 4, 0)]] for r in range(4)]
    assert len(stuck(ring)) == 4
    assert stuck([ring[0][::-1], *ring[1:]]) == []


def test_messages_of_unlike_size_are_seen() -> None:
    ops = [Op(0, 0, 0, Kind.SEND, 1, 0), Op(0, 1, 0, Kind.REDUCE, 0, 1)]
    _, unlike = groups_of(two(*ops), 5)  # chunks of 2 and 3 elements
    assert len(unlike) == 1
