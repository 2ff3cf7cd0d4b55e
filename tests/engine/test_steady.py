# SPDX-License-Identifier: Apache-2.0
"""Rounds that repeat are skipped, and nothing else changes: the end and the number of sharings stay the same."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from commbench.engine import compiled
from commbench.engine.kernel import counters as c
from commbench.engine.kernel.instants import loop_over
from commbench.engine.model import Model, build_model
from commbench.engine.setting import CUT_OFF, Change, CutOff, Setting, What
from commbench.engine.steady import Steady, alike
from commbench.errors import InputError
from commbench.network.fluid_kernel import KERNEL
from tests.cases import leaf_spine, star
from tests.engine import engine_cases as cases
from tests.engine.loop_cases import busy_ring, fabric, ring

RINGS = ("ring", "ring-bidirectional")


def skipped(case: cases.LoopCase) -> int:
    """Rounds that were skipped, once it is sure that the answer is that of simulating all."""
    whole = compiled.run(*case)
    short, rounds = compiled.run_steady(*case)
    assert (short.finish_ps, short.num_shares) == (whole.finish_ps, whole.num_shares)
    assert whole.finish_ps == whole.end_ps.max()
    assert 0 <= rounds < case[0].num_rounds
    return rounds


@pytest.mark.parametrize(
    ("algorithm", "overhead_ps", "kept", "kept_adding"),
    [("ring", 0, 4, 7), ("ring", 1000, 4, 7), ("ring-bidirectional", 0, 4, 7), ("ring-bidirectional", 1000, 5, 9)],
)
def test_a_ring_on_a_star(algorithm: str, overhead_ps: int, kept: int, kept_adding: int) -> None:
    """All ranks do the same in every round: a few rounds at either end are simulated, whatever the number of ranks.

    With additions the rounds that add repeat themselves, and then those that do not: two beginnings, two ends.
    """
    for n in (8, 32, 64):
        case = ring(star(n), n, algorithm=algorithm, overhead_ps=overhead_ps)
        assert skipped(case) == 2 * (n - 1) - kept
        adds = ring(star(n), n, algorithm=algorithm, overhead_ps=overhead_ps, reduction_ps_per_byte=0.3)
        assert skipped(adds) == 2 * (n - 1) - kept_adding


SKIPPED = {  # (fabric, routing, placement, channels): rounds of an all-reduce on all its ranks, and of them skipped
    ("leaf-spine-16-4to1", "d-mod-k", "linear", 1): (30, 22),
    ("leaf-spine-16-4to1", "d-mod-k", "random", 1): (30, 23),
    ("leaf-spine-16-4to1", "ecmp", "linear", 2): (30, 22),
    ("leaf-spine-16-4to1", "ecmp", "random", 2): (30, 5),
    ("fat-tree-k4", "ecmp", "random", 1): (30, 23),
    ("fat-tree-64", "d-mod-k", "linear", 1): (126, 114),
    ("fat-tree-64", "ecmp", "linear", 2): (126, 114),
    ("fat-tree-64", "ecmp", "random", 1): (126, 27),
    ("fat-tree-64", "ecmp", "random", 2): (126, 0),  # many flows cross, and a period is not found in time
    ("dgx-h100-x4", "d-mod-k", "linear", 2): (62, 50),
}


@pytest.mark.parametrize("where", SKIPPED, ids=lambda where: "-".join(map(str, where)))
def test_rings_on_fabrics(where: tuple[str, str, str, int]) -> None:
    """Most rounds are skipped where the fabric is regular, fewer where flows collide; the answer stays the same."""
    case = busy_ring(*where)
    assert (case[0].num_rounds, skipped(case)) == SKIPPED[where]


def test_shared_processors() -> None:
    """Their messages queue, in the same way every round."""
    assert skipped(ring(fabric("shared-memory-4"), 4, overhead_ps=None, chunk_elements=10**6)) == 2
    loop, setting = ring(leaf_spine(16, hosts_per_leaf=4, spines=1), 16, channels=2, overhead_ps=5000)
    pools = tuple(rank // 4 for rank in range(16))
    shared = [replace(setting, processors=replace(setting.processors, pools=pools, pool_size=k)) for k in (1, 2, 3)]
    assert [skipped((loop, each)) for each in shared] == [22, 26, 26]


def test_a_wide_grid() -> None:
    """Channels, worlds, collectives, collisions, overheads and additions, each with each."""
    topology = leaf_spine(16, hosts_per_leaf=4, spines=2)
    total = 0
    grid = product((5, 12, 16), ("all-reduce", "all-gather"), RINGS, (1, 3), (0, 3000), (0.0, 0.7), range(2))
    for n, collective, algorithm, channels, overhead_ps, reduction, seed in grid:
        total += skipped(
            ring(
                topology,
                n,
                collective=collective,
                algorithm=algorithm,
                channels=channels,
                overhead_ps=overhead_ps,
                reduction_ps_per_byte=reduction,
                routing="ecmp",
                placement=("linear", "random")[seed],
                seed=seed,
            )
        )
    assert total == 883


def test_any_loop() -> None:
    """Random rounds that are all alike: whatever is skipped, the answer is that of simulating all."""
    seen: Counter[str] = Counter()

    @given(cases.loops(even=True))
    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    def compare(case: cases.LoopCase) -> None:
        try:
            seen["skipped"] += skipped(case) > 0
        except InputError:  # it passes the end of time: skipping must not make it end
            with pytest.raises(InputError, match="passes 9223372036854775807 ps"):
                compiled.run_steady(*case)
        seen["cases"] += 1

    compare()
    assert seen["cases"] >= 480
    assert seen["skipped"] >= 150


# What counts as the same -------------------------------------------------------------------------------------------


def in_full_swing(busy: bool) -> tuple[Model, Steady]:
    """A ring where flows collide, some way into it, when a flow is under way, or else a processor busy."""
    topology = fabric("leaf-spine-16-4to1")
    loop, setting = ring(
        topology, 16, overhead_ps=10_000_000, routing="ecmp", placement="random", chunk_elements=50_000
    )
    model = build_model(loop, setting, keep_trace=False)
    steady = Steady(model, loop)
    model.n[c.WATCHED_ROUND] = loop.num_rounds
    while True:
        assert loop_over(KERNEL)(model, loop.num_tasks, 1) == c.RUNNING
        flowing = bool(np.any(model.slots["state"][: model.n[c.SLOTS]] == c.FLOWING))
        if model.n[c.FINISHED] > 100 and (np.any(model.free > model.n[c.NOW]) if busy else flowing):
            return model, steady


@pytest.mark.parametrize("what", ["left", "rate", "since", "state", "time", "round", "missing", "free"])
def test_the_least_difference_makes_another_state(what: str) -> None:
    """In the last bit of what is left of a flow as much as in the round of a task."""
    model, steady = in_full_swing(what == "free")
    before = steady._state(0)
    assert np.array_equal(steady._state(0), before)
    slot = int(np.argmax(model.slots["state"][: model.n[c.SLOTS]] == c.FLOWING))
    record = model.slots[slot]
    match what:
        case "left" | "rate":
            record[what] = np.nextafter(record[what], 0.0)
        case "since":
            record[what] -= 1
        case "state":
            record[what] = c.LATENCY
        case "time":
            model.network.flows["end"][slot] += 1
        case "round" | "missing":
            model.tasks[what][5] += 1
        case "free":
            free = model.free
            free[free > model.n[c.NOW]] += 1
    assert not np.array_equal(steady._state(0), before)


def test_the_same_later_is_the_same() -> None:
    """Processors that have long been free are alike, however long; so are times, told from now, and rounds."""
    model, steady = in_full_swing(busy=True)
    before = steady._state(7)
    free = model.free
    free[free <= model.n[c.NOW]] = 0
    ends = (model.queue.buckets["time"], model.network.queue.buckets["time"], model.network.flows["end"])
    for times in (model.n[c.NOW : c.NOW + 1], free, model.slots["since"], *ends):
        times += 1000
    model.tasks["round"] += 3
    assert np.array_equal(steady._state(10), before)


# What must not be skipped ------------------------------------------------------------------------------------------


def test_unequal_chunks() -> None:
    """One chunk of 64 has an element more, so that no two rounds are alike."""
    loop, setting = ring(star(64), 64, extra_elements=1)
    assert not alike(loop)
    assert skipped((loop, setting)) == 0


def test_unequal_durations() -> None:
    loop, setting = ring(star(16), 16, reduction_ps_per_byte=1.0)
    durations = loop.duration_ps.copy()
    durations[3] += 1
    assert alike(loop)
    uneven = replace(loop, duration_ps=durations)
    assert not alike(uneven)
    assert skipped((uneven, setting)) == 0


@pytest.mark.parametrize(
    ("change", "early", "in_time"),
    [
        (Change(1, What.BANDWIDTH, 5, 1e9), 26, 16),
        (Change(1, What.SLOWDOWN, 3, 2.5), 13, 0),
        (Change(1, What.ROUTE, 2, 3), 33, 23),
    ],
    ids=lambda value: value.what.name if isinstance(value, Change) else "",
)
def test_nothing_is_skipped_while_a_change_is_due(change: Change, early: int, in_time: int) -> None:
    """One that is due after the end keeps all 62 rounds; of one at a third, the rounds behind it may be skipped."""
    loop, setting = ring(star(32), 32, reduction_ps_per_byte=0.3)
    end_ps = compiled.run(loop, setting).finish_ps

    def rounds(time_ps: int) -> int:
        return skipped((loop, replace(setting, changes=(replace(change, time_ps=time_ps),))))

    assert [rounds(time_ps) for time_ps in (1, end_ps // 3, end_ps // 2, 10 * end_ps)] == [early, in_time, 0, 0]


def test_a_change_in_what_is_skipped_would_be_seen() -> None:
    """Two changes: rounds between them are simulated as well, since the second is still due."""
    loop, setting = ring(star(32), 32)
    end_ps = compiled.run(loop, setting).finish_ps
    changes = (Change(end_ps // 4, What.BANDWIDTH, 5, 1e9), Change(end_ps // 2, What.BANDWIDTH, 5, 12.5e9))
    assert 0 < skipped((loop, replace(setting, changes=changes))) < 40


# Errors ------------------------------------------------------------------------------------------------------------


def test_a_cut_route_is_found() -> None:
    loop, setting = ring(star(32), 32)
    cut = replace(setting, changes=(Change(10**7, What.ROUTE, 4, CUT_OFF),))
    with pytest.raises(CutOff) as whole:
        compiled.run(loop, cut)
    with pytest.raises(CutOff) as short:
        compiled.run_steady(loop, cut)
    assert short.value.args == whole.value.args


@pytest.mark.parametrize("num_ranks", [137, 200, 500])
def test_skipped_rounds_may_not_pass_the_end_of_time_either(num_ranks: int) -> None:
    """A round of 2**33 elements of 4 B at 1 MB/s takes 3.4e16 ps: 268 of them fit into 64 bits, 2(n-1) do not."""
    loop, setting = ring(star(num_ranks, bandwidth=1e6), num_ranks, chunk_elements=2**33)
    for run in (compiled.run, compiled.run_steady):
        with pytest.raises(InputError, match="passes 9223372036854775807 ps"):
            run(loop, setting)


def test_just_before_the_end_of_time() -> None:
    """With 135 ranks there are 268 rounds."""
    loop, setting = ring(star(135, bandwidth=1e6), 135, chunk_elements=2**33)
    assert skipped((loop, setting)) == 264


def test_progress_is_told() -> None:
    loop, setting = ring(star(64), 64, extra_elements=1)
    told: list[float] = []
    compiled.run_steady(loop, setting, progress=told.append)
    assert told == sorted(told)
    assert np.all(np.array(told) <= 1.0)
    assert isinstance(setting, Setting)
