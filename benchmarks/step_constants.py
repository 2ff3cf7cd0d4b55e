# SPDX-License-Identifier: Apache-2.0
"""The constants of training steps, fitted to published ones; without a source in turn, and calibrated on few of it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np
import yaml

from benchmarks.step_exact import predict_by
from commbench.errors import InputError
from commbench.experiments.step_accuracy import errors_of
from commbench.experiments.step_calibration import shown_value
from commbench.experiments.step_fit import Fit, Key, fit_steps, goes_far, local_priors
from commbench.experiments.step_rows import StepRow
from commbench.workload.step_costs import ALONE, Constant, StepCosts, field_of_key, nvlink_kind

__all__ = ["calibrated", "fit_all", "fit_nccl", "left_out", "write_costs"]

VTRAIN = "vtrain-single"
_DRAWS = 4
_HEAVY = 100  # rows of a source that count in full; of more, each counts less
_by_nccl = partial(predict_by, library="nccl")
_NVLINK = {"share": 0.3, "half_bytes": 0.7, "latency_s": 0.3}
_BETWEEN = {"share": 0.3, "half_bytes": 0.7, "latency_s": 0.7, "transfer": 0.3}


def priors_of(rows: Sequence[StepRow], costs: StepCosts) -> dict[Key, float]:
    """All constants that these steps depend on, and how far each may be from its prior, as a logarithm."""
    found: dict[Key, float] = {}
    for row in rows:
        plan, stack = row.plan, {"host_pass_s": 0.7, "memory_passes": 0.4, "host_step_s": 1.0}
        device = costs.device_key(plan.device.name) or ""
        own = {"memory": 0.05, **({"products_fp8": 0.05} if plan.dtype == "fp8" else {"products": 0.15})}
        if plan.run.formats.name == "fp8-rowwise":
            own["rowwise"] = 0.3
        if row.attention == "unfused":
            own |= {"batched": 0.3} | ({"odd_heads": 0.3} if plan.model.head_size % 8 else {})
        else:
            name = row.attention.replace("-", "_")
            own |= {name: 0.2, f"{name}_backward": 0.3}
        if plan.degrees.tp > 1:
            stack["host_call_s"] = 0.7
        stack |= {"hidden_sharded": 0.7} if plan.zero == 3 else {"accumulation_bytes": 0.35}
        if plan.overlap_tensor:
            stack["hidden_tensor"] = 0.5
        if plan.overlap_gradients and plan.zero < 3:
            stack["hidden_data"] = 0.3
        given = costs.constants["stacks"][row.stack]
        stack |= {key: 0.3 for key in ("zero_rank_s", "sharded_share") if given[key].value not in (0, 1)}
        found |= {("devices", device, key): sigma for key, sigma in own.items()}
        found |= {("stacks", row.stack, key): sigma for key, sigma in stack.items()}
        found |= {("links", nvlink_kind(row.inside), key): sigma for key, sigma in _NVLINK.items()}
        if plan.degrees.num_ranks > row.gpus:
            found |= {("links", row.fabric, key): sigma for key, sigma in _BETWEEN.items()}
        if goes_far(row):
            found["links", row.fabric, "far_nics"] = 0.3
    kept = costs.constants
    return {key: sigma for key, sigma in found.items() if kept[key[0]][key[1]][key[2]].value}  # what is 0 is not there


def nccl_priors(rows: Sequence[StepRow]) -> dict[Key, float]:
    """What NCCL's collectives lose in steps, beside its model."""
    kinds = [nvlink_kind(row.inside) for row in rows]
    kinds += [row.fabric for row in rows if row.plan.degrees.num_ranks > row.gpus]
    each = {"nccl_share": 0.3, "nccl_wait_s": 0.7}
    return {("links", kind, key): sigma for kind in sorted(set(kinds)) for key, sigma in each.items()}


