# SPDX-License-Identifier: Apache-2.0
"""The looped form of a program: unrolled it is the flat one, and an engine that runs the loop comes to its spans."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from commbench.collectives.algorithm import Request
from commbench.collectives.registry import ALGORITHMS, build
from commbench.engine import compiled, reference
from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.lowering.expand import expand_rounds, expand_schedule
from commbench.lowering.placing import paths_of, triples_of
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.router import Router
from tests.cases import star
from tests.engine import engine_cases as cases

LOOPED = [a for (_, name), a in sorted(ALGORITHMS.items()) if a.rounds and name == a.name]
REDUCTION = 0.37  # ps per byte: sums that must be rounded


def same(a: FlatProgram, b: FlatProgram) -> None:
    """Field by field."""
    for each in fields(FlatProgram):
        assert np.array_equal(getattr(a, each.name), getattr(b, each.name)), each.name


def both_forms(algorithm, request: Request, num_elements: int) -> tuple[LoopProgram | None, FlatProgram]:
    how = {"num_elements": num_elements, "element_bytes": request.element_bytes, "reduction_ps_per_byte": REDUCTION}
    return expand_rounds(algorithm.rounds(request), **how), expand_schedule(build(algorithm, request), **how)


def test_a_ring_of_two_task_by_task() -> None:
    """Of 10 elements of 4 B in 2 chunks of 20 B, added at 2 ps/B in the first of 2 rounds.

    Message 0 leaves rank 0, message 1 rank 1; task 2 ends the step on rank 0, task 3 on rank 1. A step end waits for
    both messages and for itself a round before; a message for both step ends of the round before.
    """
    request = Request(num_ranks=2)
    loop = expand_rounds(
        ALGORITHMS["all-reduce", "ring"].rounds(request), num_elements=10, element_bytes=4, reduction_ps_per_byte=2.0
    )
    assert loop.kind.tolist() == [TRANSFER, TRANSFER, COMPUTE, COMPUTE]
    assert loop.rank.tolist() == [0, 1, 0, 1]
    assert loop.peer.tolist() == [1, 0, -1, -1]
    assert (loop.num_rounds, loop.num_working, loop.num_tasks, loop.num_transfers) == (2, 1, 8, 4)
    assert (loop.num_bytes.tolist(), loop.duration_ps.tolist()) == ([20, 20], [40, 40])
    rows = [list(zip(loop.needs[a:b].tolist(), loop.lag[a:b].tolist(), strict=True))
            for a, b in zip(loop.first[:-1], loop.first[1:], strict=True)]  # fmt: skip
    assert rows == [[(2, 1), (3, 1)], [(2, 1), (3, 1)], [(0, 0), (1, 0), (2, 1)], [(0, 0), (1, 0), (3, 1)]]
    assert loop.instances().tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert loop.unroll().duration_ps.tolist() == [0, 0, 0, 0, 40, 0, 40, 0]


@pytest.mark.parametrize("algorithm", LOOPED, ids=lambda a: f"{a.collective}/{a.name}")
def test_unrolled_it_is_what_the_schedule_expands_to(algorithm) -> None:
    """Sizes that the chunks divide and that they do not; where chunks are empty there is no loop."""
    forms = Counter()
    for n in range(1, 18):
        for channels in (1, 2, 3, 4):
            for group in (g for g in (1, 2, 4) if n % g == 0):
                request = Request(num_ranks=n, channels=channels, group=group)
                chunks = algorithm.rounds(request).num_chunks
                for num_elements in (n * 5, chunks * 12, chunks * 12 + n * (n > 1), chunks - 1):
                    loop, flat = both_forms(algorithm, request, num_elements)
                    if loop is None:
                        assert n == 1 or num_elements < chunks
                        forms["none"] += 1
                    else:
                        same(loop.unroll(), flat)
                        forms["even" if num_elements % chunks == 0 else "uneven"] += 1
    assert len(LOOPED) == 6
    assert min(forms[kind] for kind in ("none", "even", "uneven")) >= 100


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("algorithm", LOOPED, ids=lambda a: f"{a.collective}/{a.name}")
def test_three_ways_to_one_trace(algorithm, channels: int) -> None:
    """The loop and the flat program in the compiled engine, the flat program in the reference engine."""
    for n, num_elements, overhead_ps in ((2, 64, 0), (3, 1000, 7000), (5, 1201, 0), (8, 8 * 240, 7000), (9, 4001, 900)):
        loop, flat = both_forms(algorithm, Request(num_ranks=n, channels=channels), num_elements)
        topology = star(n, bandwidth=1e9, latency_ps=3000)
        paths = paths_of(*triples_of(loop), Router(topology), np.arange(topology.num_ranks))
        setting = Setting(paths, Processors(overhead_ps))
        program, whole = cases.unrolled(loop, setting)
        same(program, flat)
        expected = cases.outcome(reference.run, flat, whole)
        assert cases.outcome(compiled.run, flat, whole) == expected
        assert cases.outcome(compiled.run, loop, setting) == expected


def test_any_loop_runs_as_its_flat_program() -> None:
    """Random rounds, numbered task by task or round by round, with amounts that go round, and changes."""
    seen: Counter[str] = Counter()

    @given(cases.loops())
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    def compare(case: cases.LoopCase) -> None:
        loop, setting = case
        half = compiled.run(loop, setting).finish_ps // 2
        seen["lasts"] += half > 0
        slow = (Change(half, What.BANDWIDTH, 0, 5e10), Change(half, What.SLOWDOWN, 1, 1.7))
        for changes in ((), slow):
            setting = replace(setting, changes=changes)
            flat, whole = cases.unrolled(loop, setting)
            expected = cases.outcome(reference.run, flat, whole)
            assert cases.outcome(compiled.run, flat, whole) == expected
            assert cases.outcome(compiled.run, loop, setting) == expected
            seen["cases"] += 1

    compare()
    assert seen["cases"] >= 760
    assert seen["lasts"] >= 300


def test_the_numbers_of_the_flat_program_decide_who_is_first() -> None:
    """Task 0 sends from rank 0 to 1 and task 2 from rank 0 to 2, after 20 ps of compute task 1; overhead 5, 10 B.

    Task 0 is posted at 5 and done at 20, when its second round and the first of task 2 are ready together. Numbered
    task by task they are 1 and 4: posted at 25 and 30, done at 40 and 45. Numbered round by round they are 3 and 2:
    done at 45 and 40. Task 1 begins its second round when task 2 has ended its first, and task 2 then 20 ps later.
    """
    same_for_all = dict.fromkeys(("channel", "block", "stride", "piece"), np.zeros(3, np.int64))
    by_task = LoopProgram(
        num_ranks=3,
        kind=np.array([TRANSFER, COMPUTE, TRANSFER]),
        rank=np.array([0, 0, 0]),
        peer=np.array([1, -1, 2]),
        num_rounds=2,
        num_working=2,
        num_bytes=np.array([10]),
        duration_ps=np.array([20]),
        num_blocks=1,
        num_pieces=1,
        base=np.array([0, 2, 4]),
        pitch=np.array([1, 1, 1]),
        first=np.array([0, 1, 3, 5]),
        needs=np.array([0, 1, 2, 1, 2]),
        lag=np.array([1, 1, 1, 0, 1]),
        **same_for_all,
    )
    by_round = replace(by_task, base=np.array([0, 1, 2]), pitch=np.array([3, 3, 3]))
    paths = Paths.of_lists([1e12, 1e12], [[0], [1]], [0, 0], [0, -1, 1])
    setting = Setting(paths, Processors(5))
    assert compiled.run(by_task, setting).end_ps.tolist() == [20, 40, 20, 65, 45, 85]
    assert compiled.run(by_round, setting).end_ps.tolist() == [20, 20, 40, 45, 60, 80]
    for loop in (by_task, by_round):
        flat, whole = cases.unrolled(loop, setting)
        assert reference.run(flat, whole).end_ps.tolist() == compiled.run(loop, setting).end_ps.tolist()
