# SPDX-License-Identifier: Apache-2.0
"""A plan finds what simulating every strategy finds, and says what it does not prove."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from commbench.cli.main import outcome
from commbench.cli.plan_tables import plan_table
from commbench.cluster import make_cluster
from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_options import simulate_options, step_setting
from commbench.libraries.nccl import NcclLibrary, machine_of
from commbench.planner.plan import Planner, Wishes, make_plan
from commbench.planner.prices import Prices
from commbench.planner.search import candidates
from commbench.planner.strategy import Strategy
from commbench.program.operations import Collective, ProgramBuilder
from commbench.report.page import ReportInput, render
from commbench.results.journal import read_records
from commbench.results.plans import Planned
from commbench.topology.load import load_fabric
from commbench.training.schedule_walk import KINDS, Given, lay, walk
from tests.oracles.pipeline_walk import walk_seconds

SMALL = {"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 16}
FEW = SMALL | {"tp": 2, "recompute": "none", "sequence_parallel": False, "microbatch": 1}


def simulated_s(given: dict[str, object], one: Strategy) -> float:
    return simulate_options(replace(StepOptions(**given), **one.options)).iteration_s  # type: ignore[arg-type]


def test_the_best_is_that_of_simulating_all() -> None:
    given = FEW | {"zero": 1}
    planner = Planner(given, Wishes(gap=0.0, seconds=600))
    times = {one: simulated_s(given, one) for one in planner.strategies}
    found = planner.plan()
    assert len(times) > 20
    assert found.best[0].simulated_s == min(times.values())
    assert found.proven_gap == 0
    assert found.open == 0
    assert found.slow + found.large + found.estimated == found.strategies == len(times)


@pytest.mark.parametrize(
    "more",
    [{"zero": 0}, {"zero": 1}, {"zero": 2}, {"zero": 3}, {"zero": 0, "stale_gradients": True, "gradient_ratio": 0.5}],
    ids=str,
)
def test_bounds_hold_and_estimates_are_near(more: dict[str, object]) -> None:
    given = FEW | more
    planner = Planner(given, Wishes())
    errors = []
    for one in planner.strategies[::3]:
        time_s, estimated = simulated_s(given, one), planner.estimator.estimate(one)
        assert estimated.bound_s <= time_s * (1 + 1e-6), one.command
        errors.append(abs(estimated.time_s / time_s - 1))
    assert np.mean(errors) < 0.02


@pytest.mark.parametrize(("zero", "most"), [(1, 0.03), (3, 0.06)])
def test_bounds_hold_where_layers_differ(zero: int, most: float) -> None:
    """One dense layer, then experts with a shared one and latent attention; stages hold one kind or both. Under ZeRO 3
    all mixtures are estimated worse (Mixtral 8x22B on the same hosts by 4 %): it gathers their experts for few tokens.
    """
    given = {
        "model": "deepseek-v2", "topology": "dgx-h100-x4", "global_batch": 32, "tp": 1, "num_layers": 6, "ep": 8,
        "microbatch": 1, "recompute": "full", "sequence": 1024, "zero": zero,
    }  # fmt: skip
    planner = Planner(given, Wishes())
    assert len(planner.strategies) > 10
    seen = planner.strategies[:: max(1, len(planner.strategies) // 12)]
    errors = []
    for one in seen:
        time_s, estimated = simulated_s(given, one), planner.estimator.estimate(one)
        assert estimated.bound_s <= time_s * (1 + 1e-6), one.command
        errors.append(abs(estimated.time_s / time_s - 1))
        dense, sparse = planner.estimator.layer_s(one)
        assert (dense.count, sparse.count) == (1, 5)
        assert dense.forward < sparse.forward  # whose tokens travel
        passes = sum(kind.count * (kind.forward + kind.backward) for kind in (dense, sparse))
        quick = candidates([one, one], planner.estimator, 2**60, lambda _: 1.0, worth=0.0).slow_bound
        assert one.microbatches * passes / one.pp <= quick * (1 + 1e-9) <= time_s, one.command
    assert np.mean(errors) < most


def test_gradients_of_each_microbatch_slow_no_pass_before_them() -> None:
    """ZeRO 2 over the NICs, where sending takes longer than the passes: the first forward passes have nothing beside
    them. They were taken to be as slow as all others, and the step came out 16 % too long.
    """
    given = {
        "model": "gpt3-1.3b", "topology": "dgx-h100-x4", "global_batch": 32, "tp": 2, "pp": 2, "microbatch": 1,
        "zero": 2, "sequence_parallel": False, "recompute": "none", "schedule": "zb-h2",
    }  # fmt: skip
    planner = Planner(given, Wishes())
    one = planner.strategies[0]
    estimated = planner.estimator.estimate(one)
    assert estimated.time_s == pytest.approx(simulated_s(given, one), rel=0.03)
    assert sum(planner.estimator.terms(one).values()) == pytest.approx(estimated.time_s, rel=1e-6)


@pytest.mark.parametrize("size_bytes", [3 << 20, 16 << 20, 100 << 20])
def test_a_price_is_what_the_collective_takes_alone(size_bytes: int) -> None:
    """Over hosts the library changes its choice with the size: what lies between two sizes would be no bound."""
    cluster = make_cluster(load_fabric("dgx-h100-x4"))
    library = NcclLibrary(machine=machine_of(cluster))
    price = Prices(cluster, library).of("all-reduce", size_bytes, 16, 1, 32)
    groups = np.arange(32).reshape(2, 16)
    program = ProgramBuilder(32)
    program.communicate(Collective("all-reduce", groups, size_bytes, 1))
    done = simulate(program.build(), cluster, library, Run(detail="collective"))
    assert price.total_s == pytest.approx(done.time_s, rel=1e-6)


def test_memory_is_that_of_the_plan() -> None:
    planner = Planner(SMALL, Wishes())
    for one in planner.strategies[::97]:
        setting = step_setting(replace(StepOptions(**SMALL), **one.options), planner.cluster.fabric)
        exact = max(use.total for use in setting.plan.memory()) + setting.margin_bytes
        assert planner.estimator.memory(one) == exact, one.command


def test_terms_add_up() -> None:
    for best in make_plan(FEW, Wishes(seconds=0)).best:
        assert sum(best.terms.values()) == pytest.approx(best.estimated_s, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "per_rank"),
    [("1f1b", 1), ("interleaved-1f1b", 3), ("zb-h1", 1), ("zb-h2", 1), ("zbv", 2), ("dualpipev", 2)],
)
def test_the_walk_is_that_of_the_schedule(name: str, per_rank: int) -> None:
    laid = lay(name, 4, 12, per_rank)
    stages = laid.schedule.num_stages
    lasts = np.random.default_rng(1).uniform(1, 2, (stages, len(KINDS)))
    none, ranks, sent = np.zeros(stages), laid.schedule.rank_of_stage, np.zeros((stages, 2))
    for stage, (here, there) in enumerate(pairwise(ranks)):
        sent[stage, 0] = sent[stage + 1, 1] = 0.1 * (here != there)
    known = {(stage, kind): float(lasts[stage, i]) for stage in range(stages) for i, kind in enumerate(KINDS)}
    zeros = 0 * lasts
    given = Given(lasts, sent, np.zeros((8, *lasts.shape)), none, none, none, none, zeros, zeros)
    walked = walk(laid, given, blocks=not laid.schedule.splits)
    reference = walk_seconds(laid.schedule, known, lambda src, dst: 0.1, waits=not laid.schedule.splits)
    assert walked.ends.max() == pytest.approx(reference)


def test_what_is_given_is_kept() -> None:
    found = make_plan(SMALL | {"tp": 4, "schedule": "1f1b"}, Wishes(seconds=0))
    assert found.fixed == {"tp": 4, "schedule": "1f1b"}
    assert {one.options["tp"] for one in (*found.best, *found.pareto)} == {4}
    assert {one.options["schedule"] for one in found.best} == {"1f1b"}


def test_fewer_gpus_can_be_cheaper() -> None:
    given = FEW | {"zero": 1, "topology": "dgx-h100-x4", "global_batch": 32}
    fast, cheap = (make_plan(given, Wishes(objective=word, price=2.0)) for word in ("time", "cost"))
    assert cheap.best[0].ranks < fast.best[0].ranks
    assert cheap.best[0].cost is not None
    assert fast.best[0].cost is not None
    assert cheap.best[0].cost < fast.best[0].cost
    for made, words in ((fast, "least time for the memory"), (cheap, "least GPU-time for the memory")):
        assert words in plan_table(made)
        assert words.capitalize().replace("gpu", "GPU") in render(ReportInput("", [made]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tp": 3}, "num_heads 16 is not divisible by tp 3"),
        ({"tp": 4, "pp": 4}, "tp 4 x cp 1 x pp 4 x dp 1 = 16 are more GPUs"),
        ({"dp": 3}, "--global-batch 16 is no multiple of dp 3"),
        ({"pp": 5}, "24 layers cannot be spread evenly over pp 5; pp can be 1, 2"),
        ({"jitter": 0.1}, "--jitter: a plan takes none"),
        ({"zero_group": 2}, "--zero-group: a plan takes none"),
        ({"overlap_gradients": False, "zero": 2}, "--no-overlap-gradients: goes with --zero 0 or 1"),
        ({"stale_gradients": True, "zero": 2}, "--stale-gradients or --gradient-ratio: goes with --zero 0 or 1"),
        ({"context": "all-to-all", "cp": 4, "tp": 8}, "num_heads 16 leaves 2 on a rank of tp 8, which cp 4 does not"),
        ({"schedule": "zigzag"}, "pipeline schedule 'zigzag' is unknown"),
        ({"ep": 2}, "dense"),
        ({"zero": 4}, "zero"),
        ({"recompute": "some"}, "recompute"),
    ],
)
def test_what_allows_no_strategy_says_why(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        make_plan(SMALL | given, Wishes())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"objective": "fun"}, "--objective 'fun'"),
        ({"objective": "cost"}, "needs --price"),
        ({"gap": -1.0}, "--gap -1"),
        ({"schedules": ("1f1b", "x")}, "pipeline schedule 'x'"),
    ],
)
def test_wishes_are_checked(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Wishes(**given)  # type: ignore[arg-type]


def test_nothing_fits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["plan", "--model", "gpt3-175b", "--topology", "dgx-h100", "--global-batch", "8", "--recompute", "full"]
    assert outcome([*words, "--out", str(tmp_path / "p.jsonl")]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "NO STRATEGY FITS. Nearest: " in told
    assert "GiB more than the 74.51 GiB of h100-sxm5-80gb" in told
    assert "What helps: take more GPUs" in told
    (record,) = read_records(tmp_path / "p.jsonl")
    assert isinstance(record, Planned)
    assert not record.fits
    assert record.lacks_bytes > 0


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["plan", "--model", "gpt3-1.3b", "--topology", "dgx-h100", "--price", "2", "--tp", "2"]
    assert not outcome([*words, "--out", str(tmp_path / "p.jsonl")])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "assumed: --global-batch 2048" in text
    assert "what if" in text
    (record,) = read_records(tmp_path / "p.jsonl")
    assert isinstance(record, Planned)
    assert record.best[0].simulated_s is not None


def test_a_list_in_a_file_is_a_plan_for_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("model: gpt3-1.3b\ntopology: [dgx-h100, dgx-a100]\ntp: [2, 4]\nglobal_batch: 16\nzero: 1\n")
    words = ["plan", str(file), "--device", "h100-sxm5-80gb", "--schedules", "1f1b", "--seconds", "0"]
    assert not outcome([*words, "--topology", "dgx-h100", "--json"])
    assert len(capsys.readouterr().out.splitlines()) == 2  # what is given beside the file wins


def test_a_page_shows_a_plan() -> None:
    page = render(ReportInput("", [make_plan(FEW | {"zero": 1}, Wishes(seconds=0))]))
    assert "Which strategy" in page
    assert "Least time for the memory" in page
    assert "gpt3-1.3b on dgx-h100: --tp 2" in page
