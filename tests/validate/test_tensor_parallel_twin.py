# SPDX-License-Identifier: Apache-2.0
"""A tensor-parallel block and its twin, on made-up measurements whose simulated times are known."""

from dataclasses import replace

import pytest

from commbench.calibrate.native import NativeMachine
from commbench.errors import InputError
from commbench.results.tensor_parallel_records import TensorParallelMeasured, TensorParallelSimulated
from commbench.validate.tensor_parallel import calibrated, compare_tensor_parallel, twin
from tests.validate.made_up_blocks import MEBI, TRUTH, alone, as_the_machine_has_it, block, spans_of

REDUCE = ("all-reduce", MEBI)
ALONE_S = TRUTH.predict_s(alone(MEBI))


def seconds(record: TensorParallelSimulated | TensorParallelMeasured, rank: int = 0) -> float:
    """In collectives, in the only iteration."""
    return record.collective_s[rank][0]


def test_an_all_reduce_in_a_block_takes_what_it_takes_alone() -> None:
    """2 ranks: call and copy; two exchanges of half the buffer each way, which is 2 latencies and 2 MiB through the
    memory; and between them the addition of half the buffer."""
    done = twin(block([(spans_of([REDUCE], [0.010]),) * 2], tail_s=0.004), TRUTH)
    assert seconds(done) == pytest.approx(ALONE_S, abs=1e-9)
    assert seconds(done, 1) == pytest.approx(ALONE_S, abs=1e-9)
    assert pytest.approx(0.014 + ALONE_S, abs=1e-9) == done.time_s
    messages_s = 2 * 1e-3 + 2 * MEBI / 4e9
    assert pytest.approx(5e-4 + MEBI / 10e9 + messages_s + MEBI / 2 / 10e9, abs=1e-9) == ALONE_S
    ((_, _, begin, called, wait, end),) = done.spans[0][0]
    assert begin == pytest.approx(0.010)
    assert called - begin == pytest.approx(5e-4 + MEBI / 10e9, abs=1e-9)
    assert wait == pytest.approx(called, abs=1e-12)
    assert end - begin == pytest.approx(ALONE_S, abs=1e-9)


def test_who_comes_first_waits_for_the_last() -> None:
    done = twin(block([(spans_of([REDUCE], [0.010]), spans_of([REDUCE], [0.013]))]), TRUTH)
    assert seconds(done) == pytest.approx(ALONE_S + 0.003, abs=1e-9)
    assert seconds(done, 1) == pytest.approx(ALONE_S, abs=1e-9)
    assert done.exposed_s == pytest.approx(ALONE_S + 0.003, abs=1e-9)
    late = twin(block([(spans_of([REDUCE], [0.010]),) * 2], starts_s=(0.0, 0.002)), TRUTH)
    assert seconds(late) == pytest.approx(ALONE_S + 0.002, abs=1e-9)
    assert seconds(late, 1) == pytest.approx(ALONE_S, abs=1e-9)


def test_what_is_computed_meanwhile_hides_the_collective() -> None:
    """Of a collective under way while 50 ms are computed, the call alone is exposed."""
    done = twin(block([(spans_of([REDUCE], [0.010], overlap_s=0.050),) * 2]), TRUTH)
    assert seconds(done) == pytest.approx(5e-4 + MEBI / 10e9, abs=1e-9)
    partly = twin(block([(spans_of([REDUCE], [0.010], overlap_s=0.001),) * 2]), TRUTH)
    assert seconds(partly) == pytest.approx(ALONE_S - 0.001, abs=1e-9)


def test_copies_of_each_collective_are_torchs() -> None:
    """On 4 ranks: a reduce-scatter is an all-reduce and a copy of the own block; an all-gather copies its own block
    before and the result behind, and sends what the second half of an all-reduce sends."""

    def one(collective: str, machine: NativeMachine = TRUTH) -> float:
        return seconds(twin(block([(spans_of([(collective, MEBI)], [0.001]),) * 4]), machine))

    reduce_s = TRUTH.predict_s(alone(MEBI, 4))
    assert one("all-reduce") == pytest.approx(reduce_s, abs=1e-9)
    assert one("reduce-scatter") == pytest.approx(reduce_s + MEBI / 4 / 10e9, abs=1e-9)
    messages_s = 3 * 1e-3 + 3 * MEBI / 4e9  # 3 hops; each moves a quarter of the buffer on all four ranks
    assert one("all-gather") == pytest.approx(5e-4 + 1.25 * MEBI / 10e9 + messages_s, abs=1e-6)


def test_a_twin_on_the_machine_that_made_the_measurement_is_the_measurement() -> None:
    """The calibration finds the machine from all-reduces alone, whose ranks come late now and then."""
    calls = [REDUCE, ("all-gather", MEBI), ("reduce-scatter", MEBI), REDUCE]
    ranks = tuple(spans_of(calls, [0.001 * (1 + rank), 0.002, 0.003, 0.004]) for rank in range(4))
    measured = as_the_machine_has_it(block([ranks, ranks, ranks], tail_s=0.001))
    points = [alone(size, 4) for size in (MEBI // 4, MEBI, 4 * MEBI)]
    machine = calibrated(points, measured)
    assert machine.machine.latency_s == pytest.approx(1e-3, rel=0.01)
    assert machine.machine.bandwidth == pytest.approx(4e9, rel=0.01)
    assert machine.copy == pytest.approx(10e9)
    assert machine.call_s == pytest.approx(5e-4)
    simulated = twin(measured, machine)
    compared = compare_tensor_parallel(measured, simulated, machine, points)
    assert compared.error == pytest.approx(0, abs=0.01)
    assert compared.fit_error < 0.01
    assert compared.ok
    assert compared.simulated_step_s == pytest.approx(compared.measured_step_s, rel=0.01)
    slow = replace(measured, spans=as_the_machine_has_it(measured, replace(TRUTH, call_s=0.004)).spans)
    worse = compare_tensor_parallel(slow, simulated, machine, points)
    assert worse.error < -0.15
    assert not worse.ok
    assert compare_tensor_parallel(slow, simulated, machine, points, max_error=0.9).ok


def test_figures_are_medians_over_iterations_of_the_slowest_rank() -> None:
    rows = [(spans_of([REDUCE], [0.010]), spans_of([REDUCE], [0.010 + late])) for late in (0.001, 0.002, 0.030)]
    done = twin(block(rows), TRUTH)
    assert done.exposed_s == pytest.approx(ALONE_S + 0.002, abs=1e-9)
    assert done.spread_s == pytest.approx(0.001, abs=1e-9)


def test_what_has_no_twin_is_refused() -> None:
    with pytest.raises(InputError, match="rank 1 called other collectives than rank 0, or in another order"):
        twin(block([(spans_of([REDUCE], [0.01]), spans_of([("all-gather", MEBI)], [0.01]))]), TRUTH)
    with pytest.raises(InputError, match="no twin of broadcast"):
        twin(block([(spans_of([("broadcast", MEBI)], [0.01]),) * 2]), TRUTH)
