# SPDX-License-Identifier: Apache-2.0
"""Small training steps with everything stated; each test changes what it is about."""

from dataclasses import replace
from typing import Any

from commbench.cluster import make_cluster
from commbench.libraries.ideal import Ideal
from commbench.topology.devices import Device
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.training.simulate import StepSimulation, simulate_step
from commbench.workload.compute import Efficiency
from commbench.workload.formats import FORMATS
from commbench.workload.groups import Degrees
from commbench.workload.memory import get_precision
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.presets import gpt, llama
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_plan import StepPlan, num_microbatches
from commbench.workload.transformer import Execution, LatentAttention, Transformer, split_layers

__all__ = ["DEVICE", "FREE_STACK", "LATENT", "MIXTURE", "TINY", "plan", "simulate"]

TINY = gpt("tiny", "made up", num_layers=8, hidden=512, num_heads=8, vocab=1024, sequence=256)
MIXTURE = llama(
    "mixture", "made up", num_layers=4, hidden=256, num_heads=8, num_kv_heads=8, ffn=512, vocab=1024, sequence=256,
    num_experts=4, experts_per_token=2,
)  # fmt: skip
LATENT = replace(
    MIXTURE, name="latent", num_layers=8, head_size=48, shared_ffn=512, first_dense=2, sparse_step=2, dense_ffn=2048,
    latent=LatentAttention(q_rank=96, kv_rank=64, rope_size=16, value_size=32),
)
"""Latent attention, a shared expert, and of eight layers 3, 5 and 7 have experts."""
DEVICE = Device(
    name="round", peak_flops={"bf16": 100e12}, memory_bytes_per_s=1e12, memory_bytes=16 * 10**9
)


FREE_STACK = StackCosts(
    host_pass_s=0, host_call_s=0, host_step_s=0, memory_passes=1, accumulation_bytes=0, hidden_data=0,
    hidden_sharded=0, hidden_tensor=0, zero_rank_s=0, sharded_share=1,
)  # fmt: skip
"""Software that costs nothing."""


def plan(model: Transformer = TINY, **changes: Any) -> StepPlan:
    """A step of ``tiny``: degrees, ``batch``, ``micro_batch``, ``schedule``, ``stages`` and fields of the plan or the
    execution by name.
    """
    sizes = {axis: changes.pop(axis, 1) for axis in ("tp", "cp", "ep", "dp", "pp")}
    micro_batch, batch = changes.pop("micro_batch", 1), changes.pop("batch", 8 * sizes["dp"])
    name, stages = changes.pop("schedule", "1f1b"), changes.pop("stages", None)
    schedule = build_pipeline(name, sizes["pp"], num_microbatches(batch, micro_batch, sizes["dp"]), stages)
    execution: dict[str, Any] = {"attention": "causal", "flash": True, "recompute": "none", "formats": FORMATS["bf16"]}
    own = {key: changes.pop(key) for key in list(changes) if key in Execution.__dataclass_fields__}
    run = Execution(
        micro_batch=micro_batch,
        sequence=model.sequence,
        **{axis: sizes[axis] for axis in ("tp", "cp", "ep")},
        **(execution | own),
    )
    given: dict[str, Any] = {
        "layers": split_layers(model, schedule.num_stages),
        "device": DEVICE,
        "efficiency": Efficiency(matrix=0.5, attention=0.5, memory=0.5),
        "precision": get_precision("mixed-adam"),
        "zero": 0,
        "bucket_bytes": 2**20,
    }
    return StepPlan(model=model, run=run, degrees=Degrees(**sizes), schedule=schedule, **(given | changes))


RINGS = Ideal(
    algorithms={**dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), "ring"), "all-to-all": "direct"},
    channels=None,
)


def simulate(step: StepPlan, fabric: Fabric | str = "dgx-h100-x2", **options: Any) -> StepSimulation:
    """The step on a fabric, given as a name or as itself."""
    found = load_fabric(fabric) if isinstance(fabric, str) else fabric
    where = {key: options.pop(key) for key in ("placement", "routing", "seed") if key in options}
    cluster = make_cluster(found, num_ranks=step.degrees.num_ranks, **where)
    return simulate_step(step, cluster, options.pop("library", RINGS), **options)
