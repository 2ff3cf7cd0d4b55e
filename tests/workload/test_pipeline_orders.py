# SPDX-License-Identifier: Apache-2.0
"""Who runs what in which order: golden lists, the installed torch's own lists, and properties of all schedules."""

from collections import Counter

import pytest

from commbench.errors import InputError
from commbench.workload.pipeline.check import check_pipeline, peak_activations
from commbench.workload.pipeline.registry import PIPELINES, build_pipeline
from commbench.workload.pipeline.schedule import Pass, PipelineSchedule
from tests.workload.pipelines import CASES

GOLDEN = {  # (name, ranks, microbatches, stages per rank) -> the order of every rank, from torch 2.13
    ("interleaved-1f1b", 2, 4, 2): (
        "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
        "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3",
    ),
    ("looped-bfs", 2, 2, 2): (
        "0F0 0F1 2F0 2F1 2B1 2B0 0B1 0B0",
        "1F0 1F1 3F0 3F1 3B1 3B0 1B1 1B0",
    ),
    ("zb-h1", 2, 4, 2): (
        "0F0 0F1 2F0 2F1 2I0 2W0 0F2 2I1 2W1 0F3 0I0 0W0 2F2 0I1 0W1 2F3 2I2 2W2 2I3 2W3 0I2 0W2 0I3 0W3",
        "1F0 1F1 3F0 3I0 3F1 3I1 3W0 1F2 1I0 3W1 1F3 1I1 1W0 3F2 3I2 1W1 3F3 3I3 3W2 1I2 3W3 1I3 1W2 1W3",
    ),
    ("zbv", 2, 4, 2): (
        "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3",
        "1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3",
    ),
    ("dualpipev", 2, 4, 2): (
        "0F0 0F1 0F2 3F0 3I0 3W0 3F1 (0F3;3B1)OVERLAP_F_B (3F2;0B0)OVERLAP_F_B 3B2 (3F3;0B1)OVERLAP_F_B 3B3 "
        "0I2 0W2 0I3 0W3",
        "1F0 2F0 1F1 2F1 1F2 2B0 (2F2;1B0)OVERLAP_F_B (1F3;2B1)OVERLAP_F_B (2F3;1B1)OVERLAP_F_B 2B2 1B2 "
        "2I3 1I3 2W3 1W3",
    ),
    ("1f1b", 3, 4, 1): (
        "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3",
        "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3",
        "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3",
    ),
    ("1f1b", 4, 2, 1): (  # Megatron-LM's warm-up of min(p - rank - 1, m); torch refuses fewer microbatches than ranks
        "0F0 0F1 0B0 0B1",
        "1F0 1F1 1B0 1B1",
        "2F0 2F1 2B0 2B1",
        "3F0 3B0 3F1 3B1",
    ),
    ("gpipe", 2, 2, 1): ("0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1"),
    ("zb-h2", 2, 4, 1): (
        "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3",
        "1F0 1I0 1F1 1I1 1F2 1I2 1W0 1F3 1I3 1W1 1W2 1W3",
    ),
}  # fmt: skip


def orders(schedule: PipelineSchedule) -> list[list[str]]:
    return [[str(step) for step in order] for order in schedule.orders]


@pytest.mark.parametrize("case", GOLDEN, ids=str)
def test_golden(case: tuple[str, int, int, int]) -> None:
    assert orders(build_pipeline(*case)) == [line.split() for line in GOLDEN[case]]


def test_same_orders_as_the_installed_torch() -> None:
    """Every case of every schedule that torch has, of this grid and a few larger pipelines: list by list."""
    pytest.importorskip("torch", reason="needs torch: pip install 'commbench[run]'")
    from tests.workload.torch_orders import torch_orders

    larger = [(name, p, m, v) for name, p, m, v in (
        ("1f1b", 8, 19, 1), ("gpipe", 8, 5, 1), ("interleaved-1f1b", 8, 32, 4), ("looped-bfs", 7, 9, 3),
        ("zb-h1", 8, 24, 3), ("zbv", 8, 31, 2), ("zbv", 6, 4, 2), ("dualpipev", 8, 16, 2), ("dualpipev", 7, 20, 2),
    )]  # fmt: skip
    compared: Counter[str] = Counter()
    for name, p, m, v in [*CASES, *larger]:
        torch_name = PIPELINES[name].torch_name
        if torch_name:
            assert orders(build_pipeline(name, p, m, v)) == torch_orders(torch_name, p, m, v), (name, p, m, v)
            compared[name] += 1
    assert set(compared) == set(PIPELINES) - {"zb-h2"}
    assert min(compared.values()) >= 15
    assert sum(compared.values()) == len([c for c in CASES if c[0] != "zb-h2"]) + len(larger) >= 200


