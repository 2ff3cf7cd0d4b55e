# SPDX-License-Identifier: Apache-2.0
"""Rings, chains, trees, recursive doubling and halving, and shifts: right, and as cheap as their papers say."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms import chains, doubling, ring, shift, trees
from commbench.collectives.registry import build, build_schedule, get_algorithm
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.spec import get_collective
from commbench.collectives.summary import busiest_share
from commbench.collectives.verify import verify
from commbench.errors import InputError

WORLDS = range(1, 18)
ALGORITHMS = [a for module in (ring, chains, trees, doubling, shift) for a in module.ALGORITHMS]
BY_NAME = {f"{a.collective}/{a.name}": a for a in ALGORITHMS}
ROOTED = [key for key, a in BY_NAME.items() if get_collective(a.collective).rooted]


def roots(key: str, num_ranks: int) -> list[int]:
    """First, second, middle and last rank, where there is a root."""
    return sorted({0, 1 % num_ranks, num_ranks // 2, num_ranks - 1}) if key in ROOTED else [0]


def worlds(key: str) -> list[int]:
    """Those that the algorithm serves."""
    return [n for n in WORLDS if not BY_NAME[key].refuses(Request(num_ranks=n))]


def plain(key: str, num_ranks: int, root: int = 0) -> Schedule:
    """In one slice, on one channel."""
    return build(BY_NAME[key], Request(num_ranks=num_ranks, root=root))


def sent(schedule: Schedule) -> tuple[int, Fraction]:
    """What the busiest rank sends to others: messages, and share of the buffer. Chunks are equal here."""
    messages, chunks = Counter[int](), Counter[int]()
    for op in schedule:
        if op.kind is Kind.SEND and op.rank != op.peer:
            messages[op.rank] += 1
            chunks[op.rank] += op.count
    return max(messages.values(), default=0), Fraction(max(chunks.values(), default=0), schedule.num_chunks)


@pytest.mark.parametrize(("key", "num_ranks"), [(key, n) for key in BY_NAME for n in worlds(key)])
def test_right(key: str, num_ranks: int) -> None:
    for root, slices in product(roots(key, num_ranks), (1, 2, 3)):
        schedule = build(BY_NAME[key], Request(num_ranks=num_ranks, root=root, slices=slices))
        verify(schedule)
        assert schedule.root == root


@pytest.mark.parametrize(
    ("key", "num_ranks"), [(key, n) for key in BY_NAME for n in worlds(key) if n in (1, 2, 3, 7, 8)]
)
def test_right_on_channels(key: str, num_ranks: int) -> None:
    """Channel by channel: twice as many of them, each with half of every chunk."""
    one = plain(key, num_ranks)
    for slices in (1, 2):
        request = Request(num_ranks=num_ranks, slices=slices, channels=2, root=num_ranks // 2 if key in ROOTED else 0)
        schedule = build(BY_NAME[key], request)
        verify(schedule)
        assert schedule.num_channels == (2 * one.num_channels if len(one) else 1)
        assert schedule.num_chunks == 2 * slices * one.num_chunks


@pytest.mark.parametrize("key", ROOTED)
def test_every_root(key: str) -> None:
    for num_ranks, root in ((n, root) for n in (5, 8, 11) for root in range(n)):
        verify(plain(key, num_ranks, root))


@pytest.mark.parametrize("key", BY_NAME)
def test_registered(key: str) -> None:
    algorithm = BY_NAME[key]
    for name in (algorithm.name, *algorithm.aliases):
        assert get_algorithm(algorithm.collective, name) is algorithm
    assert plain(key, 2).algorithm == algorithm.name
    assert plain(key, 2).collective == algorithm.collective
    assert algorithm.live
    assert not algorithm.sized


def test_aliases() -> None:
    assert get_algorithm("all-reduce", "rabenseifner").name == "halving-doubling"
    assert get_algorithm("broadcast", "chain").name == get_algorithm("reduce", "chain").name == "ring"


# Steps, messages and share of the busiest rank ---------------------------------------------------------------------


PINNED: dict[str, tuple[tuple[int, int, float], tuple[int, int, float] | None]] = {
    # On 8 and on 6 ranks, root 0: steps, messages of the busiest sender, and its share of the buffer.
    "all-reduce/ring": ((14, 14, 14 / 8), (10, 10, 10 / 6)),  # 2(n-1), 2(n-1), 2(n-1)/n
    "all-reduce/ring-bidirectional": ((14, 28, 14 / 8), (10, 20, 10 / 6)),  # twice the messages, of half the size
    "reduce-scatter/ring": ((7, 7, 7 / 8), (5, 5, 5 / 6)),  # n-1, n-1, (n-1)/n
    "reduce-scatter/ring-bidirectional": ((7, 14, 7 / 8), (5, 10, 5 / 6)),
    "all-gather/ring": ((7, 7, 7 / 8), (5, 5, 5 / 6)),
    "all-gather/ring-bidirectional": ((7, 14, 7 / 8), (5, 10, 5 / 6)),
    "broadcast/ring": ((7, 1, 1), (5, 1, 1)),  # n-1, 1, 1
    "reduce/ring": ((7, 1, 1), (5, 1, 1)),
    "broadcast/binomial": ((3, 3, 3), (3, 3, 3)),  # ceil(log2 n) each
    "reduce/binomial": ((3, 1, 1), (3, 1, 1)),  # ceil(log2 n), 1, 1
    "gather/binomial": ((3, 1, 4 / 8), (3, 1, 2 / 6)),  # ceil(log2 n), 1, max(n-m, m/2)/n with m = 4 in both
    "scatter/binomial": ((3, 3, 7 / 8), (3, 3, 5 / 6)),  # ceil(log2 n), ceil(log2 n), (n-1)/n
    "gather/direct": ((1, 1, 1 / 8), (1, 1, 1 / 6)),  # 1, 1, 1/n
    "scatter/direct": ((1, 7, 7 / 8), (1, 5, 5 / 6)),  # 1, n-1, (n-1)/n
    "broadcast/k-ary-tree": ((3, 2, 2), (2, 2, 2)),  # height, arity, arity; place 7 is on level 3, place 5 on level 2
    "reduce/k-ary-tree": ((3, 1, 1), (2, 1, 1)),  # height, 1, 1
    "all-reduce/k-ary-tree": ((6, 3, 3), (4, 3, 3)),  # 2 height; children and parent of place 1: arity + 1
    "broadcast/4-ary-tree": ((2, 4, 4), (2, 4, 4)),
    "reduce/4-ary-tree": ((2, 1, 1), (2, 1, 1)),
    "all-reduce/4-ary-tree": ((4, 4, 4), (4, 4, 4)),  # the root has 4 children, place 1 only 3 or 1
    "all-gather/recursive-doubling": ((3, 3, 7 / 8), None),  # log2 n, log2 n, (n-1)/n
    "all-reduce/recursive-doubling": ((3, 3, 3), (4, 3, 3)),  # log2 n; folded (p = 4): log2 p + 2, log2 p + 1
    "all-reduce/halving-doubling": ((6, 6, 14 / 8), (6, 5, 2.5)),  # 2 log2 n, 2(n-1)/n; folded: + 2, + 1, + 1
    "reduce-scatter/recursive-halving": ((3, 3, 7 / 8), (4, 3, 1)),  # log2 n, (n-1)/n; folded: + 2, + 1, 1 in all
    "reduce/rabenseifner": ((6, 4, 7 / 8 + 1 / 2), (5, 3, 3 / 4 + 1 / 2)),  # 2 log2 n; folded + 1; (p-1)/p + 1/2
    "send-recv/direct": ((1, 1, 1), (1, 1, 1)),
    "barrier/dissemination": ((3, 3, 3), (3, 3, 3)),  # ceil(log2 n) each
}


@pytest.mark.parametrize("key", BY_NAME)
def test_pinned_figures(key: str) -> None:
    for num_ranks, expected in zip((8, 6), PINNED[key], strict=True):
        if expected is None:
            assert num_ranks not in worlds(key)
            continue
        schedule = plain(key, num_ranks)
        steps, messages, share = expected
        assert (schedule.num_steps, sent(schedule)[0]) == (steps, messages)
        assert busiest_share(schedule) == pytest.approx(share, rel=1e-9)


def up(n: int) -> int:
    """log2, rounded up."""
    return (n - 1).bit_length()


def down(n: int) -> int:
    """log2, rounded down."""
    return n.bit_length() - 1


def folded(n: int) -> int:
    """1 if n is no power of two."""
    return int(up(n) > down(n))


def height(n: int, arity: int) -> int:
    """Levels under the root until 1 + k + k^2 + ... places hold all."""
    levels, places = 0, 1
    while places < n:
        levels += 1
        places += arity**levels
    return levels


def half_gathered(n: int) -> Fraction:
    """The larger of the two subtrees m and m/2 of the binomial tree, m the largest power of two below n."""
    m = 2 ** (up(n) - 1) if n > 1 else 0
    return Fraction(max(n - m, m // 2) if m else 0, n)


def ring_share(n: int) -> Fraction:
    return Fraction(n - 1, n)


def family(n: int, arity: int) -> int:
    """Children and parent of the busiest place of a complete tree: of place 0 or 1."""
    root = min(arity, n - 1)
    return max(root, 1 + min(arity, n - 1 - arity)) if n - 1 >= arity else root


Form = Callable[[int], int | Fraction]
CLOSED_FORMS: dict[str, tuple[Form, Form, Form]] = {  # of n ranks, root 0: steps, messages, share
    "all-reduce/ring": (lambda n: 2 * (n - 1), lambda n: 2 * (n - 1), lambda n: 2 * ring_share(n)),
    "all-reduce/ring-bidirectional": (lambda n: 2 * (n - 1), lambda n: 4 * (n - 1), lambda n: 2 * ring_share(n)),
    "reduce-scatter/ring": (lambda n: n - 1, lambda n: n - 1, ring_share),
    "reduce-scatter/ring-bidirectional": (lambda n: n - 1, lambda n: 2 * (n - 1), ring_share),
    "all-gather/ring": (lambda n: n - 1, lambda n: n - 1, ring_share),
    "all-gather/ring-bidirectional": (lambda n: n - 1, lambda n: 2 * (n - 1), ring_share),
    "broadcast/ring": (lambda n: n - 1, lambda n: n > 1, lambda n: n > 1),
    "reduce/ring": (lambda n: n - 1, lambda n: n > 1, lambda n: n > 1),
    "broadcast/binomial": (up, up, up),
    "reduce/binomial": (up, lambda n: n > 1, lambda n: n > 1),
    "gather/binomial": (up, lambda n: n > 1, half_gathered),
    "scatter/binomial": (up, up, ring_share),
    "gather/direct": (lambda n: n > 1, lambda n: n > 1, lambda n: Fraction(n > 1, n)),
    "scatter/direct": (lambda n: n > 1, lambda n: n - 1, ring_share),
    "broadcast/k-ary-tree": (lambda n: height(n, 2), lambda n: min(2, n - 1), lambda n: min(2, n - 1)),
    "reduce/k-ary-tree": (lambda n: height(n, 2), lambda n: n > 1, lambda n: n > 1),
    "all-reduce/k-ary-tree": (lambda n: 2 * height(n, 2), lambda n: family(n, 2), lambda n: family(n, 2)),
    "broadcast/4-ary-tree": (lambda n: height(n, 4), lambda n: min(4, n - 1), lambda n: min(4, n - 1)),
    "reduce/4-ary-tree": (lambda n: height(n, 4), lambda n: n > 1, lambda n: n > 1),
    "all-reduce/4-ary-tree": (lambda n: 2 * height(n, 4), lambda n: family(n, 4), lambda n: family(n, 4)),
    "all-gather/recursive-doubling": (up, up, ring_share),
    "all-reduce/recursive-doubling": (
        lambda n: down(n) + 2 * folded(n),
        lambda n: down(n) + folded(n),
        lambda n: down(n) + folded(n),
    ),
    "all-reduce/halving-doubling": (
        lambda n: 2 * down(n) + 2 * folded(n),
        lambda n: 2 * down(n) + folded(n),
        lambda n: 2 * ring_share(2 ** down(n)) + folded(n),
    ),
    "reduce-scatter/recursive-halving": (
        lambda n: down(n) + 2 * folded(n),
        lambda n: down(n) + folded(n),
        lambda n: 1 if folded(n) else ring_share(n),
    ),
    "reduce/rabenseifner": (
        lambda n: 2 * down(n) + folded(n),
        lambda n: down(n) + (n > 1),
        lambda n: ring_share(2 ** down(n)) + Fraction(n > 1, 2),
    ),
    "send-recv/direct": (lambda n: 1, lambda n: n > 1, lambda n: n > 1),
    "barrier/dissemination": (up, up, up),
}


@pytest.mark.parametrize("key", BY_NAME)
def test_closed_forms(key: str) -> None:
    steps, messages, share = CLOSED_FORMS[key]
    for num_ranks in worlds(key):
        schedule = plain(key, num_ranks)
        expected = (steps(num_ranks), messages(num_ranks), share(num_ranks))
        assert (schedule.num_steps, *sent(schedule)) == expected, num_ranks


@pytest.mark.parametrize("key", BY_NAME)
def test_slices_follow_one_another(key: str) -> None:
    """K slices of a schedule of T steps take T + K - 1; the amount stays the same."""
    one = plain(key, 8)
    four = build(BY_NAME[key], Request(num_ranks=8, slices=4))
    assert four.num_steps == one.num_steps + 3
    assert sent(four)[1] == sent(one)[1]


@pytest.mark.parametrize("key", BY_NAME)
def test_slices_unless_asked(key: str) -> None:
    """Four where pipelining is the point, else one."""
    algorithm = BY_NAME[key]
    pipelined = "ary-tree" in algorithm.name or key in ("broadcast/ring", "reduce/ring")
    assert algorithm.default_slices == (4 if pipelined else 1)
    schedule = build_schedule(algorithm.collective, algorithm.name, 4)
    assert schedule.num_chunks == algorithm.default_slices * plain(key, 4).num_chunks


# Rings and chains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in BY_NAME if key.endswith("/ring")])
def test_rings_send_to_the_next_rank_only(key: str) -> None:
    assert {(op.peer - op.rank) % 7 for op in plain(key, 7) if op.kind is Kind.SEND} == {1}


@pytest.mark.parametrize("collective", ["all-reduce", "reduce-scatter", "all-gather"])
def test_each_direction_carries_half_of_every_chunk(collective: str) -> None:
    """Channel 0 is the ring itself on even chunks; channel 1 goes the other way on odd ones, as much of it."""
    one, two = plain(f"{collective}/ring", 5), plain(f"{collective}/ring-bidirectional", 5)
    sends = [op for op in two if op.kind is Kind.SEND]
    assert {(op.channel, (op.peer - op.rank) % 5, op.chunk % 2) for op in sends} == {(0, 1, 0), (1, 4, 1)}
    assert Counter(op.channel for op in sends) == Counter({0: len(one) // 2, 1: len(one) // 2})


def test_ring_reduce_scatter_ends_with_the_own_block() -> None:
    for rank in range(6):
        last = plain("reduce-scatter/ring", 6).ops_of(rank)[-1]
        assert (last.step, last.kind, last.chunk) == (4, Kind.REDUCE, rank)


def test_chain_starts_or_ends_at_the_root() -> None:
    broadcast, reduce = plain("broadcast/ring", 5, root=3), plain("reduce/ring", 5, root=3)
    assert [op.rank for op in sorted(broadcast) if op.kind is Kind.SEND] == [3, 4, 0, 1]
    assert [op.rank for op in sorted(reduce) if op.kind is Kind.SEND] == [4, 0, 1, 2]


# Trees --------------------------------------------------------------------------------------------------------------


def test_binomial_root_sends_far_first() -> None:
    sends = [op for op in plain("broadcast/binomial", 11, root=2).ops_of(2) if op.kind is Kind.SEND]
    assert [(op.step, op.peer) for op in sends] == [(0, 10), (1, 6), (2, 4), (3, 3)]


@pytest.mark.parametrize("collective", ["gather", "scatter"])
def test_binomial_blocks_wrap_in_two_messages(collective: str) -> None:
    """Of 8 ranks and root 5, place 4 is rank 1 with blocks 1-4, place 2 is rank 7 with blocks 7 and 0."""
    sends = [op for op in plain(f"{collective}/binomial", 8, root=5) if op.kind is Kind.SEND]
    between = {
        other: sorted((op.chunk, op.count) for op in sends if {op.rank, op.peer} == {5, other}) for other in range(8)
    }
    assert between == {0: [], 1: [(1, 4)], 2: [], 3: [], 4: [], 5: [], 6: [(6, 1)], 7: [(0, 1), (7, 1)]}


def test_binomial_wrap_costs_one_message_at_most() -> None:
    for num_ranks, root in ((n, root) for n in WORLDS for root in range(n)):
        assert sent(plain("gather/binomial", num_ranks, root))[0] <= 2
        assert sent(plain("scatter/binomial", num_ranks, root))[0] <= up(num_ranks) + 1


@pytest.mark.parametrize("arity", [1, 2, 3, 4, 5])
def test_any_arity(arity: int) -> None:
    """With one child each, the tree is the chain."""
    for num_ranks in (1, 2, 6, 13):
        broadcast = trees.k_ary_broadcast(num_ranks, num_ranks // 2, arity)
        for schedule in (
            broadcast,
            trees.k_ary_reduce(num_ranks, num_ranks // 2, arity),
            trees.k_ary_all_reduce(num_ranks, arity),
        ):
            verify(schedule)
        if arity == 1:
            assert (broadcast.table == chains.chain_broadcast(num_ranks, num_ranks // 2).table).all()


def test_k_ary_children() -> None:
    """Place v hangs from (v - 1) // k: of 14 ranks, rank 3 + 1 has places 5-8 below it with k = 4."""
    sends = [op for op in plain("broadcast/4-ary-tree", 14, root=3).ops_of(4) if op.kind is Kind.SEND]
    assert [(op.step, op.peer) for op in sends] == [(1, 8), (1, 9), (1, 10), (1, 11)]


