# SPDX-License-Identifier: Apache-2.0
"""What the verifier refuses, one small schedule per rule: message, place and picture."""

import pytest

from commbench.collectives.grid import step_by_rank
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError

SEND, RECV, REDUCE = Kind.SEND, Kind.RECV, Kind.REDUCE


def schedule(*ops: Op, ranks: int = 2, chunks: int = 1, window: int = 1) -> Schedule:
    return Schedule.from_ops("all-reduce", "hand-made", ranks, chunks, ops, window=window)


def refusal(table: Schedule) -> ScheduleError:
    with pytest.raises(ScheduleError) as error:
        verify(table)
    return error.value


def pair(step: int, src: int, dst: int, kind: Kind, chunk: int = 0, channel: int = 0) -> list[Op]:
    """A send and what meets it, in the same step of both."""
    return [Op(step, src, channel, SEND, dst, chunk), Op(step, dst, channel, kind, src, chunk)]


# Two ranks exchange at once: each sends its own and adds what arrives at the end of the step.
EXCHANGE = [*pair(0, 0, 1, REDUCE), *pair(0, 1, 0, REDUCE)]


def test_the_smallest_all_reduce() -> None:
    verify(schedule(*EXCHANGE))


def test_one_rank_needs_nothing() -> None:
    verify(schedule(ranks=1))


def test_an_empty_schedule_for_two() -> None:
    error = refusal(schedule())
    assert "rank 0 ends chunk 0 without rank 1's chunk 0 and with nothing too many, which it never receives" in str(
        error
    )


def test_an_unknown_collective() -> None:
    with pytest.raises(InputError, match="collective 'all-sing' is unknown; known: all-reduce"):
        verify(Schedule.from_ops("all-sing", "x", 2, 1, EXCHANGE))


@pytest.mark.parametrize("bad", [{"ranks": 0}, {"chunks": 0}, {"window": 0}])
def test_nothing_below_one(bad: dict[str, int]) -> None:
    with pytest.raises(ScheduleError, match="ranks, chunks and window must be at least 1"):
        schedule(**bad)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (Op(0, 0, 0, SEND, 2, 0), "rank 0, step 0, chunk 0: rank 0 or peer 2 is outside the group 0..1"),
        (Op(0, 0, 0, SEND, -1, 0), "rank 0, step 0, chunk 0: rank 0 or peer -1 is outside the group 0..1"),
        (Op(0, 2, 0, RECV, 0, 0), "rank 2, step 0, chunk 0: rank 2 or peer 0 is outside the group 0..1"),
        (Op(0, 1, 0, SEND, 1, 0), "rank 1, step 0, chunk 0: the send to rank 1 on channel 0 has no matching receive"),
        (Op(-1, 1, 0, SEND, 0, 0), "rank 1, step -1, chunk 0: step -1 and channel 0 must not be negative"),
        (Op(0, 1, -1, SEND, 0, 0), "rank 1, step 0, chunk 0: step 0 and channel -1 must not be negative"),
        (Op(0, 1, 0, SEND, 0, 1), "rank 1, step 0, chunk 1: chunks 1..1 are outside the buffer 0..0"),
        (Op(0, 1, 0, SEND, 0, -1), "rank 1, step 0, chunk -1: chunks -1..-1 are outside the buffer 0..0"),
        (Op(0, 1, 0, SEND, 0, 0, 2), "rank 1, step 0, chunk 0: chunks 0..1 are outside the buffer 0..0"),
        (Op(0, 1, 0, SEND, 0, 0, 0), "rank 1, step 0, chunk 0: chunks 0..-1 are outside the buffer 0..0"),
    ],
)
def test_a_record_that_cannot_be(op: Op, message: str) -> None:
    error = refusal(schedule(*EXCHANGE, op))
    assert str(error) == f"schedule all-reduce/hand-made on 2 ranks: {message}"
    assert error.grid.startswith("step  rank 0")


def test_a_send_without_a_receive() -> None:
    error = refusal(schedule(*EXCHANGE, Op(1, 1, 0, SEND, 0, 0)))
    assert "rank 1, step 1, chunk 0: the send to rank 0 on channel 0 has no matching receive" in str(error)
    assert error.grid.splitlines() == [
        "step  rank 0   rank 1",
        "0     0>1 0+1  0+0 0>0",
        "1     .        *0>0",
    ]