def fit_all(rows: Sequence[StepRow], prior: StepCosts, start: StepCosts) -> Fit:
    """All constants, fitted to all rows; of vTrain's single-node cells every third, by its smallest batch, twice.

    Args:
        rows: measured steps. prior: the middle of the prior. start: where to begin, such as the last fit.
    """
    smallest: dict[str, StepRow] = {}
    for row in sorted(rows, key=lambda row: row.plan.global_batch):
        smallest.setdefault(row.cell, row)
    single = [row for row in smallest.values() if row.source == VTRAIN]
    own = [row for row in smallest.values() if row.source != VTRAIN] + single[::3]
    many = Counter(row.source for row in own)
    weights = [2.0 if row.source == VTRAIN else min(1.0, _HEAVY / many[row.source]) ** 0.5 for row in own]
    return fit_steps(own, prior, priors_of(own, prior), start=start, weights=weights, noise=0.04, rounds=3)


def fit_nccl(fit: Fit) -> Fit:
    """What NCCL's collectives lose in steps, by kind of links, fitted to the same steps with all other constants fixed;
    steps on GPUs that NCCL's model does not know are left out.
    """
    known = [number for number, row in enumerate(fit.rows) if _nccl_knows(row, fit.costs)]
    rows, weights = [fit.rows[number] for number in known], fit.weight[known].tolist()
    return fit_steps(rows, fit.costs, nccl_priors(rows), weights=weights, noise=fit.noise, estimate=_by_nccl)


def _nccl_knows(row: StepRow, costs: StepCosts) -> bool:
    try:
        _by_nccl(row, costs)
    except InputError:
        return False
    return True


def left_out(fit: Fit, source: str) -> StepCosts:
    """Constants of all other sources' steps: one more step of Gauss and Newton without this one's."""
    kept = np.array([0.0 if row.source == source else weight for row, weight in zip(fit.rows, fit.weight, strict=True)])
    return fit.moved(0.0, kept).costs


def calibrated(rows: Sequence[StepRow], costs: StepCosts, num_steps: int) -> float:
    """Mean |error| of a source's other rows after calibration on so many of them, over a few draws."""
    means = []
    for draw in range(_DRAWS):
        known = Random(draw).sample(list(rows), num_steps)
        own = fit_steps(known, costs, local_priors(known), rounds=4).costs
        others = [row for row in rows if row not in known]
        means.append(fmean(abs(error) for error in errors_of(others, own).values()))
    return fmean(means)


def write_costs(fits: Sequence[Fit], path: Path, source: str) -> None:
    """Write constants as a file that ``step_costs.read_step_costs`` reads; fitted ones are marked so.

    Args:
        fits: one after the other; each began with the constants of the one before. path, source: of the file.
    """
    spread = {key: value for fit in fits for key, value in fit.spread.items()}
    prior = {key: sigma for fit in fits for key, sigma in zip(fit.keys, fit.sigma.tolist(), strict=True)}
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for kind, names in fits[-1].costs.constants.items():
        for name, own in names.items():
            for key, one in own.items():
                fitted = spread.get((kind, name, key))
                shown = field_of_key(kind, key)
                text = shown_value(one, shown.unit)
                known = fitted is not None and fitted < 0.8 * prior[kind, name, key]
                found.setdefault(kind, {}).setdefault(name, {})[shown.short] = {
                    "value": text,
                    "provenance": "fitted" if known else one.provenance,
                    "source": f"{source}, within {fitted:.0%}" if known else _undecided(one),
                }
    head = "# SPDX-License-Identifier: Apache-2.0\n# Written by `python -m benchmarks.published --fit`.\n"
    path.write_text(head + yaml.safe_dump(found, sort_keys=False, width=120), encoding="utf-8")


def _undecided(one: Constant) -> str:
    """Where a constant comes from that no step decides: the prior's own source, if it names one."""
    return "no published step decides it" if one.provenance == "assumed" and one.source == ALONE else one.source
