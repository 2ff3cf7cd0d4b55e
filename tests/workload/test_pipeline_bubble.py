# SPDX-License-Identifier: Apache-2.0
"""Simulated on free links, the bubble of every schedule is its closed form, to the picosecond."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.program.operations import NOTHING, Program, ProgramBuilder, Transfer
from commbench.workload.pipeline.bubble import Bubble
from commbench.workload.pipeline.lower import StageTimes, add_pipeline, pipeline_program
from commbench.workload.pipeline.registry import PIPELINES, build_pipeline
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule
from tests.cases import star
from tests.programs import run as run_program
from tests.workload.pipelines import CASES, bubble_of, by_stage, equal_times, run

# Oracles, and nothing but oracles: time beyond m (F + I + W), with F, I, W per stage, by 2104.04473 section 2.2,
# 2401.10241 table 2 and the READMEs of zero-bubble and DualPipe.
Form = Callable[[int, int, int, int], int]
IDLE: dict[str, Form] = {
    "gpipe": lambda p, f, i, w: (p - 1) * (f + i + w),
    "1f1b": lambda p, f, i, w: (p - 1) * (f + i + w),
    "interleaved-1f1b": lambda p, f, i, w: (p - 1) * (f + i + w),
    "looped-bfs": lambda p, f, i, w: (p - 1) * (f + i + w),
    "zb-h1": lambda p, f, i, w: (p - 1) * (f + i - w),
    "zb-h2": lambda p, f, i, w: (p - 1) * f,  # the start skew alone; see the rank spans below
    "zbv": lambda p, f, i, w: (p - 1) * f,
    "dualpipev": lambda p, f, i, w: (p - 1) * ((f + i + w) + (i + w) - 3 * w),  # (F&B) + B - 3W, F&B one by one
}
ANY_TIMES = ("gpipe", "1f1b", "interleaved-1f1b", "looped-bfs")
EQUAL_TIMES = ("zb-h2", "zbv", "dualpipev")  # made for F = I = W


def enough(name: str, p: int, m: int, v: int) -> bool:
    """Whether there are enough microbatches for the closed form: zbv fills its pipeline with 2p - 1."""
    return m >= p if name != "zbv" else m >= 2 * p - 1


@pytest.mark.parametrize("name", PIPELINES)
def test_bubble_is_the_closed_form(name: str) -> None:
    """At F = I = W, for every case of the grid, with dependencies alone and with transfers over free links."""
    checked = 0
    for case in CASES:
        if case[0] == name and enough(*case):
            _, p, m, v = case
            schedule = build_pipeline(*case)
            times = equal_times(schedule, 7, 7, 7)
            for num_bytes in (0, 1):
                ran = run(schedule, times, num_bytes=num_bytes)
                assert ran.total - m * v * 21 == IDLE[name](p, 7, 7, 7), (case, num_bytes)
                assert ran.busy == (m * v * 21,) * p
            checked += 1
    assert checked >= 15


@pytest.mark.parametrize(
    ("name", "v", "total_4_8", "total_8_16", "bubble_4_8"),
    [
        ("gpipe", 1, 33, 69, 27.3),
        ("1f1b", 1, 33, 69, 27.3),
        ("interleaved-1f1b", 2, 28.5, 58.5, 15.8),
        ("looped-bfs", 2, 28.5, 58.5, 15.8),
        ("zb-h1", 1, 27, 55, 11.1),
        ("zb-h1", 2, 25.5, 51.5, 5.9),
        ("zb-h2", 1, 27, 55, 11.1),
        ("zbv", 2, 25.5, 51.5, 5.9),
        ("dualpipev", 2, 27, 55, 11.1),
    ],
)
def test_worked_totals(name: str, v: int, total_4_8: float, total_8_16: float, bubble_4_8: float) -> None:
    """In units of a rank's F = I = W: ideal 24 for 4 ranks and 8 microbatches, 48 for 8 and 16."""
    for p, m, total in ((4, 8, total_4_8), (8, 16, total_8_16)):
        schedule = build_pipeline(name, p, m, v)
        unit = 6  # ps a stage; a rank's F is v of them
        ran = run(schedule, equal_times(schedule, unit, unit, unit))
        assert ran.total == total * unit * v
        bubble = bubble_of(ran.passes)
        assert bubble.ideal == 3 * m * unit * v
        if p == 4:
            assert round(100 * bubble.of_total, 1) == bubble_4_8


