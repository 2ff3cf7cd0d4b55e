# SPDX-License-Identifier: Apache-2.0
"""SEMANTICS.md, rule by rule: what changes over time, coupled tasks, and flows over no link. In both engines.

Links carry 1 byte per picosecond unless said otherwise. Task t takes route t; the routes behind those of the tasks are
there to move to.
"""

from collections.abc import Callable
from functools import partial

import pytest

from commbench.engine import compiled, reference
from commbench.engine.setting import CUT_OFF, Change, CutOff, What
from commbench.engine.trace import Trace
from tests.engine.engine_cases import BYTE_PER_PS
from tests.engine.few_tasks import compute, coupled, run_tasks, transfer

Run = Callable[..., Trace]
HALF = BYTE_PER_PS / 2


def bandwidth(time_ps: int, link: int, value: float) -> Change:
    return Change(time_ps, What.BANDWIDTH, link, value)


def move(time_ps: int, route: int, to: int) -> Change:
    return Change(time_ps, What.ROUTE, route, to)


def slow(time_ps: int, rank: int, times: float) -> Change:
    return Change(time_ps, What.SLOWDOWN, rank, times)


@pytest.fixture(params=[reference, compiled], ids=lambda engine: engine.ENGINE)
def run(request: pytest.FixtureRequest) -> Run:
    """Run tasks in an engine."""
    return partial(run_tasks, request.param.run)


# Bandwidth --------------------------------------------------------------------------------------------------------


def test_a_link_gets_slower(run: Run) -> None:
    """Of 100 B 60 are left at 40; at half the bandwidth they take 120."""
    trace = run([transfer(0, 1, 100)], bandwidth(40, 0, HALF))
    assert trace.end_ps.tolist() == [40 + 120]
    assert trace.num_shares == 3


def test_a_change_at_the_instant_of_a_flows_end(run: Run) -> None:
    """The change comes first, the end is due all the same: the last byte has passed. One sharing for both.

    100 B and 300 B share the link until 200; of the second 200 B are left, at half the bandwidth: 400 more.
    """
    assert run([transfer(0, 1, 100)], bandwidth(100, 0, 1.0)).end_ps.tolist() == [100]
    trace = run([transfer(0, 1, 100), transfer(0, 1, 300)], bandwidth(200, 0, HALF))
    assert trace.end_ps.tolist() == [200, 200 + 400]
    assert trace.num_shares == 3


def test_changes_of_one_instant_in_the_order_in_which_they_are_listed(run: Run) -> None:
    assert run([transfer(0, 1, 100)], bandwidth(40, 0, 1.0), bandwidth(40, 0, HALF)).end_ps.tolist() == [160]
    assert run([transfer(0, 1, 100)], bandwidth(0, 0, 1.0), bandwidth(0, 0, HALF)).end_ps.tolist() == [200]


def test_a_change_before_a_flow_enters_costs_no_sharing(run: Run) -> None:
    """At 0 and at 50 no flow is on the link; nor at 500. One that enters at 100 finds half the bandwidth."""
    trace = run([transfer(0, 1, 100)], bandwidth(0, 0, 1.0), bandwidth(50, 0, HALF), bandwidth(500, 0, 1.0),
                routes=[((0,), 100)])  # fmt: skip
    assert trace.end_ps.tolist() == [100 + 200]
    assert (trace.num_shares, trace.finish_ps) == (2, 300)


def test_a_change_that_changes_no_rate(run: Run) -> None:
    """The flow's other link is the thin one: its rate, and so its end, stay what they were, for one more sharing."""
    trace = run([transfer(0, 1, 33)], bandwidth(7, 0, 2e12), routes=[((0, 1), 0)], bandwidths=[1e12, 3e11])
    assert trace.end_ps.tolist() == [110]
    assert trace.num_shares == 3


# Slow ranks -------------------------------------------------------------------------------------------------------


def test_a_slow_rank_computes_longer(run: Run) -> None:
    """3 ps take floor(3 x 1.5 + 0.5) = 5 on rank 0, from the instant of the change on; what has begun goes on.

    Rank 0: 0 to 3, then slow (the change at 3 comes before the start at 3): to 8, to 13; fast again from 10 on: to 16.
    """
    tasks = [compute(0, 3), compute(0, 3, 0), compute(0, 3, 1), compute(0, 3, 2), compute(1, 3)]
    trace = run(tasks, slow(3, 0, 1.5), slow(10, 0, 1.0))
    assert trace.end_ps.tolist() == [3, 8, 13, 16, 3]


