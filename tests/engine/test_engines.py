# SPDX-License-Identifier: Apache-2.0
"""The two engines are one: the same spans, shares and errors, to the picosecond, on whatever can be thought of."""

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from commbench.engine import compiled, reference
from commbench.engine.fold import fold
from commbench.engine.kernel.instants import loop_over
from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.network.fluid_kernel import KERNEL
from commbench.program.flat import COMPUTE, TRANSFER
from tests.cases import star
from tests.engine import engine_cases as cases
from tests.engine.loop_cases import ring

FULL = "COMMBENCH_FULL"


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    """What the cases of this module had in them."""
    return Counter()


def try_many(strategy: Callable, count: int, seen: Counter[str]) -> None:
    """So many random cases through both engines."""

    @given(strategy())
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    def compare(case: cases.Case) -> None:
        cases.agree(*case, seen)

    compare()


GRID = {cases.steady_cases: 1300, cases.changing_cases: 1400, cases.endless_cases: 300}


@pytest.mark.parametrize("strategy", GRID, ids=lambda strategy: strategy.__name__)
def test_random_programs(strategy: Callable, seen: Counter[str]) -> None:
    try_many(strategy, GRID[strategy], seen)


def test_what_was_tried(seen: Counter[str]) -> None:
    """The trial cannot quietly shrink: so many cases, and so many with each thing that may go wrong."""
    if seen["cases"] < sum(GRID.values()):
        pytest.skip("only some of the cases were run in this session")
    assert seen["cases"] >= 3000
    least = {"trace": 2500, "error": 100, "cut": 30, "coupled": 1500, "overhead": 800, "pools": 800, "weights": 600}
    least |= {"over no link": 1000} | {f"change of {what.name}": 400 for what in What}
    assert not {name: seen[name] for name, count in least.items() if seen[name] < count}


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get(FULL), reason=f"takes minutes: set {FULL}=1")
@pytest.mark.parametrize("strategy", GRID, ids=lambda strategy: strategy.__name__)
def test_ten_times_as_many(strategy: Callable) -> None:
    seen: Counter[str] = Counter()
    try_many(strategy, 10 * GRID[strategy], seen)
    assert seen["cases"] >= 9 * GRID[strategy]  # the same case drawn twice is run once


# Many at once ------------------------------------------------------------------------------------------------------


def crowd(rng: random.Random, size: int) -> cases.Case:
    """Hundreds of flows in the network at a time, most of their ends foreseen anew whenever one comes or goes."""
    rows = []
    for task in range(size):
        needs = rng.sample(range(task), min(task, rng.choice((0, 0, 1, 2))))
        kind = rng.choice((TRANSFER,) * 8 + (COMPUTE,))
        moves = kind == TRANSFER
        amounts = (rng.randrange(1, 10**7), 10**6)
        rows.append(
            (
                kind,
                rng.randrange(8),
                rng.randrange(8) if moves else -1,
                rng.choice(amounts) * moves,
                rng.randrange(10**6) * (not moves),
                needs,
            )
        )
    program = cases.program_of(rows)
    routes = [rng.sample(range(6), rng.randint(1, 3)) for _ in range(12)]
    route_of = [rng.randrange(12) if row[0] == TRANSFER else -1 for row in rows]
    latency = [rng.choice((0, 10**5, rng.randrange(10**6))) for _ in routes]
    paths = Paths.of_lists([rng.uniform(1e11, 1e13) for _ in range(6)], routes, latency, route_of)
    return program, Setting(paths, Processors(rng.choice((0, 1000)), None, 1))


@pytest.mark.parametrize("seed", range(6))
def test_a_crowd(seed: int) -> None:
    cases.agree(*crowd(random.Random(seed), 100 * (seed + 1)), Counter())


def test_many_that_change_their_end_at_once() -> None:
    """300 flows on one link, each of another size, entering one after the other: 45,000 ends foreseen, 300 true.

    So the queue of the compiled engine is full of times at which nothing happens any more.
    """
    program = cases.program_of([(TRANSFER, 0, 1, 10**6 + 7919 * task, 0, ()) for task in range(300)])
    paths = Paths.of_lists([1e12], [[0]] * 300, [1000 * task for task in range(300)], range(300))
    cases.agree(program, Setting(paths), Counter())