@given(name=st.sampled_from(ANY_TIMES), p=st.integers(1, 5), rounds=st.integers(1, 4), v=st.integers(1, 3),
       times=st.tuples(*[st.integers(1, 50)] * 3))  # fmt: skip
def test_whole_backwards_at_any_times(name: str, p: int, rounds: int, v: int, times: tuple[int, int, int]) -> None:
    """(p - 1)(F + B) / v holds for any F and B: here F, I, W are of one of the v stages of a rank."""
    per_rank = v if name in ("interleaved-1f1b", "looped-bfs") else 1
    m = p * rounds
    schedule = build_pipeline(name, p, m, per_rank)
    ran = run(schedule, equal_times(schedule, *times))
    assert ran.total == m * per_rank * sum(times) + IDLE[name](p, *times)


@given(p=st.integers(1, 5), rounds=st.integers(1, 4), v=st.integers(1, 3),
       times=st.tuples(*[st.integers(1, 50)] * 2), share=st.floats(0.01, 1))  # fmt: skip
def test_zb_h1_where_weight_gradients_are_short(
    p: int, rounds: int, v: int, times: tuple[int, int], share: float
) -> None:
    """(p - 1)(F + I - W) / v holds as long as W fits where it is put: W <= F and W <= I."""
    m, w = p * rounds, max(1, int(min(times) * share))
    schedule = build_pipeline("zb-h1", p, m, v)
    ran = run(schedule, equal_times(schedule, *times, w))
    assert ran.total == m * v * (sum(times) + w) + IDLE["zb-h1"](p, *times, w)


@given(p=st.integers(1, 5), more=st.integers(0, 6), times=st.tuples(*[st.integers(1, 50)] * 2),
       share=st.floats(0.01, 1))  # fmt: skip
def test_zb_h2_idle_time_of_a_rank(p: int, more: int, times: tuple[int, int], share: float) -> None:
    """The paper's cost is that of the longest rank, start to end: (p - 1)(F + I - 2W), and 0 at F = I = W."""
    m, w = 2 * p - 1 + more, max(1, int(min(times) * share))
    schedule = build_pipeline("zb-h2", p, m)
    ran = run(schedule, equal_times(schedule, *times, w))
    assert max(ran.spans) == m * (sum(times) + w) + (p - 1) * (sum(times) - 2 * w)


@pytest.mark.parametrize("name", ["zb-h2", "zbv"])
def test_zero_bubble_means_no_idle_time_inside_a_rank(name: str) -> None:
    for p in (2, 4, 8):
        schedule = build_pipeline(name, p, 2 * p)
        ran = run(schedule, equal_times(schedule, 3, 3, 3))
        assert ran.spans == ran.busy
        assert min(start for start, _ in ran.passes[1]) == 3  # only the skew of the start is left


def longest_path(schedule: PipelineSchedule, times: list[StageTimes]) -> int:
    """The end of a schedule by recursion over its definition, without program or engine."""
    ends: dict[tuple[str, int, int], int] = {}
    free = [0] * schedule.num_ranks
    left = [list(order) for order in schedule.orders]
    while any(left):
        for rank, order in enumerate(left):
            while order:
                wanted = []
                for a in order[0].parts:
                    if a.kind is Pass.FORWARD:
                        wanted += [("F", a.stage - 1, a.microbatch)] if a.stage else []
                    elif a.kind is Pass.WEIGHT:
                        wanted += [("I", a.stage, a.microbatch)]
                    else:
                        wanted += [("F", a.stage, a.microbatch)]
                        wanted += [("I", a.stage + 1, a.microbatch)] if a.stage + 1 < schedule.num_stages else []
                if any(key not in ends for key in wanted):
                    break
                step = order.pop(0)
                free[rank] = max([free[rank], *(ends[key] for key in wanted)])
                free[rank] += sum(times[a.stage].of(a.kind) for a in step.parts)
                for a in step.parts:
                    ends["I" if a.kind is Pass.BACKWARD else a.kind.value, a.stage, a.microbatch] = free[rank]
    return max(free)


