# SPDX-License-Identifier: Apache-2.0
"""Optimizer and activations in host memory: what moves when, how long, and what is left on the device."""

from dataclasses import replace
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_offload import offload_words
from commbench.experiments.step_options import simulate_options, step_setting
from commbench.planner.plan import Planner, Wishes
from commbench.results.steps import SimulatedStep
from commbench.topology.load import load_fabric
from commbench.training.closed_form import closed_form
from commbench.training.step_hosts import StepHosts
from commbench.workload.cost import layer_activation_bytes
from commbench.workload.offload import Offload, host_link
from commbench.workload.operators import layer_operators
from commbench.workload.step_costs import LinkCosts
from commbench.workload.step_plan import StepPlan
from tests.cases import star
from tests.training.plans import FREE_STACK, LATENT, TINY, plan, simulate

LAYER = 256 * 512 * 2  # bytes of a layer's input, all that full recomputation keeps
UNTIED = replace(TINY, tied=False)
WIRE = LinkCosts(share=1, half_bytes=0, latency_s=1e-6, far_nics=1, transfer=1, nccl_share=1, nccl_wait_s=0)
MACHINE = StepHosts(gpus=8, inside=450e9, between=400e9, links_inside=WIRE, links_between=WIRE)


def offload(optimizer: bool = False, activations: bool = False, link: float = 10e9, adam: float = 1e9) -> Offload:
    return Offload(
        optimizer=optimizer, activations=activations, link_bytes_per_s=link, adam_per_s=adam, host_ranks=8
    )


def run(**how: Any) -> SimulatedStep:
    step = plan(**how)
    return simulate(step, star(step.degrees.num_ranks, bandwidth=100e9)).record


@pytest.mark.parametrize("dp", [1, 4])
def test_the_optimizer_s_way_to_the_host_and_back(dp: int) -> None:
    """Mixed Adam: of each parameter that a rank updates 2 or 4 bytes of gradient go, 2 of the parameter come back."""
    how: dict[str, Any] = {"model": UNTIED, "dp": dp, "zero": min(1, dp - 1)}
    there, here = (run(**how, offload=one) for one in (offload(optimizer=True), None))
    step = plan(**how)
    parameters = here.memory_bytes["parameters"] / step.precision.parameter_bytes
    moved = (step.precision.gradient_bytes + step.precision.parameter_bytes) * parameters / dp
    assert there.time_s["offload"] == pytest.approx(moved / 10e9, rel=1e-3)
    assert there.exposed_s["offload"] == pytest.approx(there.time_s["offload"], rel=1e-9)
    assert there.time_s["host"] == pytest.approx(parameters / dp / 1e9, rel=1e-3)
    assert "optimizer" not in there.time_s
    added = there.time_s["offload"] + there.time_s["host"] - here.time_s["optimizer"]
    assert there.iteration_s - here.iteration_s == pytest.approx(added, rel=1e-6)
    assert there.memory_bytes == {**here.memory_bytes, "optimizer": 0}
    gradients = step.precision.gradient_bytes * parameters / dp
    assert there.settings["host_bytes"] == pytest.approx(here.memory_bytes["optimizer"] + gradients, rel=1e-3)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_link_that_keeps_up_hides_activations(recompute: str) -> None:
    how: dict[str, Any] = {"model": UNTIED, "recompute": recompute}
    there, here = (run(**how, offload=one) for one in (offload(activations=True, link=1e15), None))
    assert there.iteration_s == pytest.approx(here.iteration_s, rel=1e-9)
    assert there.exposed_s["offload"] == 0


def test_copies_do_not_slow_what_is_computed_beside_them() -> None:
    """Collectives do, of this software; copy engines take nothing of the processor."""
    slowing = replace(FREE_STACK, hidden_data=1.0)
    how: dict[str, Any] = {"model": UNTIED, "dp": 4, "overlap_gradients": False, "stack": slowing}
    there, here = (run(**how, offload=one) for one in (offload(activations=True, link=1e9), None))
    for kind in ("forward", "backward"):
        assert there.time_s[kind] == pytest.approx(here.time_s[kind], rel=1e-6)


