# SPDX-License-Identifier: Apache-2.0
"""Records of tensor parallelism: figures from spans, and back from their lines."""

import json
from pathlib import Path

import pytest

from commbench.results.journal import Journal, read_records
from commbench.results.kinds import record_from_json
from commbench.results.tensor_parallel_records import TensorParallelCompared
from commbench.validate.tensor_parallel import compare_tensor_parallel, twin
from tests.validate.made_up_blocks import MEBI, TRUTH, alone, block, spans_of

CALLS = [("all-reduce", MEBI), ("all-gather", MEBI)]
MEASURED = block([(spans_of(CALLS, [0.01, 0.02], overlap_s=0.1), spans_of(CALLS, [0.01, 0.03]))] * 3, tail_s=0.5)


def test_time_in_collectives_is_handing_over_and_waiting() -> None:
    """1 ms in each call, whatever is computed before, meanwhile and behind."""
    assert [len(row) for row in MEASURED.collective_s] == [3, 3]
    assert [s for row in MEASURED.collective_s for s in row] == pytest.approx([0.002] * 6)
    assert MEASURED.exposed_s == pytest.approx(0.002)
    assert MEASURED.spread_s == pytest.approx(0)
    assert MEASURED.time_s == pytest.approx(0.01 + 0.02 + 2 * 0.101 + 0.5)
    assert MEASURED.calls == 2


def test_errors_are_signed_and_judged() -> None:
    compared = TensorParallelCompared(
        run="r", method="hand", sequence_parallel=True, backend="gloo", ranks=2, measured_s=0.010, spread_s=0.001,
        simulated_s=0.0088, measured_step_s=0.02, simulated_step_s=0.019, max_error=0.15,
        calibration=((1, 0.1, 0.01, 0.11), (2, 0.2, 0.01, 0.19), (4, 0.4, 0.01, 0.4)),
    )  # fmt: skip
    assert compared.error == pytest.approx(-0.12)
    assert compared.fit_error == pytest.approx(0.05)
    assert compared.ok
    assert json.loads(compared.to_json())["ok"] is True


def test_records_come_back_from_their_lines(tmp_path: Path) -> None:
    points = [alone(MEBI), alone(2 * MEBI)]
    simulated = twin(MEASURED, TRUTH)
    compared = compare_tensor_parallel(MEASURED, simulated, TRUTH, points)
    journal = Journal(tmp_path / "r.jsonl")
    for record in (MEASURED, simulated, compared):
        journal.append(record)
        assert record_from_json(record.to_json(), "line 1") == record
    assert read_records(journal.path) == [MEASURED, simulated, compared]
    kinds = ["tensor-parallel", "tensor-parallel-simulated", "tensor-parallel-compared"]
    assert [record.kind for record in (MEASURED, simulated, compared)] == kinds
    for one in (MEASURED, simulated):
        told = json.loads(one.headline())
        assert "spans" not in told
        assert told["exposed_s"] == one.exposed_s
