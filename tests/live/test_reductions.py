# SPDX-License-Identifier: Apache-2.0
"""Reductions beside the sum, and small elements: exact where they can be, refused where there are none."""

from itertools import product
from pathlib import Path

import pytest

from commbench.collectives.registry import build_schedule
from commbench.errors import InputError
from commbench.live.backend import BACKENDS
from commbench.live.plan import Plan
from commbench.live.reductions import BY_SCHEDULE, OPS

torch = pytest.importorskip("torch")

from commbench.live.check import count_wrong, fill_input, plain_layout  # noqa: E402
from commbench.live.reductions import into, reduced  # noqa: E402

TYPES = ("float32", "bfloat16", "float16", "float64", "int32", "int64", "int8", "uint8")


def filled(rank: int, ranks: int, dtype: str, op: str, size: int = 9000) -> "torch.Tensor":
    memory = torch.zeros(size, dtype=getattr(torch, dtype))
    fill_input(memory, plain_layout("all-reduce", ranks, size), rank, op)
    return memory


@pytest.mark.parametrize(("op", "dtype", "ranks"), list(product(BY_SCHEDULE, TYPES, (2, 3, 9))))
def test_what_a_schedule_reduces_is_right_and_what_it_forgets_is_wrong(op: str, dtype: str, ranks: int) -> None:
    layout = plain_layout("all-reduce", ranks, 9000)
    whole, short = filled(0, ranks, dtype, op), filled(0, ranks, dtype, op)
    for rank in range(1, ranks):
        into(op)(whole, filled(rank, ranks, dtype, op))
        if rank < ranks - 1:
            into(op)(short, filled(rank, ranks, dtype, op))
    assert count_wrong(whole, layout, 0, op) == 0
    assert count_wrong(short, layout, 0, op) > 100
    for other in BY_SCHEDULE:
        if other != op:
            mixed = filled(0, ranks, dtype, op)
            for rank in range(1, ranks):
                into(other)(mixed, filled(rank, ranks, dtype, op))
            assert count_wrong(mixed, layout, 0, op) > 100, f"{other} passes for {op}"


@pytest.mark.parametrize(("dtype", "ranks"), list(product(("float32", "bfloat16", "float16"), (2, 3, 7))))
def test_an_average_may_be_rounded_but_is_no_sum(dtype: str, ranks: int) -> None:
    layout = plain_layout("all-reduce", ranks, 9000)
    total = sum(filled(rank, ranks, dtype, "avg").double() for rank in range(ranks))
    average = (total / ranks).to(getattr(torch, dtype))
    assert count_wrong(average, layout, 0, "avg") == 0
    assert count_wrong(total.to(getattr(torch, dtype)), layout, 0, "avg") > 4000
    assert count_wrong(torch.full_like(average, float("nan")), layout, 0, "avg") == 9000


def test_mulsum_doubles_every_input() -> None:
    rows = [torch.tensor([1, 2]), torch.tensor([3, 4])]
    assert reduced("mulsum", rows, 2).tolist() == [8, 12]
    layout = plain_layout("all-reduce", 3, 9000)
    total = sum(2 * filled(rank, 3, "bfloat16", "mulsum").double() for rank in range(3))
    assert count_wrong(total.bfloat16(), layout, 0, "mulsum") == 0


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bit_floats_are_checked_exactly(dtype: str) -> None:
    """As NCCL would add them: in a wider type, rounded once."""
    layout = plain_layout("all-reduce", 4, 9000)
    total = sum(filled(rank, 4, dtype, "sum").float() for rank in range(4))
    assert count_wrong(total.to(getattr(torch, dtype)), layout, 0) == 0
    assert count_wrong(filled(0, 4, dtype, "sum"), layout, 0) > 4000


def plan(**options: object) -> Plan:
    given = {"collective": "all-reduce", "ranks": 2, "sizes_bytes": (64,), "out": Path("r.jsonl"), "run": "r"}
    return Plan(**(given | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"op": "avg", "backend": "gloo"}, "--op avg: backend gloo has none such; known there: sum, prod, min, max"),
        ({"op": "median"}, "--op 'median' is unknown"),
        ({"dtype": "float8_e5m2", "backend": "strict"}, "--dtype float8_e5m2: backend strict has none such; give --ba"),
        (
            {"op": "avg", "backend": "nccl", "schedule": build_schedule("all-reduce", "ring", 2)},
            "--op avg: algorithm ring has none such; known there: sum, prod, min, max",
        ),
        (
            {"dtype": "float8_e5m2", "backend": "nccl", "schedule": build_schedule("all-reduce", "ring", 2)},
            "--dtype float8_e5m2: algorithm ring adds none such",
        ),
    ],
)
def test_what_a_backend_or_a_schedule_has_not_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(**options)


def test_nccl_has_all_of_them_and_what_does_not_reduce_takes_any() -> None:
    for op in OPS:
        plan(op=op, backend="nccl", dtype="float8_e4m3fn")
    with pytest.raises(InputError, match="backend gloo has none such"):
        plan(op="avg").require_known_to(BACKENDS["gloo"])
    plan(collective="all-gather", op="avg", backend="gloo")


def reduce_by_all(folder: Path, rank: int, num_ranks: int, store: str) -> list[int]:
    """Wrong elements of every reduction, natively and by a schedule, on both backends."""
    from commbench.live.collective import measure_collective
    from commbench.live.progress import Progress
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session

    ring = build_schedule("all-reduce", "ring", num_ranks)
    brief = {"ranks": num_ranks, "iters": 1, "warmup": 0, "sizes_bytes": (48,), "backend": "strict"}
    plans = [plan(**brief, op=op, dtype=dtype, schedule=schedule) for op, dtype, schedule in
             product(BY_SCHEDULE, ("float32", "int8", "bfloat16"), (None, ring))]  # fmt: skip
    plans += [plan(**brief, op="max", collective=name) for name in ("reduce", "reduce-scatter")]
    session = open_session(plans[0], RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(store)), 60.0)
    records = [record for one in plans for record in measure_collective(one, session, Progress())]
    return [record.wrong or 0 for record in records]


@pytest.mark.live
def test_reductions_are_right_on_ranks(tmp_path: Path) -> None:
    from groups import in_world

    wrong, *_ = in_world(3, tmp_path, reduce_by_all, tmp_path, timeout_s=120)
    assert wrong == [0] * 26