@given(case=st.sampled_from(CASES), data=st.data())
def test_unequal_stages_against_the_longest_path(case: tuple[str, int, int, int], data: st.DataObject) -> None:
    schedule = build_pipeline(*case)
    numbers = st.integers(0, 30)
    times = [
        StageTimes(
            forward_ps=data.draw(numbers) + 1,
            input_ps=data.draw(numbers),
            weight_ps=data.draw(numbers),
            backward_ps=data.draw(st.none() | numbers),
        )
        for _ in range(schedule.num_stages)
    ]
    assert run(schedule, times, num_bytes=data.draw(st.sampled_from([0, 1]))).total == longest_path(schedule, times)


# Transfers ------------------------------------------------------------------------------------------------------


def transfers_of(program: Program) -> list[tuple[str, list[list[int]], int, str]]:
    """Label, pairs, bytes and stream of every operation that is one."""
    found = []
    for number in (program.communication != NOTHING).nonzero()[0].tolist():
        what = program.communications[program.communication[number]]
        assert isinstance(what, Transfer)
        stream = program.streams[program.stream[number]]
        found.append((program.label_of(number), what.pairs.tolist(), what.num_bytes, stream))
    return found


def computes_of(program: Program, rank: int) -> list[int]:
    """Numbers of the operations on a rank that are no transfers."""
    return ((program.communication == NOTHING) & (program.rank == rank)).nonzero()[0].tolist()


def test_transfers_of_a_program() -> None:
    """2 ranks, 2 microbatches: each boundary is crossed once forward and once back; sends have streams of their own."""
    schedule = build_pipeline("1f1b", 2, 2)
    program = pipeline_program(schedule, by_stage(equal_times(schedule, 1, 1, 1)), 1000)
    assert transfers_of(program) == [
        ("0SEND_F0", [[0, 1]], 1000, "stage 0 to 1"),
        ("0SEND_F1", [[0, 1]], 1000, "stage 0 to 1"),
        ("1SEND_B0", [[1, 0]], 1000, "stage 1 to 0"),
        ("1SEND_B1", [[1, 0]], 1000, "stage 1 to 0"),
    ]
    assert [program.label_of(number) for number in computes_of(program, 1)] == ["1F0", "1B0", "1F1", "1B1"]
    assert {program.streams[program.stream[i]] for rank in (0, 1) for i in computes_of(program, rank)} == {"compute"}


@pytest.mark.parametrize(("name", "p", "m", "v"), [c for c in CASES if c[1] in (1, 4)])
def test_how_much_is_sent(name: str, p: int, m: int, v: int) -> None:
    """Each of the S - 1 boundaries is crossed m times in either direction, but for the V's, whose middle is local."""
    schedule = build_pipeline(name, p, m, v)
    program = pipeline_program(schedule, by_stage(equal_times(schedule, 1, 1, 1)), 8)
    crossed = p * v - 1 - (name in ("zbv", "dualpipev"))
    assert len(transfers_of(program)) == (2 * m * crossed if p > 1 else 0)