# Doubling and halving -----------------------------------------------------------------------------------------------


def test_refused_worlds() -> None:
    for num_ranks in WORLDS:
        request = Request(num_ranks=num_ranks)
        if num_ranks in (1, 2, 4, 8, 16):
            assert plain("all-gather/recursive-doubling", num_ranks).num_steps == down(num_ranks)
            continue
        rule = f"needs a power of two, not {num_ranks} ranks; it serves: powers of two"
        with pytest.raises(InputError, match=rule):
            build(BY_NAME["all-gather/recursive-doubling"], request)
    assert [key for key in BY_NAME if worlds(key) != list(WORLDS)] == ["all-gather/recursive-doubling"]


def partners(schedule: Schedule, rank: int) -> list[tuple[int, int]]:
    """(distance in bits, chunks) of every send of a rank, in order."""
    return [(op.peer ^ rank, op.count) for op in schedule.ops_of(rank) if op.kind is Kind.SEND]


def test_large_halves_go_to_near_partners() -> None:
    """Vector halving with distance doubling; only the reduce-scatter, whose blocks have owners, starts far away."""
    assert partners(plain("all-reduce/halving-doubling", 8), 5) == [(1, 4), (2, 2), (4, 1), (4, 1), (2, 2), (1, 4)]
    assert partners(plain("reduce-scatter/recursive-halving", 8), 5) == [(4, 4), (2, 2), (1, 1)]
    assert partners(plain("all-gather/recursive-doubling", 8), 5) == [(1, 1), (2, 2), (4, 4)]
    assert partners(plain("reduce/rabenseifner", 8), 1) == [(1, 4), (2, 2), (4, 1), (1, 4)]


