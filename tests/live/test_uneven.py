# SPDX-License-Identifier: Apache-2.0
"""All-to-all-v of uneven pieces: what files and Zipf's law say, room for a row and a column alone, and its time."""

from pathlib import Path

import pytest

from commbench.calibrate.fit import predict_s
from commbench.calibrate.machine import Machine
from commbench.collectives.algorithms.alltoall import all_to_all_v
from commbench.collectives.schedule import chunk_offsets
from commbench.collectives.uneven import UnevenSizes, zipf_weights
from commbench.compare.definition import point_of
from commbench.errors import InputError
from commbench.experiments.collective_options import CollectiveOptions
from commbench.experiments.simulated import prepare
from commbench.live.kinds import job_of
from commbench.live.plan import Plan
from commbench.results.records import Simulated
from tests.report import samples

torch = pytest.importorskip("torch")

MATRIX = "0, 100, 0, 5  # what rank 0 has\n300,0,10,0\n\n1,1,1,1\n0,0,0,0\n"


def written(folder: Path, text: str = MATRIX) -> UnevenSizes:
    path = folder / "m.csv"
    path.write_text(text, encoding="utf-8")
    return UnevenSizes(matrix=path)


def test_a_matrix_is_read_row_by_row(tmp_path: Path) -> None:
    assert written(tmp_path).weights("all-to-all-v", 4) == (0, 100, 0, 5, 300, 0, 10, 0, 1, 1, 1, 1, 0, 0, 0, 0)
    assert UnevenSizes().weights("all-reduce", 4) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3", "line 2: 1 entries, but there are 2 ranks"),
        ("1,2\n", "1 lines, but 2 ranks: give one for each sender"),
        ("1,-2\n3,4", "line 1: '-2' must be a whole number from 0"),
        ("0,0\n0,0", "all entries are 0, so nothing is sent"),
        ("1,2.5\n3,4", "'2.5' must be a whole number"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        written(tmp_path, text).weights("all-to-all-v", 2)


def test_other_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--zipf 1 has no meaning for all-to-all: give all-to-all-v"):
        UnevenSizes(zipf=1.0).weights("all-to-all", 2)
    with pytest.raises(InputError, match="give one of them"):
        UnevenSizes(tmp_path, 1.0).weights("all-to-all-v", 2)
    for exponent in (-1.0, float("nan"), 99.0):
        with pytest.raises(InputError, match="must be from 0"):
            zipf_weights(exponent, 2)


def test_zipf_is_one_over_the_rank_to_the_power() -> None:
    assert zipf_weights(1.0, 4)[:4] == (10000, 5000, 3333, 2500)
    assert set(zipf_weights(0.0, 3)) == {10000}


def test_large_weights_are_cut_exactly() -> None:
    huge = (2**40, 3 * 2**40, 0, 2**42)
    assert chunk_offsets(2**30, 4, huge).tolist() == [0, 2**27, 2**29, 2**29, 2**30]


@pytest.mark.parametrize("algorithm", ["direct", "pairwise"])
def test_a_rank_has_room_for_its_row_and_its_column_alone(algorithm: str, tmp_path: Path) -> None:
    from commbench.live.check import layout_of, own_part, own_part_of, plain_layout

    weights, size = written(tmp_path).weights("all-to-all-v", 4), 420
    matrix = torch.tensor(weights).reshape(4, 4)
    schedule = all_to_all_v(matrix.tolist(), algorithm)
    layout = plain_layout("all-to-all-v", 4, size, weights=weights)
    for rank in range(4):
        room = int((matrix[rank].sum() + matrix[:, rank].sum()) * size / matrix.sum())
        part, offsets = own_part_of(schedule, layout_of(schedule, size), rank)
        assert abs(own_part(layout, rank).memory_elements - room) <= 4  # borders are rounded down
        assert part.memory_elements == offsets[-1] == own_part(layout, rank).memory_elements
    assert layout.memory_elements == 2 * size


def test_the_fullest_link_decides_on_a_star(tmp_path: Path) -> None:
    """Rank 1 sends 310 of 419 parts of four rows of 1 MiB, no rank gets more (301); 1 % is left for latency."""
    path = written(tmp_path).matrix
    options = CollectiveOptions(collective="all-to-all-v", topology="star-8", ranks=4, matrix=str(path))
    case = prepare(options, [("1M", "1M", None, None)], lambda _: None)
    record = case.run(2**20).record
    assert isinstance(record, Simulated)
    assert len(record.weights) == 16
    rate = float(case.fabric.bandwidths.max())
    assert record.time_s == pytest.approx(310 / 419 * 4 * 2**20 / rate, rel=0.01)


def test_a_plan_and_a_record_say_the_sizes(tmp_path: Path) -> None:
    weights = zipf_weights(1.0, 2)
    given = {"collective": "all-to-all-v", "ranks": 2, "sizes_bytes": (64,), "out": Path("r.jsonl"), "run": "r"}
    plan = Plan(**given, weights=weights, schedule=all_to_all_v([weights[:2], weights[2:]]))  # type: ignore[arg-type]
    assert job_of(plan.to_json()) == plan
    with pytest.raises(InputError, match="has other sizes for its pairs than the run"):
        Plan(**given, schedule=plan.schedule)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="3 weights: all-to-all-v on 2 ranks has none such"):
        Plan(**given, weights=(1, 2, 3))  # type: ignore[arg-type]
    even, uneven = (samples.measured(collective="all-to-all-v", algorithm="pairwise", ranks=2, weights=each,
                                     busbw_factor=0.5) for each in ((), (1, 0, 0, 1)))  # fmt: skip
    assert point_of(even).definition != point_of(uneven).definition
    machine = Machine(
        name="m", cores=4, message_overhead_s=1e-6, latency_s=1e-6, bandwidth=1e9, reduction=1e9, source="test"
    )
    assert predict_s(machine, uneven) < predict_s(machine, even)  # each keeps what it has


@pytest.mark.live
def test_uneven_pieces_arrive_on_both_backends(tmp_path: Path) -> None:
    from groups import Case, count_wrong_elements

    weights = written(tmp_path).weights("all-to-all-v", 4)
    schedules = [all_to_all_v(torch.tensor(weights).reshape(4, 4).tolist(), name) for name in ("direct", "pairwise")]
    cases = [
        Case(schedule, 1000, strict=strict, runs=2, collective="all-to-all-v", weights=weights)
        for strict in (False, True)
        for schedule in (None, *schedules)
    ]
    assert count_wrong_elements(4, tmp_path, cases, timeout_s=120) == [0] * len(cases)