def test_a_slow_rank_handles_messages_longer(run: Run) -> None:
    """Overhead 10. Rank 1 is three times as slow: what it receives takes it 30, what it sends as well.

    0 -> 1: posted at 10, flows 5, handled 15 to 45. Then 1 -> 0: posted at 75, flows 5, handled 80 to 90.
    """
    trace = run([transfer(0, 1, 5), transfer(1, 0, 5, 0)], slow(0, 1, 3.0), overhead_ps=10)
    assert trace.end_ps.tolist() == [45, 90]


def test_a_message_that_has_begun_goes_on(run: Run) -> None:
    """Ready at 0, on the processor from 0 to 10; slow from 1 on. The receiver begins at 15, slow since 15."""
    trace = run([transfer(0, 1, 5)], slow(1, 0, 3.0), slow(15, 1, 2.0), overhead_ps=10)
    assert trace.end_ps.tolist() == [10 + 5 + 20]


# Routes -----------------------------------------------------------------------------------------------------------

TWO = {"routes": [((0,), 100), ((1,), 1000)], "bandwidths": [BYTE_PER_PS, HALF]}  # to move to: slower and far longer


def test_moved_while_its_latency_is_not_over(run: Run) -> None:
    """It enters when it would have, at 100, but on the new link: 40 B take 80. It pays no new latency."""
    trace = run([transfer(0, 1, 40)], move(50, 0, 1), **TWO)
    assert trace.end_ps.tolist() == [100 + 80]
    assert trace.num_shares == 2


def test_moved_at_the_instant_at_which_it_enters(run: Run) -> None:
    assert run([transfer(0, 1, 40)], move(100, 0, 1), **TWO).end_ps.tolist() == [180]


def test_moved_while_it_flows(run: Run) -> None:
    """At 120 it has 20 B left, which take 40 on the new link."""
    trace = run([transfer(0, 1, 40)], move(120, 0, 1), **TWO)
    assert trace.end_ps.tolist() == [120 + 40]
    assert trace.num_shares == 3


def test_moved_at_the_instant_of_its_end(run: Run) -> None:
    assert run([transfer(0, 1, 40)], move(140, 0, 1), **TWO).end_ps.tolist() == [140]


def test_moved_and_moved_back(run: Run) -> None:
    """At 110 30 B are left, at 130 20; back on its own link they take 20."""
    trace = run([transfer(0, 1, 40)], move(110, 0, 1), move(130, 0, 0), **TWO)
    assert trace.end_ps.tolist() == [150]


def test_a_transfer_that_starts_later_takes_the_new_route_and_its_latency(run: Run) -> None:
    tasks = [compute(0, 7), transfer(0, 1, 40, 0)]
    ways = {"routes": [((), 0), ((0,), 100), ((1,), 1000)], "bandwidths": [BYTE_PER_PS, HALF]}
    assert run(tasks, move(7, 1, 2), **ways).end_ps.tolist() == [7, 7 + 1000 + 80]
    assert run(tasks, move(8, 1, 2), **ways).end_ps.tolist() == [7, 7 + 100 + 80]


def test_where_it_moves_it_takes_its_share(run: Run) -> None:
    """Both have a link of their own and 100 B; at 60 the first moves to the second's: 40 B each at half, until 140."""
    trace = run([transfer(0, 1, 100), transfer(2, 3, 100)], move(60, 0, 1), routes=[((0,), 0), ((1,), 0)],
                bandwidths=[BYTE_PER_PS] * 2)  # fmt: skip
    assert trace.end_ps.tolist() == [140, 140]
    assert trace.num_shares == 3


def test_where_it_leaves_others_get_more(run: Run) -> None:
    """200 B each on one link until 100, when 150 are left: alone they take 150, on the new link at half 300."""
    routes = [((0,), 0), ((0,), 0), ((1,), 0)]
    trace = run([transfer(0, 1, 200), transfer(2, 3, 200)], move(100, 0, 2), routes=routes, bandwidths=[1e12, HALF])
    assert trace.end_ps.tolist() == [100 + 300, 100 + 150]


def test_a_cut_route(run: Run) -> None:
    """An error at the instant at which the transfer needs it: while it flows at once, before that when it enters."""
    for time_ps, found_ps in ((120, 120), (140, 140), (50, 100), (100, 100), (0, 0)):
        with pytest.raises(CutOff) as cut:
            run([transfer(0, 1, 40)], move(time_ps, 0, CUT_OFF), **TWO)
        assert (cut.value.task, cut.value.time_ps) == (0, found_ps)


