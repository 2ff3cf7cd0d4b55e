# SPDX-License-Identifier: Apache-2.0
"""relabel, fuse and out_of_place: what they do, that what comes out is right, and what they refuse."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.passes import RELABELLED, fuse, matches, out_of_place, relabel
from commbench.collectives.registry import ALGORITHMS, build, build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import COLLECTIVES
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError

REGISTRY = sorted({(a.collective, a.name) for a in ALGORITHMS.values()})
WORLDS = (1, 2, 3, 4, 6, 8)


def built(collective: str, name: str, num_ranks: int, pieces: int) -> Schedule | None:
    """The schedule with the last rank as root, or None where the algorithm does not serve the world."""
    rooted = COLLECTIVES[collective].rooted
    request = Request(
        num_ranks=num_ranks,
        slices=pieces,
        channels=pieces,
        root=num_ranks - 1 if rooted else 0,
        group=2 if num_ranks % 2 == 0 else 1,
        num_elements=720 * num_ranks,
    )
    try:
        return build(ALGORITHMS[collective, name], request)
    except InputError:
        return None


def sent(schedule: Schedule) -> Counter[tuple[int, int]]:
    """Chunks per pair of different ranks."""
    found: Counter[tuple[int, int]] = Counter()
    for op in schedule:
        if op.kind is Kind.SEND and op.rank != op.peer:
            found[op.rank, op.peer] += op.count
    return found


@pytest.mark.parametrize(("collective", "name"), REGISTRY)
@pytest.mark.parametrize("pieces", [1, 2])
def test_over_the_whole_registry(collective: str, name: str, pieces: int) -> None:
    rng = random.Random(f"{collective} {name}")
    for num_ranks in WORLDS:
        schedule = built(collective, name, num_ranks, pieces)
        if schedule is None:
            continue
        fused = fuse(schedule)
        verify(fused)
        assert sent(fused) == sent(schedule)
        assert len(fused) <= len(schedule)
        assert fuse(fused) == fused
        verify(out_of_place(schedule))
        assert sent(out_of_place(schedule)) == sent(schedule)
        order = rng.sample(range(num_ranks), num_ranks)
        if collective in RELABELLED:
            moved = relabel(schedule, order)
            verify(moved)
            assert moved.root == order[schedule.root]
            back = [order.index(r) for r in range(num_ranks)]
            assert relabel(moved, back) == schedule


def test_relabel_gives_roles_to_other_ranks() -> None:
    ring = build_schedule("all-reduce", "ring", 4)
    moved = relabel(ring, [0, 2, 1, 3])  # the ring now runs 0 -> 2 -> 1 -> 3 -> 0
    assert sent(moved).keys() == {(0, 2), (2, 1), (1, 3), (3, 0)}


@pytest.mark.parametrize("collective", sorted(COLLECTIVES.keys() - set(RELABELLED)))
def test_relabel_refuses_where_a_rank_owns_its_result(collective: str) -> None:
    empty = Schedule.from_ops(collective, "x", 3, 9, [])
    assert relabel(empty, [0, 1, 2]) == empty
    with pytest.raises(ScheduleError, match=f"ranks of {collective} cannot change roles, because what a rank ends"):
        relabel(empty, [1, 0, 2])


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3]])
def test_relabel_needs_a_permutation(order: list[int]) -> None:
    with pytest.raises(ScheduleError, match=r"must name each rank 0\.\.2 once"):
        relabel(build_schedule("all-reduce", "ring", 3), order)


def swap(*chunks: tuple[int, int], kind: Kind = Kind.RECV, **attributes: int) -> Schedule:
    """Rank 0 sends (here, there) chunks to rank 1, all in step 0."""
    ops = [Op(0, 0, 0, Kind.SEND, 1, here) for here, _ in chunks]
    ops += [Op(0, 1, 0, kind, 0, there) for _, there in chunks]
    return Schedule.from_ops("broadcast", "x", 2, 4, ops, **attributes)


def messages(schedule: Schedule) -> list[tuple[int, int, int]]:
    return [(send.chunk, receive.chunk, send.count) for send, receive in matches(schedule)]


def test_fuse_joins_what_follows_on_at_both_ends() -> None:
    assert messages(fuse(swap((0, 0), (1, 1), (2, 2), (3, 3)))) == [(0, 0, 4)]
    assert messages(fuse(swap((2, 2), (0, 0), (3, 3), (1, 1)))) == [(0, 0, 4)]  # in whatever order they were posted
    assert messages(fuse(swap((0, 0), (1, 1), (3, 3)))) == [(0, 0, 2), (3, 3, 1)]
    assert messages(fuse(swap((0, 1), (1, 0)))) == [(0, 1, 1), (1, 0, 1)]
    assert messages(fuse(swap((3, 3), (4, 4), num_buffers=2))) == [(3, 3, 1), (4, 4, 1)]  # another buffer


def test_fuse_keeps_steps_and_kinds_apart() -> None:
    steps = Schedule.from_ops("broadcast", "x", 2, 2, build_in_steps())
    assert fuse(steps) == steps
    mixed = replace(swap((0, 0), (1, 1)), table=swap((0, 0), (1, 1)).table.copy())
    ops = [replace(op, kind=Kind.REDUCE) if op.rank == 1 and op.chunk == 1 else op for op in mixed]
    assert len(fuse(Schedule.from_ops("broadcast", "x", 2, 4, ops))) == 4


def test_fuse_keeps_partners_where_steps_differ_at_the_ends() -> None:
    """Two sends posted together meet receives of two steps; the later one stays the later one."""
    ops = [Op(0, 0, 0, Kind.SEND, 1, chunk) for chunk in (2, 0)]
    ops += [Op(step, 1, 0, Kind.RECV, 0, chunk) for step, chunk in enumerate((2, 0))]
    late = Schedule.from_ops("broadcast", "x", 2, 3, ops)
    assert messages(fuse(late)) == messages(late) == [(2, 2, 1), (0, 0, 1)]


def build_in_steps() -> list[Op]:
    ops = [Op(step, 0, 0, Kind.SEND, 1, step) for step in (0, 1)]
    return ops + [Op(step, 1, 0, Kind.RECV, 0, step) for step in (0, 1)]


def test_matches_needs_partners() -> None:
    lonely = Schedule.from_ops("broadcast", "x", 2, 1, [Op(0, 0, 0, Kind.SEND, 1, 0)])
    with pytest.raises(ScheduleError, match="1 sends and 0 receives from rank 0 to 1 on channel 0"):
        fuse(lonely)


def test_out_of_place_leaves_the_input_alone() -> None:
    ring = build_schedule("all-reduce", "ring", 4)
    aside = out_of_place(ring)
    assert (aside.num_buffers, aside.output, aside.num_steps) == (2, 1, ring.num_steps + 1)
    assert not any(op.kind.receives and op.chunk < 4 for op in aside)
    assert [str(op) for op in aside.ops_of(2) if op.step == 0] == ["0-3>2", "4-7<2"]


def test_out_of_place_twice_is_right_too() -> None:
    twice = out_of_place(out_of_place(build_schedule("all-reduce", "double-binary-tree", 5)))
    verify(twice)
    assert (twice.num_buffers, twice.output) == (3, 1)


def test_out_of_place_waits_for_the_copy_where_steps_overlap() -> None:
    gloo = Schedule.from_ops("all-reduce", "x", 2, 1, [], window=3)
    shifted = out_of_place(replace(gloo, num_ranks=1))
    verify(shifted)
    ops = [Op(0, r, 0, kind, 1 - r, 0) for r in (0, 1) for kind in (Kind.SEND, Kind.REDUCE)]
    overlapping = out_of_place(Schedule.from_ops("all-reduce", "x", 2, 1, ops, window=3))
    verify(overlapping)
    assert overlapping.num_steps == 4  # the copy in step 0, nothing in 1 and 2, the exchange in 3


def test_out_of_place_refuses_a_chunk_of_two_channels() -> None:
    ops = [Op(0, 0, 0, Kind.SEND, 1, 0), Op(0, 1, 0, Kind.RECV, 0, 0), Op(0, 1, 1, Kind.SEND, 0, 0)]
    shared = Schedule.from_ops("broadcast", "x", 2, 1, [*ops, Op(0, 0, 1, Kind.RECV, 1, 0)])
    with pytest.raises(ScheduleError, match="uses chunk 0 on channels 0 and 1; a copy of the input can come before"):
        out_of_place(shared)