def test_a_receive_without_a_send() -> None:
    error = refusal(schedule(*EXCHANGE, Op(1, 0, 0, RECV, 1, 0)))
    assert "rank 0, step 1, chunk 0: the receive from rank 1 on channel 0 has no matching send" in str(error)


def test_a_partner_on_another_channel_is_no_partner() -> None:
    ops = [Op(0, 0, 0, SEND, 1, 0), Op(0, 1, 1, REDUCE, 0, 0), *pair(0, 1, 0, REDUCE)]
    assert "no matching" in str(refusal(schedule(*ops)))


def test_a_receive_of_another_size() -> None:
    ops = [Op(0, 0, 0, SEND, 1, 0, 2), Op(0, 1, 0, REDUCE, 0, 0, 1), *pair(0, 1, 0, REDUCE)]
    assert "rank 0, step 0, chunk 0: sends 2 chunks where rank 1 expects 1" in str(refusal(schedule(*ops, chunks=2)))


def test_deadlock() -> None:
    """Each rank first wants to receive and would send a step later: both wait for ever."""
    ops = [
        Op(0, 0, 0, REDUCE, 1, 0),
        Op(1, 0, 0, SEND, 1, 0),
        Op(0, 1, 0, REDUCE, 0, 0),
        Op(1, 1, 0, SEND, 0, 0),
    ]
    error = refusal(schedule(*ops))
    assert "rank 0, step 0, chunk 0: deadlock: the receive from rank 1 waits for ever" in str(error)
    assert error.grid.splitlines() == [
        "step  rank 0  rank 1",
        "0     *0+1    0+0",
        "1     0>1     0>0",
    ]


def test_the_same_records_in_flight_together_do_not_wait() -> None:
    """With a window of 2 both steps are posted at once; no deadlock, but the send may carry either value."""
    ops = [
        Op(0, 0, 0, REDUCE, 1, 0),
        Op(1, 0, 0, SEND, 1, 0),
        Op(0, 1, 0, REDUCE, 0, 0),
        Op(1, 1, 0, SEND, 0, 0),
    ]
    assert "overwrites a live chunk" in str(refusal(schedule(*ops, window=2)))


# Every pair of uses of chunk 0 on rank 0, by kind, step and channel, and whether it is a clash. "Refused" here means
# refused for this reason: a pair that does not clash goes on to fail in another way, since it is no all-reduce.
CLASHES = [
    # first, second (kind, step, channel), window, clash
    ((SEND, 0, 0), (SEND, 0, 0), 1, False),  # two may read
    ((SEND, 0, 0), (SEND, 0, 1), 1, False),
    ((SEND, 0, 0), (RECV, 0, 0), 1, True),  # read and overwritten in one step
    ((SEND, 0, 0), (RECV, 1, 0), 1, False),  # the send has ended before
    ((SEND, 0, 0), (RECV, 1, 0), 2, True),  # both in flight
    ((SEND, 0, 0), (RECV, 2, 0), 2, False),
    ((SEND, 1, 0), (RECV, 0, 0), 1, False),
    ((SEND, 1, 0), (RECV, 0, 0), 2, True),  # posted before the data have come
    ((SEND, 2, 0), (RECV, 0, 0), 2, False),
    ((SEND, 0, 0), (RECV, 7, 1), 1, True),  # channels do not wait for each other
    ((SEND, 0, 0), (REDUCE, 0, 0), 1, False),  # additions wait for the end of the step
    ((SEND, 0, 0), (REDUCE, 1, 0), 2, False),  # and a step ends after the ones before it
    ((SEND, 1, 0), (REDUCE, 0, 0), 1, False),
    ((SEND, 1, 0), (REDUCE, 0, 0), 2, True),  # may carry the value before or after
    ((SEND, 2, 0), (REDUCE, 0, 0), 2, False),
    ((SEND, 0, 0), (REDUCE, 0, 1), 1, True),
    ((RECV, 0, 0), (RECV, 0, 0), 1, True),
    ((RECV, 0, 0), (RECV, 1, 0), 1, False),
    ((RECV, 0, 0), (RECV, 1, 0), 2, True),
    ((RECV, 0, 0), (REDUCE, 0, 0), 1, True),
    ((RECV, 0, 0), (REDUCE, 1, 0), 1, False),
    ((RECV, 0, 0), (REDUCE, 1, 0), 2, True),
    ((RECV, 1, 0), (REDUCE, 0, 0), 2, True),
    ((RECV, 0, 0), (REDUCE, 0, 1), 1, True),
    ((REDUCE, 0, 0), (REDUCE, 0, 0), 1, False),  # additions of one channel follow one another
    ((REDUCE, 0, 0), (REDUCE, 1, 0), 2, False),
    ((REDUCE, 0, 0), (REDUCE, 0, 1), 1, True),  # two channels may add at the same moment
]


