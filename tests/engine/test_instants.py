# SPDX-License-Identifier: Apache-2.0
"""SEMANTICS.md, rule by rule, on programs of a few tasks, in both engines. One byte takes one picosecond."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from commbench.engine import compiled, reference
from commbench.engine.setting import Processors
from commbench.engine.trace import Trace
from commbench.errors import InputError
from tests.engine.engine_cases import BYTE_PER_PS
from tests.engine.few_tasks import compute, run_tasks, transfer

Run = Callable[..., Trace]


@pytest.fixture(params=[reference, compiled], ids=lambda engine: engine.ENGINE)
def run(request: pytest.FixtureRequest) -> Run:
    """Run tasks in an engine, over link 0 and without latency unless said otherwise for a task by its number."""

    def run(
        tasks: Sequence[tuple],
        *,
        routes: Mapping[int, tuple[int, ...]] | None = None,
        latency_ps: Mapping[int, int] | None = None,
        **more: Any,
    ) -> Trace:
        each = [((routes or {}).get(task, (0,)), (latency_ps or {}).get(task, 0)) for task in range(len(tasks))]
        return run_tasks(request.param.run, tasks, routes=each, **more)

    return run


def test_a_chain_of_computes(run: Run) -> None:
    trace = run([compute(0, 5), compute(0, 7, 0), compute(0, 11, 1)])
    assert trace.start_ps.tolist() == [0, 5, 12]
    assert trace.end_ps.tolist() == [5, 12, 23]
    assert trace.num_shares == 0


def test_computes_without_dependencies_run_side_by_side(run: Run) -> None:
    """The engine adds no order of its own, not even on one rank."""
    assert run([compute(0, 5), compute(0, 7)]).end_ps.tolist() == [5, 7]


def test_an_empty_program_takes_no_time(run: Run) -> None:
    trace = run([])
    assert (trace.finish_ps, trace.num_shares, len(trace.end_ps)) == (0, 0, 0)


def test_one_transfer(run: Run) -> None:
    """Posted at 3, enters at 3 + 100, flows 40 ps, handled by the receiver for 3."""
    trace = run([transfer(0, 1, 40)], latency_ps={0: 100}, overhead_ps=3)
    assert trace.start_ps.tolist() == [0]
    assert trace.end_ps.tolist() == [3 + 100 + 40 + 3]
    assert trace.num_shares == 2  # it came, it went


def test_a_transfer_of_nothing(run: Run) -> None:
    """Overheads and latency alone; the flow ends in the instant in which it enters, after the shares."""
    trace = run([transfer(0, 1, 0)], latency_ps={0: 100}, overhead_ps=3)
    assert trace.end_ps.tolist() == [3 + 100 + 3]
    assert trace.num_shares == 2


def test_two_transfers_on_one_link(run: Run) -> None:
    """100 B and 300 B enter together: half each, the first ends at 200. Then 200 B are left, alone: 200 + 200."""
    trace = run([transfer(0, 1, 100), transfer(2, 3, 300)])
    assert trace.end_ps.tolist() == [200, 400]
    assert trace.num_shares == 3  # both come, one goes, the other goes


def test_latency_occupies_no_link(run: Run) -> None:
    """The first is still on its way (latency 1000) while the second has the link for itself."""
    trace = run([transfer(0, 1, 100), transfer(2, 3, 300)], latency_ps={0: 1000})
    assert trace.end_ps.tolist() == [1100, 300]


def test_rounding_is_half_up(run: Run) -> None:
    """1 B at 3e11 B/s is 3.33 ps: 3. 1 B at 4e11 B/s is 2.5 ps: floor(2.5 + 0.5) = 3."""
    assert run([transfer(0, 1, 1)], bandwidths=[3e11]).end_ps.tolist() == [3]
    assert run([transfer(0, 1, 1)], bandwidths=[4e11]).end_ps.tolist() == [3]


# The message processors ----------------------------------------------------------------------------------------------


def test_the_sender_posts_one_after_the_other_by_task_number(run: Run) -> None:
    """Links of their own; overhead 10: posted at 10, 20, 30, received 10 later each by a rank of its own."""
    tasks = [transfer(0, 1 + i, 5) for i in range(3)]
    trace = run(tasks, overhead_ps=10, routes={i: (i,) for i in range(3)}, bandwidths=[BYTE_PER_PS] * 3)
    assert trace.end_ps.tolist() == [10 + 5 + 10, 20 + 5 + 10, 30 + 5 + 10]


def test_flow_ends_of_one_instant_are_delivered_by_task_number(run: Run) -> None:
    """Tasks 1, 2, 0 enter at 10, 60, 110 with 1000, 950, 900 B: all end at 1010 and are handled as 0, 1, 2.

    The engine hears of the ends in the order 1, 2, 0; neither that order nor its reverse gives this answer.
    """
    tasks = [transfer(1, 0, 900), transfer(2, 0, 1000), transfer(3, 0, 950)]
    trace = run(
        tasks,
        overhead_ps=10,
        latency_ps={0: 100, 2: 50},
        routes={0: (0,), 1: (1,), 2: (2,)},
        bandwidths=[BYTE_PER_PS] * 3,
    )
    assert trace.end_ps.tolist() == [1010 + 10, 1010 + 20, 1010 + 30]


def test_the_receiver_handles_what_came_first(run: Run) -> None:
    """Task 1 ends at 10 + 50 = 60, task 0 at 10 + 55 = 65, while the engine is busy until 70."""
    tasks = [transfer(1, 0, 55), transfer(2, 0, 50)]
    trace = run(tasks, overhead_ps=10, routes={0: (0,), 1: (1,)}, bandwidths=[BYTE_PER_PS] * 2)
    assert trace.end_ps.tolist() == [80, 70]


def test_one_engine_serves_both_ways(run: Run) -> None:
    """Rank 0 receives task 0 (ends at 10 + 25 = 35, handled until 45) and then posts task 2, ready at 36.

    The engine is free at 45 only: posted at 55, flows 5, handled by rank 1 until 70.
    """
    tasks = [transfer(1, 0, 25), compute(0, 36), transfer(0, 2, 5, 1)]
    trace = run(tasks, overhead_ps=10, routes={0: (0,), 2: (1,)}, bandwidths=[BYTE_PER_PS] * 2)
    assert trace.start_ps.tolist() == [0, 0, 36]
    assert trace.end_ps.tolist() == [45, 36, 55 + 5 + 10]


# One instant ------------------------------------------------------------------------------------------------------


def test_starts_of_one_instant_are_in_task_order(run: Run) -> None:
    """Tasks 3 and 2 become ready at 7, task 3 by an event that was queued first; task 2 takes the engine first."""
    tasks = [compute(1, 7), compute(0, 7), transfer(0, 1, 5, 1), transfer(0, 2, 5, 0)]
    trace = run(tasks, overhead_ps=10, routes={2: (0,), 3: (1,)}, bandwidths=[BYTE_PER_PS] * 2)
    assert trace.end_ps.tolist() == [7, 7, 17 + 5 + 10, 27 + 5 + 10]


def test_a_task_of_no_time_opens_the_instant_again(run: Run) -> None:
    """Task 0 waits for task 1 (0 ps), so it is ready in the second round of instant 0; task 2 was started in the first.

    So task 2 has the engine until 10, and task 0, for all its lower number, until 20.
    """
    tasks = [transfer(0, 1, 5, 1), compute(0, 0), transfer(0, 2, 5)]
    trace = run(tasks, overhead_ps=10, routes={0: (0,), 2: (1,)}, bandwidths=[BYTE_PER_PS] * 2)
    assert trace.start_ps.tolist() == [0, 0, 0]
    assert trace.end_ps.tolist() == [20 + 5 + 10, 0, 10 + 5 + 10]


def test_shares_are_computed_once_in_an_instant(run: Run) -> None:
    """At 100 one flow ends and two enter: one sharing for all three. 1 + 1 + 1 (both end at 300)."""
    tasks = [transfer(0, 1, 100), transfer(2, 3, 100), transfer(4, 5, 100)]
    trace = run(tasks, latency_ps={1: 100, 2: 100})
    assert trace.end_ps.tolist() == [100, 300, 300]
    assert trace.num_shares == 3


def test_a_flow_that_follows_without_a_gap(run: Run) -> None:
    """A flow ends and the next enters in the same instant over the same link: no other flow sees a change."""
    tasks = [transfer(0, 1, 100), transfer(0, 1, 100, 0), transfer(2, 3, 400)]
    trace = run(tasks)
    assert trace.end_ps.tolist() == [200, 400, 600]  # half each until 400, then 200 B alone
    assert trace.num_shares == 4


def test_a_circle_is_an_error(run: Run) -> None:
    with pytest.raises(InputError, match="task 1 can never start: it waits for itself in a circle"):
        run([compute(0, 1), compute(0, 1, 2), compute(0, 1, 1, 0)])


def test_a_circle_with_itself_is_one_too(run: Run) -> None:
    with pytest.raises(InputError, match="task 0 can never start"):
        run([compute(0, 1, 0)])


# The end of time --------------------------------------------------------------------------------------------------


def test_the_last_picosecond(run: Run) -> None:
    """2**63 - 1 ps can be told, one more cannot: by a compute task, by a latency, by a message."""
    last = 2**63 - 1
    assert run([compute(0, last - 5), compute(0, 5, 0)]).end_ps.tolist() == [last - 5, last]
    assert run([compute(0, last - 5), transfer(0, 1, 0, 0)], latency_ps={1: 5}).finish_ps == last
    for tasks in (
        [compute(0, last - 5), compute(0, 6, 0)],
        [compute(0, last - 5), transfer(0, 1, 0, 0)],
        [compute(0, 2**62), compute(0, 2**62, 0), compute(0, 2**62, 1)],
    ):
        with pytest.raises(InputError, match="passes 9223372036854775807 ps"):
            run(tasks, latency_ps={1: 6})
    with pytest.raises(InputError, match="the end of 64 bits"):
        run([compute(0, last - 5), transfer(0, 1, 0, 0)], overhead_ps=3)


def test_a_flow_to_the_end_of_time(run: Run) -> None:
    """2**62 B take 2**62 ps: one behind the other they would end at 2**63. At 1 kB/s a flow alone takes 2**71 ps."""
    assert run([transfer(0, 1, 2**62)]).end_ps.tolist() == [2**62]
    for tasks, bandwidth in (([transfer(0, 1, 2**62), transfer(0, 1, 2**62, 0)], 1e12), ([transfer(0, 1, 2**41)], 1e3)):
        with pytest.raises(InputError, match="the end of 64 bits"):
            run(tasks, bandwidths=[bandwidth])


# Shared processors ------------------------------------------------------------------------------------------------


def test_a_pool_serves_the_message_that_is_first_with_the_processor_that_is_free_first(run: Run) -> None:
    """Ranks 0, 1, 2 share two processors, rank 3 has two others; overhead 10, own links, 5, 5 and 5 B.

    Tasks 0 and 1 are posted at 10, task 2 at 20; they arrive at 15, 15 and 25. The receiver handles the first two until
    25, each on a processor, and the third from 25 to 35.
    """
    tasks = [transfer(0, 3, 5), transfer(1, 3, 5), transfer(2, 3, 5)]
    trace = run(
        tasks,
        processors=Processors(10, (0, 0, 0, 1), 2),
        routes={i: (i,) for i in range(3)},
        bandwidths=[BYTE_PER_PS] * 3,
    )
    assert trace.end_ps.tolist() == [25, 25, 35]