@pytest.mark.parametrize("key", ["all-reduce/recursive-doubling", "all-reduce/halving-doubling"])
def test_who_sits_out_sends_once_and_receives_once(key: str) -> None:
    """Of 11 ranks 8 remain: 1, 3 and 5 give all to the rank before them and get all back."""
    schedule = plain(key, 11)
    last = schedule.num_steps - 1
    for rank in range(11):
        ops = [(op.step, op.kind, op.peer, op.count) for op in schedule.ops_of(rank)]
        whole = schedule.num_chunks
        out = [(0, Kind.SEND, rank - 1, whole), (last, Kind.RECV, rank - 1, whole)]
        assert (ops == out) == (rank in (1, 3, 5))


def test_the_root_of_a_reduce_never_sits_out() -> None:
    for num_ranks, root in ((n, root) for n in WORLDS for root in range(n)):
        last = plain("reduce/rabenseifner", num_ranks, root).num_steps - 1
        receivers = [op for op in plain("reduce/rabenseifner", num_ranks, root) if op.step == last and op.kind.receives]
        assert all(op.rank == root for op in receivers)
        assert receivers or num_ranks == 1


# Shifts -------------------------------------------------------------------------------------------------------------


def test_shift_leaves_the_input() -> None:
    schedule = plain("send-recv/direct", 5)
    assert (schedule.num_buffers, schedule.output) == (2, 1)
    assert {op.chunk for op in schedule if op.kind.receives} == {1}
    assert [(op.kind, op.rank, op.peer) for op in plain("send-recv/direct", 1)] == [
        (Kind.SEND, 0, 0),
        (Kind.RECV, 0, 0),
    ]


def test_dissemination_distances_double() -> None:
    sends = [op for op in plain("barrier/dissemination", 11).ops_of(7) if op.kind is Kind.SEND]
    assert [(op.peer - 7) % 11 for op in sends] == [1, 2, 4, 8]