def test_everything_at_once() -> None:
    """1000 alike transfers on 10 links: one end for all."""
    program = cases.program_of([(TRANSFER, 0, 1, 10**6, 0, ()) for _ in range(1000)])
    trace = compiled.run(
        program,
        setting := Setting(
            Paths.of_lists([1e12] * 10, [[i] for i in range(10)], [5] * 10, [task % 10 for task in range(1000)])
        ),
    )
    assert set(trace.end_ps.tolist()) == {10**8 + 5}
    cases.agree(program, setting, Counter())


@pytest.mark.parametrize("longer", [2, 5])
def test_all_flows_of_a_route_move_to_a_longer_one(longer: int) -> None:
    """50 flows over one link each take several later: there must be room for all their places on links."""
    program = cases.program_of([(TRANSFER, 0, 1, 1000 + task, 0, ()) for task in range(50)])
    paths = Paths.of_lists([1e12] * 6, [[0], list(range(1, longer + 1))], [0, 0], [0] * 50)
    changes = tuple(Change(100 + 50 * i, What.ROUTE, 0, 1 - i % 2) for i in range(4))
    cases.agree(program, Setting(paths, changes=changes), Counter())


def test_a_flow_moves_at_the_instant_at_which_it_ends() -> None:
    """100 and 300 B share a link until 200; the other one ends at 400, when its route moves to no link, or another."""
    program = cases.program_of([(TRANSFER, 0, 1, num_bytes, 0, ()) for num_bytes in (100, 300)])
    paths = Paths.of_lists([1e12, 1e12], [[0], [], [1]], [0, 0, 0], [0, 0])
    for route in (1, 2):
        cases.agree(program, Setting(paths, changes=(Change(400, What.ROUTE, 0, route),)), Counter())


# One engine with itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [1, 7])
def test_pauses_change_nothing(pause: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled engine comes up for air now and then: it must go on where it was, and tell how far it is."""
    program, setting = crowd(random.Random(1), 100)
    setting = replace(setting, changes=(Change(0, What.SLOWDOWN, 0, 3.0), Change(10**5, What.BANDWIDTH, 0, 1e9)))
    whole = cases.outcome(compiled.run, program, setting)
    monkeypatch.setattr(compiled, "_PAUSE", pause)
    assert cases.outcome(compiled.run, program, setting) == whole
    told: list[float] = []
    compiled.run(program, setting, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 50 // pause
    assert 0.0 <= told[0] <= told[-1] <= 1.0


def test_a_run_without_a_trace_ends_at_the_same_time() -> None:
    program, setting = crowd(random.Random(2), 100)
    whole, short = compiled.run(program, setting), compiled.run(program, setting, keep_trace=False)
    assert (short.finish_ps, short.num_shares) == (whole.finish_ps, whole.num_shares)
    assert len(short.start_ps) == len(short.end_ps) == 0


def test_a_run_leaves_its_setting_as_it_was() -> None:
    program, setting = crowd(random.Random(3), 100)
    setting = replace(setting, changes=(Change(10, What.BANDWIDTH, 0, 1e9), Change(20, What.ROUTE, 0, 1)))
    for engine in (reference.run, compiled.run):
        assert cases.outcome(engine, program, setting) == cases.outcome(engine, program, setting)


def test_an_empty_program() -> None:
    program = cases.program_of([])
    setting = Setting(Paths.of_lists([1e12], [], [], []))
    for engine in (reference.run, compiled.run):
        trace = engine(program, setting)
        assert (trace.finish_ps, trace.num_shares, trace.start_ps.tolist()) == (0, 0, [])


def test_one_kernel_serves_all_programs() -> None:
    """Compiling takes longer than most simulations: no kind of program or array may need a second kernel."""
    program, setting = crowd(random.Random(4), 50)
    paths = setting.paths
    fixed = [np.array(column) for column in (paths.first, paths.links, paths.latency_ps, paths.route_of)]
    for column in fixed:
        column.flags.writeable = False
    first, links, latency_ps, route_of = fixed
    compiled.run(program, setting)
    compiled.run(program, replace(setting, paths=Paths(paths.bandwidths, first, links[::1], latency_ps, route_of)))
    compiled.run(replace(program, num_bytes=program.num_bytes.astype(np.int32)), setting, keep_trace=False)
    loop = ring(star(4), 4)
    compiled.run_steady(*loop)
    compiled.run(fold(*loop).program, fold(*loop).setting, keep_trace=False)
    assert len(loop_over(KERNEL).kinds) == 1