def test_sends_overlap_compute() -> None:
    """GPipe, 2 ranks, F 10 us, 1 us latency: rank 0 goes on at once; rank 1's k-th forward starts 1 us after its data.

    Rank 0: F at 0, 10, 20. Rank 1: F from 11, 21, 31 to 41, then B of 20 us from 41, 61, 81; B of rank 0 from 62, 82,
    102 to 122 us.
    """
    us = 10**6
    schedule = build_pipeline("gpipe", 2, 3)
    times = [StageTimes(forward_ps=10 * us, input_ps=10 * us, weight_ps=10 * us)] * 2
    topology = star(2, bandwidth=1e18, latency_ps=us // 2)  # two links a route
    assert run_program(pipeline_program(schedule, by_stage(times), 1), topology).finish_ps == 122 * us


def test_an_overlapped_pair_lasts_its_share() -> None:
    schedule = build_pipeline("dualpipev", 2, 4)
    durations = by_stage(equal_times(schedule, 10, 10, 10))
    for share, lasts in ((1.0, 30), (0.75, 22)):  # 22.5 rounds to even
        program = pipeline_program(schedule, durations, 0, overlap=share)
        pairs = [i for i in range(program.num_operations) if "OVERLAP" in program.label_of(i)]
        assert len(pairs) == 6
        assert set(program.duration_ps[pairs].tolist()) == {lasts}


def test_several_pipelines_in_one_program() -> None:
    schedule = build_pipeline("1f1b", 2, 2)
    durations = by_stage(equal_times(schedule, 1, 1, 1))
    build = ProgramBuilder(4)
    add_pipeline(build, schedule, durations, 8, ranks=(0, 2))
    first = len(build)
    add_pipeline(build, schedule, durations, 8, ranks=(1, 3))
    both, alone = build.build(), pipeline_program(schedule, durations, 8, ranks=(1, 3), num_ranks=4)
    assert alone.num_ranks == 4
    assert both.num_operations == first + alone.num_operations
    for number in range(alone.num_operations):
        assert both.waits_of(first + number) == [first + before for before in alone.waits_of(number)]
        assert both.rank[first + number] == alone.rank[number]
    assert set(alone.rank[alone.rank != NOTHING].tolist()) == {1, 3}


def test_durations_may_differ_by_microbatch() -> None:
    """A straggler: microbatch 1 takes 10 times as long on stage 1 of a 1F1B with F = I = W = 1."""
    schedule = build_pipeline("1f1b", 2, 4)

    def durations(action: Action) -> int:
        slow = 10 if (action.stage, action.microbatch) == (1, 1) else 1
        return slow * (1 if action.kind is Pass.FORWARD else 2)

    assert run_program(pipeline_program(schedule, durations, 0), star(2)).finish_ps == 4 * 3 + 3 + 9 * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bytes": -1}, "activation bytes must not be negative and overlap be above 0, not -1 and 1.0"),
        ({"overlap": 0.0}, "activation bytes must not be negative and overlap be above 0, not 8 and 0.0"),
        ({"ranks": (0, 1, 2)}, "pipeline schedule 1f1b has 2 ranks; 3 world ranks are given"),
    ],
)
def test_bad_lowering(arguments: dict, message: str) -> None:
    schedule = build_pipeline("1f1b", 2, 2)
    given = {"num_bytes": 8, "ranks": (0, 1)} | arguments
    with pytest.raises(InputError) as error:
        pipeline_program(schedule, by_stage(equal_times(schedule, 1, 1, 1)), **given)
    assert str(error.value) == message


# Bubbles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "m"), [(4, 8), (8, 32), (2, 1 + 1), (4, 3), (8, 1)])
def test_both_conventions(p: int, m: int) -> None:
    """1F1B: (p - 1) / m of ideal and (p - 1) / (m + p - 1) of total; 21.9 % and 17.9 % are one bubble, p 8 and m 32."""
    schedule = build_pipeline("1f1b", p, m)
    bubble = bubble_of(run(schedule, equal_times(schedule, 5, 6, 7)).passes)
    assert bubble.of_ideal == pytest.approx((p - 1) / m, rel=1e-12)
    assert bubble.of_total == pytest.approx((p - 1) / (m + p - 1), rel=1e-12)
    assert bubble.of_total == pytest.approx(bubble.of_ideal / (1 + bubble.of_ideal))
    assert bubble.of_rank(0) == pytest.approx(bubble.of_total)


@pytest.mark.parametrize(("name", "waits"), [("zb-h2", 0), ("zb-h1", 3), ("1f1b", 9)])
def test_over_the_longest_span_of_a_stage_zb_h2_has_no_bubble(name: str, waits: int) -> None:
    """F = I = W, 4 ranks, 8 microbatches: a stage works 24 units, in ZB-H2 without a pause, each later than the last;
    ZB-H1's first waits (p - 1) (F + I - W) = 3, 1F1B's (p - 1) (F + I + W) = 9.
    """
    p, m = 4, 8
    bubble = bubble_of(run(build_pipeline(name, p, m), equal_times(build_pipeline(name, p, m), 1, 1, 1)).passes)
    assert bubble.of_span == pytest.approx(waits / (3 * m + waits), abs=1e-12)
    assert bubble.of_total >= bubble.of_span


def test_bubble_of_unequal_ranks() -> None:
    bubble = bubble_of([[(1.0, 4.0), (5.0, 6.0)], [(2.0, 11.0)]])
    assert bubble == Bubble(10.0, (4.0, 9.0), 9.0)
    assert (bubble.of_rank(0), bubble.of_total) == pytest.approx((0.6, 0.35))


@pytest.mark.parametrize("spans", [[], [[]], [[(0.0, 1.0)], []], [[(1.0, 1.0)]]])
def test_no_bubble_of_nothing(spans: list) -> None:
    with pytest.raises(InputError, match="a bubble needs"):
        bubble_of(spans)
