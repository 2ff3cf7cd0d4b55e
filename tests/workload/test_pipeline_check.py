# SPDX-License-Identifier: Apache-2.0
"""The CSV of a schedule, the grid, and what the checker refuses: every mutation of a good schedule."""

import random
from pathlib import Path

import pytest

from commbench.errors import ScheduleError
from commbench.workload.pipeline.check import check_pipeline, grid
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Action, Overlap, Pass, PipelineSchedule, Step
from commbench.workload.pipeline.text import from_csv, read_pipeline, to_csv
from tests.workload.pipelines import CASES

SMALL = [case for case in CASES if case[1] in (2, 3) and case[2] <= 7]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_text_round_trip(case: tuple[str, int, int, int]) -> None:
    schedule = build_pipeline(*case)
    text = to_csv(schedule)
    again = from_csv(text, schedule.name)
    assert again == schedule
    assert again.rank_of_stage == schedule.rank_of_stage
    assert to_csv(again) == text


def test_csv_text() -> None:
    assert to_csv(build_pipeline("1f1b", 2, 2)) == "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"
    assert "(0F3;3B1)OVERLAP_F_B,(3F2;0B0)OVERLAP_F_B" in to_csv(build_pipeline("dualpipev", 2, 4))


def test_torchs_own_files_are_read(tmp_path: Path) -> None:
    """What torch's runtime dumps, with pauses and with communication, and what it reads."""
    schedules = pytest.importorskip("torch.distributed.pipelining.schedules", reason="needs torch")
    from tests.workload.torch_orders import Recorder

    for name, torch_name in (("zb-h1", "InterleavedZeroBubble"), ("dualpipev", "DualPipeV")):
        stages = [Recorder(i * 2, 4, 2) for i in range(2)]
        runtime = schedules.get_schedule_class(torch_name)(stages, 4)
        ours = build_pipeline(name, 2, 4, 2)
        for form in ("compute_only", "compute_comms"):
            runtime._dump_csv(str(tmp_path / f"{form}.csv"), form)
            assert read_pipeline(tmp_path / f"{form}.csv").orders == ours.orders
        (tmp_path / "ours.csv").write_text(to_csv(ours))
        other = schedules._PipelineScheduleRuntime([Recorder(i * 2, 4, 2) for i in range(2)], 4)
        other._load_csv(str(tmp_path / "ours.csv"))
        assert [[str(a) for a in order] for order in other.pipeline_order.values()] == [
            [str(step) for step in order] for order in ours.orders
        ]


def test_grid() -> None:
    assert grid(build_pipeline("1f1b", 2, 3)) == (
        "        rank 0  rank 1\n"
        "step 0  0F0\n"
        "step 1  0F1     1F0\n"
        "step 2          1B0\n"
        "step 3  0B0     1F1\n"
        "step 4  0F2     1B1\n"
        "step 5  0B1     1F2\n"
        "step 6          1B2\n"
        "step 7  0B2\n"
    )