@pytest.mark.parametrize("name", PIPELINES)
def test_every_schedule_is_whole(name: str) -> None:
    """Every pass once on every stage, no deadlock, and stages where the docstrings put them."""
    cases = [case for case in CASES if case[0] == name]
    assert len(cases) >= 15
    for _, p, m, v in cases:
        schedule = build_pipeline(name, p, m, v)
        check_pipeline(schedule)
        assert (schedule.num_ranks, schedule.num_stages, schedule.num_microbatches) == (p, p * v, m)
        vee = name in ("zbv", "dualpipev")
        places = [s if s < p else 2 * p - 1 - s for s in range(2 * p)] if vee else [s % p for s in range(p * v)]
        assert list(schedule.rank_of_stage) == places
        kinds = {action.kind for _, _, action in schedule.actions()}
        assert (Pass.WEIGHT in kinds) == PIPELINES[name].splits


@pytest.mark.parametrize(("p", "m"), [(4, 1), (4, 3), (8, 5)])
def test_1f1b_holds_no_more_activations_than_microbatches(p: int, m: int) -> None:
    assert list(peak_activations(build_pipeline("1f1b", p, m))) == [min(m, p - rank) for rank in range(p)]


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (4, 12), (8, 16)])
def test_peak_activations(p: int, m: int) -> None:
    """In microbatches and stages: GPipe m; 1F1B min(m, p - r); interleaved its warm-up and one; ZB-H1 p; ZB-H2 2p - 1.

    The warm-up of interleaved rank r is (v - 1) p + 2 (p - 1 - r). ZBV holds 2p chunks on every rank, as much as 1F1B
    holds on its first (p stages of two chunks each); DualPipeV one chunk more.
    """

    def peak(name: str, v: int | None = None) -> list[int]:
        return list(peak_activations(build_pipeline(name, p, m, v)))

    assert peak("gpipe") == [m] * p
    assert peak("looped-bfs", 3) == [3 * m] * p
    assert peak("1f1b") == [min(m, p - r) for r in range(p)]
    assert peak("interleaved-1f1b", 2) == [min(p + 2 * (p - 1 - r) + 1, 2 * m) for r in range(p)]
    assert peak("zb-h1") == [p] * p
    assert peak("zb-h1", 2) == [2 * p] * p
    assert peak("zb-h2") == [2 * p - 1] * p
    assert peak("zbv") == [2 * p] * p
    assert peak("dualpipev") == [2 * p + 1] * p


def test_peak_activations_of_unequal_stages() -> None:
    """Two stages a rank: the peak of rank 0 is at 0F0 0F1 2F0 2F1 0F2: 3 of stage 0 and 2 of stage 2."""
    schedule = build_pipeline("interleaved-1f1b", 2, 2, 2)
    assert orders(schedule)[0] == ["0F0", "0F1", "2F0", "2F1", "2B0", "2B1", "0B0", "0B1"]
    assert peak_activations(schedule, [10, 1, 100, 1000]) == (220, 1002)  # 1F0 1F1 3F0, then 3B0 before 3F1


REFUSED = [
    ("1f2b", 4, 8, None, "pipeline schedule '1f2b' is unknown; did you mean 1f1b? known: gpipe, 1f1b, "
     "interleaved-1f1b, looped-bfs, zb-h1, zb-h2, zbv, dualpipev"),
    ("interleaved-1f1b", 4, 10, 2, "pipeline schedule interleaved-1f1b: 10 microbatches are not a multiple of 4 ranks, "
     "as 2 stages per rank need"),
    ("zb-h1", 4, 9, 3, "pipeline schedule zb-h1: 9 microbatches are not a multiple of 4 ranks, "
     "as 3 stages per rank need"),
    ("zb-h2", 4, 6, None, "pipeline schedule zb-h2: 6 microbatches are too few for 4 ranks and 4 stages; "
     "it needs at least 7"),
    ("dualpipev", 4, 7, None, "pipeline schedule dualpipev: 7 microbatches are too few for 4 ranks and 8 stages; "
     "it needs at least 8"),
    ("zbv", 4, 8, 3, "pipeline schedule zbv: it has 2 stages per rank, not 3"),
    ("1f1b", 4, 8, 2, "pipeline schedule 1f1b: it has 1 stages per rank, not 2"),
    ("gpipe", 0, 8, None, "pipeline schedule gpipe: ranks, microbatches and stages per rank must be at least 1, "
     "not 0, 8 and 1"),
    ("gpipe", 4, -1, None, "pipeline schedule gpipe: ranks, microbatches and stages per rank must be at least 1, "
     "not 4, -1 and 1"),
    ("looped-bfs", 4, 8, 0, "pipeline schedule looped-bfs: ranks, microbatches and stages per rank must be at least 1, "
     "not 4, 8 and 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "p", "m", "v", "message"), REFUSED)
def test_refused(name: str, p: int, m: int, v: int | None, message: str) -> None:
    with pytest.raises(InputError) as error:
        build_pipeline(name, p, m, v)
    assert str(error.value) == message


def test_what_no_weight_needs_lives_to_the_end_of_i() -> None:
    """The last stage of ZB-H1 holds p microbatches for W, but the loss of one alone."""
    schedule = build_pipeline("zb-h1", 4, 8)
    assert peak_activations(schedule)[3] > 1
    assert peak_activations(schedule, for_weights=False)[3] == 1
    assert peak_activations(build_pipeline("1f1b", 4, 8), for_weights=False) == (4, 3, 2, 1)
