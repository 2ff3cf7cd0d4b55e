# SPDX-License-Identifier: Apache-2.0
"""Lower bounds by layers are what the closed form has of these, made of parts that strategies share; search speaks."""

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from commbench.cli.main import outcome
from commbench.cli.plan_tables import plan_table
from commbench.errors import InputError, UnknownTimeError
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_options import step_setting
from commbench.planner import layers as layers_module
from commbench.planner.estimate import Estimator
from commbench.planner.plan import Planner, Wishes, _faster, make_plan
from commbench.planner.search import candidates
from commbench.planner.strategy import Strategy
from commbench.terminal import sparing
from commbench.workload.pipeline.registry import PIPELINES
from commbench.workload.pipeline.schedule import Pass

MIXTURE: dict[str, Any] = {
    "model": "deepseek-v2", "topology": "dgx-h100-x4", "global_batch": 32, "num_layers": 4, "sequence": 1024,
}  # fmt: skip


def by_stages(estimator: Estimator, one: Strategy, kind: int) -> tuple[float, float]:
    """Passes of that layer as the closed form has them of a stage that holds nothing else."""
    alone = replace(
        one, dp=max(1, one.ep // one.cp), pp=1, layers=(kind, 1, 0), schedule="interleaved-1f1b", stages_per_rank=3,
        microbatches=1, zero=0,
    )  # fmt: skip
    times = estimator._times(alone)[1].times
    return times[Pass.FORWARD], times[Pass.BACKWARD]


@pytest.mark.parametrize(
    "more",
    [
        {}, {"expert_imbalance": 1.2}, {"expert_capacity": 1.25}, {"stack": "megatron", "launch_blocking": True},
        {"stack": "none"}, {"dtype": "fp8", "recompute": "per-op"}, {"context": "all-to-all"},
    ],
    ids=str,
)  # fmt: skip
def test_a_layer_takes_what_a_stage_of_it_alone_takes(more: dict[str, Any]) -> None:
    planner = Planner(MIXTURE | more, Wishes())
    some = planner.strategies[:: max(1, len(planner.strategies) // 40)]
    assert len({one.recompute for one in some}) > 1 or "recompute" in more
    for one in some:
        for kind, found in zip((0, 1), planner.estimator.layer_s(one), strict=True):
            exact = by_stages(planner.estimator, one, kind)
            assert (found.forward, found.backward) == pytest.approx(exact, rel=1e-6), one.command


def test_what_may_be_hidden_counts_nothing() -> None:
    planner = Planner(MIXTURE | {"overlap_tensor": True, "tp": 4, "num_layers": 2}, Wishes())
    for one in planner.strategies[::40]:
        for kind, found in zip((0, 1), planner.estimator.layer_s(one), strict=True):
            forward, backward = by_stages(planner.estimator, one, kind)
            assert found.forward == pytest.approx(forward, rel=1e-6)
            assert found.backward <= backward * (1 + 1e-9)


@pytest.mark.parametrize("more", [{}, {"expert_imbalance": 1.2}], ids=str)
def test_operators_are_made_once_for_all_that_have_the_same(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """Not for each recomputation, and not again for another network: that took a search of DeepSeek-V3 most of its
    minute.
    """
    made: list[object] = []
    real = layers_module.layer_operators
    monkeypatch.setattr(layers_module, "layer_operators", lambda *args: made.append(args) or real(*args))
    planner = Planner(MIXTURE | more, Wishes())
    left = candidates(planner.strategies, planner.estimator, planner.capacity_bytes, planner._cost)
    distinct = {
        (one.tp, one.cp, one.ep, one.microbatch, one.sequence_parallel) for one in planner.strategies
    }
    assert len(made) == 2 * len(distinct)  # the dense layer and one with experts
    planner._best_on(0.5, left)
    assert len(made) == 2 * len(distinct)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_best_on_another_network_is_that_of_looking_at_all(factor: float) -> None:
    planner = Planner(MIXTURE | {"zero": 1, "recompute": "full", "microbatch": 1, "schedule": "1f1b"}, Wishes())
    left = candidates(planner.strategies, planner.estimator, planner.capacity_bytes, planner._cost)
    estimator = planner.estimator.priced(*planner._prices(_faster(planner.cluster, factor)))
    every = candidates(planner.strategies, estimator, planner.capacity_bytes, planner._cost, worth=1.0)
    assert planner._best_on(factor, left).time_s == every.estimated[0].time_s


def test_a_search_says_how_far_it_is() -> None:
    said: list[str] = []
    Planner({"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 16}, Wishes(seconds=0), said.append).plan()
    for words in ("strategies have a lower bound", "do not fit", "simulated; now"):
        assert any(words in one for one in said)


def test_words_that_come_too_soon_are_left_out() -> None:
    now, said = [0.0], list[str]()
    say = sparing(said.append, 2.0, lambda: now[0])
    for now[0] in (0.0, 1.0, 2.0, 2.5, 3.9, 4.0):
        say(f"at {now[0]}")
    assert said == ["at 2.0", "at 4.0"]


def test_strategies_whose_communication_has_no_known_time_are_left_out_and_said() -> None:
    """Experts over hosts, of whose all-to-all NCCL's model knows nothing: one of them ended the whole plan."""
    given = {
        "model": "mixtral-8x7b", "topology": "dgx-h100-x4", "library": "nccl", "global_batch": 32, "sequence": 1024,
        "num_layers": 4, "zero": 1, "recompute": "none", "microbatch": 1,
    }  # fmt: skip
    found = make_plan(given, Wishes(seconds=1))
    assert found.best
    (said,) = [note for note in found.notes if "strategies more are left out" in note]
    assert "library nccl: no constants for h100-sxm5-80gb over nvswitch and ib" in said
    assert found.slow + found.large + found.estimated == found.strategies
    with pytest.raises(UnknownTimeError, match="library nccl: no constants"):
        make_plan(given | {"tp": 4, "ep": 8}, Wishes())


@pytest.mark.parametrize("schedule", sorted(PIPELINES))
def test_memory_is_that_of_all_microbatches(schedule: str) -> None:
    """Where a rank keeps all of them, as with GPipe, three rounds need too little: nothing fitted when simulated."""
    given = {
        "model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 64, "tp": 2, "microbatch": 1, "zero": 0,
        "schedule": schedule, "sequence_parallel": False, "recompute": "none",
    }  # fmt: skip
    planner = Planner(given, Wishes())
    deep = [one for one in planner.strategies if one.pp > 1]
    assert any(one.microbatches > 4 * one.pp for one in deep)
    for one in deep:
        plan = step_setting(replace(StepOptions(**given), **one.options), planner.cluster.fabric).plan
        assert planner.estimator.memory(one) == max(use.total for use in plan.memory()), one.command


@pytest.mark.parametrize("name", ["tp", "dp", "microbatch", "global_batch", "ranks", "stages_per_rank"])
def test_counts_below_one_are_refused(name: str) -> None:
    given = {name: 0}
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} 0: must be 1 to "):
        make_plan({"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 16} | given, Wishes())


@pytest.mark.parametrize(
    "more",
    [
        {}, {"num_layers": 12, "library": "nccl"}, {"flash": False, "overlap_gradients": True, "zero": 1},
        {"offload": "both", "offload_bandwidth": "20 GB/s", "zero": 1}, {"sequence": 4096, "positions": 4096},
    ],
    ids=str,
)  # fmt: skip
def test_the_command_that_a_plan_prints_is_the_step_it_found(more: dict[str, Any], capsys: Any) -> None:
    """Model, topology, batch and all that was given stood nowhere in it."""
    found = make_plan({"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 16, "tp": 2} | more, Wishes())
    command = " ".join(plan_table(found).split(" sim train ")[1].split("tokens/s/GPU")[0].split())
    assert command == found.derived()["command"]
    assert outcome(["sim", "train", *shlex.split(command), "--json"]) in (None, 0)
    assert json.loads(capsys.readouterr().out)["iteration_s"] == found.best[0].simulated_s