BAD_CSV = [
    ("0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1,1X2\n", "x.csv, row 2, cell 5: '1X2' is no action; an action is stage, pass "
     "(F, B, I or W) and microbatch, for example 2F0"),
    ("0F0junk\n", "x.csv, row 1, cell 1: '0F0junk' is no action; an action is stage, pass (F, B, I or W) and "
     "microbatch, for example 2F0"),
    ("", "x.csv: holds no pass; a row per rank with cells like 0F0 is expected"),
    ("0F9999999999\n", "x.csv, row 1, cell 1: '0F9999999999' names a stage or microbatch above 1000000"),
    ("0F" + "9" * 5000, "x.csv, row 1, cell 1: '0F9999999999...9999999999999' "
     "names a stage or microbatch above 1000000"),
    ("0F0,\0," + "x" * 200_000, "x.csv: is no CSV: field larger than field limit (131072)"),
    ("0F0,0F2,0B0,0B2\n", "pipeline schedule x.csv: stage 0 skips microbatch 1: 0F1 is missing"),
    ("0F0,0F1,0B0,0B1\n1F0,1B0\n", "pipeline schedule x.csv: stage 1 skips microbatch 1: 1F1 is missing"),
    ("0F0,0F1,0B0\n", "pipeline schedule x.csv: stage 0, microbatch 1: backward must be B once, or I and W once each; "
     "found nothing"),
    ("0F0,0I0\n", "pipeline schedule x.csv: stage 0, microbatch 0: backward must be B once, or I and W once each; "
     "found I"),
    ("0F0,0B0,0W0\n", "pipeline schedule x.csv: stage 0, microbatch 0: backward must be B once, or I and W once each; "
     "found BW"),
    ("0F0,0F0,0B0\n", "pipeline schedule x.csv: rank 0, step 1: 0F0 is there twice, first on rank 0, step 0"),
    ("0F0,1F0,1B0,0B0\n1F1\n", "pipeline schedule x.csv: stage 1 is on rank 0 and, by 1F1, on rank 1; "
     "a stage stands on one rank"),
    ("0F0,2F0,2B0,0B0\n", "pipeline schedule x.csv: stage 1 has no action; stages are 0..2"),
    ("(0B0;0F0)OVERLAP_F_B\n", "x.csv, row 1, cell 1: '(0B0;0F0)OVERLAP_F_B' must overlap an F with a B, "
     "in this order"),
    ("0B0,0F0\n", "pipeline schedule x.csv: deadlock after 0 ticks: rank 0 waits in 0B0 for F of stage 0, "
     "microbatch 0"),
    ("0F0,0W0,0I0\n", "pipeline schedule x.csv: deadlock after 1 ticks: rank 0 waits in 0W0 for B or I of stage 0, "
     "microbatch 0"),
    ("0F0,0F1,0B1,0B0\n1F0,1B0,1F1,1B1\n", ""),
    ("0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n", "pipeline schedule x.csv: deadlock after 1 ticks: rank 0 waits in 0B0 for B "
     "or I of stage 1, microbatch 0; rank 1 waits in 1F1 for F of stage 0, microbatch 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_CSV)
def test_bad_csv(text: str, message: str) -> None:
    if not message:  # odd, but it ends
        check_pipeline(from_csv(text, "x.csv"))
        return
    with pytest.raises(ScheduleError) as error:
        from_csv(text, "x.csv")
    assert str(error.value) == message


def test_a_deadlock_shows_the_grid() -> None:
    with pytest.raises(ScheduleError) as error:
        from_csv("0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n", "x.csv")
    assert error.value.grid == (
        "        rank 0  rank 1\n"
        "step 0  0F0\n"
        "step 1  0B0     1F1  <-- stuck\n"
    )  # fmt: skip


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"missing\.csv: cannot be read"):
        read_pipeline(tmp_path / "missing.csv")


def _mutations(orders: tuple[tuple[Step, ...], ...], seed: int) -> list[tuple[str, list[list[Step]]]]:
    """A schedule with one step dropped, doubled, moved to another rank, renumbered, or put before what it needs."""
    pick = random.Random(seed)
    rank = pick.randrange(len(orders))
    at = pick.randrange(len(orders[rank]))

    def edited(change: str) -> list[list[Step]]:
        lists = [list(order) for order in orders]
        step = lists[rank][at]
        if change == "drop":
            del lists[rank][at]
        elif change == "double":
            lists[rank].insert(at, step)
        elif change == "move":
            lists[(rank + 1) % len(lists)].append(lists[rank].pop(at))
        elif change == "renumber":
            first = step.parts[0]
            lists[rank][at] = Action(first.stage, first.kind, first.microbatch + 1)
        else:  # a backward before its own forward
            own = step.parts[0]
            forward = next(
                i for i, s in enumerate(lists[rank])
                if any((a.stage, a.kind, a.microbatch) == (own.stage, Pass.FORWARD, own.microbatch) for a in s.parts)
            )  # fmt: skip
            backward = next(
                i for i, s in enumerate(lists[rank])
                if any(a.kind in (Pass.BACKWARD, Pass.INPUT) and (a.stage, a.microbatch) == (own.stage, own.microbatch)
                       for a in s.parts)
            )  # fmt: skip
            lists[rank].insert(forward, lists[rank].pop(backward))
        return lists

    return [(change, edited(change)) for change in ("drop", "double", "move", "renumber", "early")]


def _refused(num_microbatches: int, lists: list[list[Step]]) -> bool:
    try:
        check_pipeline(PipelineSchedule("mutant", num_microbatches, tuple(map(tuple, lists))))
    except ScheduleError:
        return True
    return False


@pytest.mark.parametrize("seed", range(3))
def test_every_mutation_is_refused(seed: int) -> None:
    refused = 0
    for case in SMALL:
        schedule = build_pipeline(*case)
        for change, lists in _mutations(schedule.orders, seed):
            assert _refused(schedule.num_microbatches, lists), (case, change)
            refused += 1
    assert refused == 5 * len(SMALL) >= 200


def test_an_overlap_whose_inputs_come_from_its_own_forward_deadlocks() -> None:
    pair = Overlap(Action(0, Pass.FORWARD, 0), Action(0, Pass.BACKWARD, 0))
    with pytest.raises(ScheduleError, match="deadlock after 0 ticks"):
        check_pipeline(PipelineSchedule("own", 1, ((pair,),)))


def test_an_empty_schedule() -> None:
    with pytest.raises(ScheduleError, match="needs at least 1 rank and 1 microbatch, not 0 and 1"):
        PipelineSchedule("none", 1, ())