@pytest.mark.parametrize("swapped", [False, True], ids=["as written", "swapped"])
@pytest.mark.parametrize(("first", "second", "window", "clash"), CLASHES)
def test_overwrites(
    first: tuple[Kind, int, int], second: tuple[Kind, int, int], window: int, clash: bool, swapped: bool
) -> None:
    """Rank 0 uses chunk 0 twice, with ranks 1 and 2 at the other ends."""
    uses = [(peer, *use) for peer, use in enumerate((first, second), 1)]
    ops = []
    for peer, kind, step, channel in reversed(uses) if swapped else uses:
        ops.append(Op(step, 0, channel, kind, peer, 0))
        ops.append(Op(step, peer, channel, RECV if kind is SEND else SEND, 0, 0))
    error = refusal(schedule(*ops, ranks=3, window=window))
    assert ("overwrites a live chunk" in str(error)) is clash
    if clash:
        assert str(error).startswith("schedule all-reduce/hand-made on 3 ranks: rank 0, step ")
        assert error.grid.count("*") == 1


def test_a_clash_in_the_middle_of_a_run_of_chunks() -> None:
    """Chunks 0..2 leave while chunk 2 alone arrives."""
    ops = [
        Op(0, 0, 0, SEND, 1, 0, 3),
        Op(0, 1, 0, REDUCE, 0, 0, 3),
        Op(0, 1, 0, SEND, 0, 3),
        Op(0, 0, 0, RECV, 1, 2),
    ]
    error = refusal(schedule(*ops, chunks=4))
    assert "rank 0, step 0, chunk 2: 2<1 overwrites a live chunk: 0-2>1 in step 0" in str(error)


def test_a_contribution_added_twice() -> None:
    error = refusal(schedule(*EXCHANGE, *pair(1, 0, 1, REDUCE)))
    assert "rank 1, step 1, chunk 0: rank 1 ends chunk 0 without nothing and with rank 0's chunk 0" in str(error)


def test_a_contribution_that_landed_in_the_wrong_place() -> None:
    """Rank 0's chunk 0 is added to rank 1's chunk 1; the other three exchanges are right."""
    wrong = [Op(0, 0, 0, SEND, 1, 0), Op(0, 1, 0, REDUCE, 0, 1)]
    ops = [*wrong, *pair(0, 0, 1, REDUCE, 1), *pair(0, 1, 0, REDUCE, 0), *pair(0, 1, 0, REDUCE, 1)]
    error = refusal(schedule(*ops, chunks=2))
    assert "rank 1 ends chunk 0 without rank 0's chunk 0 and with nothing too many" in str(error)


def test_a_wide_operation_is_right_too() -> None:
    """count > 1: both chunks in one record each way."""
    ops = [
        Op(0, 0, 0, SEND, 1, 0, 2),
        Op(0, 0, 0, REDUCE, 1, 0, 2),
        Op(0, 1, 0, SEND, 0, 0, 2),
        Op(0, 1, 0, REDUCE, 0, 0, 2),
    ]
    verify(schedule(*ops, chunks=2))


def test_idle_steps_are_allowed() -> None:
    ops = [*pair(3, 0, 1, REDUCE), *pair(7, 1, 0, RECV)]
    verify(schedule(*ops))


def test_a_large_grid_is_cut_around_the_mark() -> None:
    ring = build_schedule("all-reduce", "ring", 30)
    mark = Op(50, 20, 0, RECV, 19, 0)
    lines = step_by_rank(ring, mark).splitlines()
    assert len(lines) == 1 + 40 + 1
    assert lines[-1] == "(shown: 40 of 58 steps, 16 of 30 ranks)"
    assert "rank 20" in lines[0]
    assert [line.split()[0] for line in lines if "*" in line] == ["50"]


def test_channels_show_in_the_grid() -> None:
    tree = build_schedule("all-reduce", "tree", 2, 1)
    assert step_by_rank(tree).splitlines() == [
        "step  rank 0       rank 1",
        "0     0+1/0 1>1/1  0>0/0 1+0/1",
        "1     0>1/0 1<1/1  0<0/0 1>0/1",
    ]