def test_a_slow_link_is_exposed_beside_all_layers_but_the_first() -> None:
    """8 layers, 8 microbatches, out and back: 7 copies in each pass, and the layers beside them are hidden."""
    slow = offload(activations=True, link=1e9)
    there, here = (run(model=UNTIED, recompute="full", offload=one) for one in (slow, None))
    copies_s = 8 * 2 * 7 * LAYER / 1e9
    alone = [run(model=replace(UNTIED, num_layers=count), recompute="full") for count in (2, 1)]
    passes_s = [sum(one.time_s[kind] for kind in ("forward", "recompute", "backward")) for one in alone]
    hidden_s = 7 * (passes_s[0] - passes_s[1])
    assert copies_s > hidden_s
    assert there.iteration_s - here.iteration_s == pytest.approx(copies_s - hidden_s, rel=1e-6)
    assert there.exposed_s["offload"] == pytest.approx(copies_s - hidden_s, rel=1e-6)


@pytest.mark.parametrize(("pp", "flight"), [(1, 1), (4, 4)])
def test_a_device_keeps_one_layer_of_each_microbatch_and_one_that_moves(pp: int, flight: int) -> None:
    """The first of pp stages holds pp microbatches; each of its other layers' inputs are on the host."""
    there, here = (run(model=UNTIED, pp=pp, recompute="full", offload=one) for one in (offload(activations=True), None))
    gone = flight * (8 // pp - 1) * LAYER
    first, before = there.memory_by_position[0], here.memory_by_position[0]
    assert before["activations"] - first["activations"] == gone
    assert first["workspace"] - before["workspace"] == LAYER
    assert there.settings["host_bytes"] == gone
    assert there.settings["offload"] == "activations"
    assert any(note.startswith("in host memory: ") for note in there.notes)


def kept_bytes(step: StepPlan, kind: int) -> int:
    return layer_activation_bytes(step.model, step.run, layer_operators(step.model, step.run, kind))


def test_each_layer_s_copy_has_its_own_bytes() -> None:
    """All copies take longer than the layers beside them: what a slower link adds is theirs alone, 8 times each way."""
    fast, slow = 5e8, 1e8
    times = [run(model=LATENT, offload=offload(activations=True, link=link)).iteration_s for link in (slow, fast)]
    step = plan(LATENT)
    dense, sparse = (kept_bytes(step, kind) for kind in (0, 3))
    assert dense != sparse
    assert step.kinds == ((0, 0, 0, 3, 0, 3, 0, 3),)
    moved = 8 * 2 * (5 * dense + 2 * sparse)  # the last one stays
    assert times[0] - times[1] == pytest.approx(moved / slow - moved / fast, rel=1e-6)


def test_a_device_keeps_the_last_of_layers_that_differ() -> None:
    """Three dense layers and one with experts, which keeps less, two microbatches in flight; then one behind them. Most
    of a stage is there while one of a pair computes and the other moves.
    """
    how: dict[str, Any] = {"model": LATENT, "pp": 2}
    step = plan(**how)
    assert step.kinds == ((0, 0, 0, 3), (0, 3, 0, 3))
    there, here = (plan(**how, offload=one) for one in (offload(activations=True), None))
    dense, sparse = (kept_bytes(step, kind) for kind in (0, 3))
    (first, second), before = there.memory(), here.memory()
    pairs = list(zip(before, (first, second), strict=True))
    assert dense > sparse
    assert [old.activations - new.activations for old, new in pairs] == [2 * 3 * dense, 2 * dense + sparse]
    assert [new.workspace - old.workspace for old, new in pairs] == [2 * dense - sparse, dense]
    assert there.host_memory() == {"activations": 2 * 3 * dense}


STEPS = [
    {}, {"recompute": "full"}, {"dp": 8, "zero": 1}, {"dp": 8, "zero": 2}, {"tp": 4}, {"pp": 4},
    {"pp": 2, "stages": 2, "schedule": "interleaved-1f1b"}, {"dp": 8, "zero": 3},
    {"model": LATENT, "dp": 4, "ep": 2, "zero": 1}, {"model": LATENT, "dp": 4, "ep": 2, "pp": 2, "zero": 2},
]  # fmt: skip


@pytest.mark.parametrize("link", [1e9, 30e9, 1e12])
@pytest.mark.parametrize("how", STEPS, ids=str)
def test_the_closed_form_is_near_the_simulator(how: dict[str, Any], link: float) -> None:
    step: StepPlan = plan(**how, offload=offload(optimizer=True, activations=True, link=link))
    simulated = simulate(step, "dgx-h100").record.iteration_s
    assert closed_form(step, FREE_STACK, MACHINE).iteration_s == pytest.approx(simulated, rel=0.08)
    bare = simulate(replace(step, offload=None), "dgx-h100").record.iteration_s
    assert simulated > bare


@pytest.mark.parametrize(
    ("topology", "ranks", "rate"),
    [
        ("dgx-h100", 1, 63.01e9), ("dgx-h100", 8, 63.01e9 / 2), ("dgx-h100-x2", 16, 63.01e9 / 2),
        ("dgx-a100", 8, 31.5e9 / 2),
    ],
)  # fmt: skip
def test_gpus_on_one_switch_share_its_link(topology: str, ranks: int, rate: float) -> None:
    """A DGX has a PCIe switch for every two GPUs, and one link from it to the CPU."""
    assert host_link(load_fabric(topology), ranks) == pytest.approx(rate, rel=1e-3)


def test_hosts_of_cpus_have_no_link_to_them() -> None:
    with pytest.raises(InputError, match=r"--offload: topology star-8 .* has no PCIe .* --offload-bandwidth"):
        host_link(load_fabric("star-8"), 8)


OPTIONS = StepOptions(
    model="gpt3-1.3b", topology="dgx-h100", microbatch=1, global_batch=16, zero=1, assume_efficiencies=True
)


def test_options_say_what_was_taken() -> None:
    record = simulate_options(replace(OPTIONS, offload="both"))
    assert record.settings["offload"] == "optimizer and activations"
    assert record.settings["offload_bandwidth"] == pytest.approx(63.01e9 / 2)
    assert record.settings["host_adam"] == pytest.approx(10e9 / 2.57)
    for words in ("offload over ", "published: 10 billion in 2.57 s", "in host memory: ", "last layer move"):
        assert sum(words in note for note in record.notes) == 1
    given = step_setting(replace(OPTIONS, offload="optimizer", offload_bandwidth="20 GB/s", host_adam=8e9)).plan.offload
    assert given == Offload(
        optimizer=True, activations=False, link_bytes_per_s=20e9, adam_per_s=1e9, host_ranks=8
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"offload": "weights"}, "--offload 'weights' is unknown"),
        ({"offload_bandwidth": "20 GB/s"}, "--offload-bandwidth: goes with --offload optimizer, activations or both"),
        ({"host_adam": 1e9}, "--host-adam: goes with --offload"),
        ({"offload": "optimizer", "host_adam": 0.0}, "--host-adam 0: must be parameters/s of at least 1"),
        ({"offload": "activations", "host_adam": 1e9}, "goes with --offload optimizer or both"),
        ({"offload": "both", "offload_bandwidth": "20"}, "--offload-bandwidth: "),
        ({"offload": "both", "zero": 0}, "--offload optimizer: goes with --zero 1, 2 or 3 where there are several"),
        ({"offload": "activations", "pp": 2, "schedule": "zb-h1"}, "--offload activations: goes with a schedule whose"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        step_setting(replace(OPTIONS, **more))


def test_a_plan_takes_it_with_the_link_that_its_ranks_share() -> None:
    """Its estimates have it, and strategies that cannot are left out."""
    given = {"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 16, "assume_efficiencies": True}
    planner, plain = (Planner(given | more, Wishes()) for more in ({"offload": "both"}, {}))
    assert all(one.zero or one.dp * one.cp == 1 for one in planner.strategies)
    assert not any(one.schedule.startswith("zb") for one in planner.strategies)
    one = next(one for one in planner.strategies if one.zero == 1 and one.dp == 8)
    own = planner.estimator.plan(one).offload
    assert own is not None
    assert own.link_bytes_per_s == pytest.approx(63.01e9 / 2)
    assert [note for note in planner._notes if "offload over" in note] == [offload_words(planner._options, own)[0]]
    assert planner.estimator.estimate(one).time_s > plain.estimator.estimate(one).time_s
    assert planner.estimator.memory(one) < plain.estimator.memory(one)
