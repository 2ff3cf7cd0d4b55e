# SPDX-License-Identifier: Apache-2.0
"""out_of_place and matches: what they do, that what comes out is right, and what they refuse."""

from collections import Counter
from dataclasses import replace

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.passes import matches, out_of_place
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
    for num_ranks in WORLDS:
        schedule = built(collective, name, num_ranks, pieces)
        if schedule is None:
            continue
        verify(out_of_place(schedule))
        assert sent(out_of_place(schedule)) == sent(schedule)


def test_matches_needs_partners() -> None:
    lonely = Schedule.from_ops("broadcast", "x", 2, 1, [Op(0, 0, 0, Kind.SEND, 1, 0)])
    with pytest.raises(ScheduleError, match="1 sends and 0 receives from rank 0 to 1 on channel 0"):
        list(matches(lonely))


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