def test_of_many_that_are_cut_at_one_instant_the_lowest_is_named(run: Run) -> None:
    """When they start, when their latency is over, while they flow, and where the higher one is cut a moment before."""
    tasks = [transfer(rank, rank + 1, 40) for rank in range(0, 8, 2)]
    routes: list[tuple[tuple[int, ...], int]] = [((0,), 100)] * 4
    for time_ps, found_ps in ((0, 0), (50, 100), (100, 100), (120, 120)):
        with pytest.raises(CutOff) as cut:
            run(tasks, *(move(time_ps, route, CUT_OFF) for route in (2, 1, 3)), routes=routes)
        assert cut.value.time_ps == found_ps
        assert cut.value.task == (2 if time_ps == 120 else 1)  # a change that cuts a flow is the last


def test_a_cut_route_that_nobody_needs(run: Run) -> None:
    """Cut after the end, or mended before anyone asks."""
    assert run([transfer(0, 1, 40)], move(141, 0, CUT_OFF), **TWO).end_ps.tolist() == [140]
    assert run([transfer(0, 1, 40)], move(1, 0, CUT_OFF), move(99, 0, 0), **TWO).end_ps.tolist() == [140]


# Coupled tasks ----------------------------------------------------------------------------------------------------


def test_a_coupled_task_takes_no_processor(run: Run) -> None:
    """Latency 100; with weight 2 its 40 B run at half the link: 80. Overhead 10 is not for it."""
    trace = run([coupled(40)], routes=[((0,), 100)], weights=[[2.0]], overhead_ps=10)
    assert trace.end_ps.tolist() == [180]
    assert trace.num_shares == 2


def test_a_coupled_task_counts_by_its_weight(run: Run) -> None:
    """Weight 3 beside a plain flow: each has a quarter of the link. 100 B each: both end at 400, the link was full."""
    assert run([coupled(100), transfer(0, 1, 100)], routes=[((0,), 0)] * 2, weights=[[3.0], [1.0]]).end_ps.tolist() == [
        400,
        400,
    ]


def test_each_link_has_its_own_weight(run: Run) -> None:
    """Weight 1 on a link of 1 B/ps, 4 on one of 2 B/ps, 0.25 on one of 1: rates 1, 0.5 and 4. 100 B take 200."""
    trace = run([coupled(100)], routes=[((0, 1, 2), 0)], weights=[[1.0, 4.0, 0.25]], bandwidths=[1e12, 2e12, 1e12])
    assert trace.end_ps.tolist() == [200]


def test_a_coupled_task_is_moved_with_the_weights_of_the_new_route(run: Run) -> None:
    """100 B at 1 until 40; 60 B at a quarter: 240."""
    trace = run([coupled(100)], move(40, 0, 1), routes=[((0,), 0), ((1,), 0)], weights=[[1.0], [4.0]],
                bandwidths=[BYTE_PER_PS] * 2)  # fmt: skip
    assert trace.end_ps.tolist() == [40 + 240]


def test_a_coupled_task_is_waited_for_and_waits(run: Run) -> None:
    assert run([compute(0, 7), coupled(40, 0), compute(0, 5, 1)]).end_ps.tolist() == [7, 47, 52]


# No link ----------------------------------------------------------------------------------------------------------


def test_a_flow_over_no_link(run: Run) -> None:
    """Overheads and latency alone, and no sharing."""
    trace = run([transfer(0, 1, 40)], routes=[((), 100)], overhead_ps=3)
    assert trace.end_ps.tolist() == [3 + 100 + 3]
    assert trace.num_shares == 0
    assert run([coupled(40)], routes=[((), 100)]).end_ps.tolist() == [100]


def test_flows_over_no_link_are_delivered_with_the_others_by_task_number(run: Run) -> None:
    """Tasks 0 and 2 cross a link and are through at 110 + 40; task 1 has latency 140 instead. Overhead 10."""
    tasks = [transfer(1, 0, 40), transfer(2, 0, 40), transfer(3, 0, 40)]
    routes = [((0,), 100), ((), 140), ((1,), 100)]
    trace = run(tasks, routes=routes, bandwidths=[BYTE_PER_PS] * 2, overhead_ps=10)
    assert trace.end_ps.tolist() == [160, 170, 180]
