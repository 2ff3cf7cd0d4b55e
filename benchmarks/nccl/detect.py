# SPDX-License-Identifier: Apache-2.0
"""Does the rule of ``validate LOG`` find machines that are known to be ill, and leave healthy ones alone?

Curves are judged with constants that were fitted without their cluster; single sizes of ``points.csv`` (before and
after a fault was mended) with those of all healthy curves.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.nccl.curves import KINDS, NETWORKS, Curve
from benchmarks.nccl.fit import Sample, predicted, samples_of
from commbench.libraries.nccl.machine import NcclMachine
from commbench.results.health_rule import Slowness, slowness

__all__ = ["CurveVerdict", "detection", "points_in", "verdict_on"]

_LINKS = {  # first letters of a GPU: its link and GB/s of one GPU
    "h100": ("nvswitch", 450.0),
    "h200": ("nvswitch", 450.0),
    "a100": ("nvswitch", 300.0),
    "rtx 4090": ("pcie", 32.0),
    "gb10": ("pcie", 32.0),
}
_RATES = {"HDR": 200.0, "400G": 400.0, "200G": 200.0, "100G": 100.0}
_UNMODELLED = re.compile(r"SHM_|P2P_DISABLE|libsircl|default$")
"""States of GPUs without peer access, a class without constants, and of another library."""


@dataclass(frozen=True, slots=True)
class CurveVerdict:
    """A curve or a point, what it is known to be ("yes", "no": healthy or not), and what the rule says."""

    name: str
    health: str
    found: Slowness

    @property
    def word(self) -> str:
        """ok, slow or unknown."""
        return "unknown" if not self.found.known else "slow" if self.found.slow else "ok"


def points_in(path: Path) -> list[Curve]:
    """Single sizes whose machine, size and collective the model knows.

    Args:
        path: a ``points.csv``: case, gpu, gpus_per_node, nodes, nic, collective, size_bytes, time_us, busbw_GBps,
            state, healthy.
    """
    with path.open(encoding="utf-8") as file:
        return [curve for row in csv.DictReader(file) if (curve := _point(row)) is not None]


def _point(row: Mapping[str, str]) -> Curve | None:
    link = next((found for start, found in _LINKS.items() if row["gpu"].lower().startswith(start)), None)
    kind, size = KINDS.get(row["collective"], row["collective"]), float(row["size_bytes"] or 0)
    nics = re.match(r"(\d+)x\D", row["nic"])
    rate = next((rate for word, rate in _RATES.items() if word in row["nic"]), 0.0)
    local, nodes = int(row["gpus_per_node"]), int(row["nodes"])
    known = link and size and row["healthy"] in ("yes", "no") and kind in KINDS.values()
    if not known or _UNMODELLED.search(row["state"]) or (nodes > 1 and not (nics and rate)):
        return None
    assert link is not None
    told = {key: value.upper() for key, value in re.findall(r"NCCL_(ALGO|PROTO|NVLS_ENABLE)=(\w+)", row["state"])}
    protocol = {"LL": "LL", "LL128": "LL128", "SIMPLE": "Simple"}.get(told.get("PROTO", ""))
    machine = NcclMachine(
        gpu=row["gpu"].split(" (")[0], gpus_per_node=local, nodes=nodes, link=link[0], link_GBps=link[1],
        nics=int(nics.group(1)) if nics and nodes > 1 else 0, nic_Gbps=rate if nodes > 1 else 0.0,
        network=next((found for word, found in NETWORKS if word in row["nic"].lower()), "ib"),
        nvls=False if told.get("NVLS_ENABLE") == "0" else None,
        algorithms=(told["ALGO"].capitalize(),) if "ALGO" in told else (), protocols=(protocol,) if protocol else (),
    )  # fmt: skip
    ranks = machine.ranks
    factor = 2 * (ranks - 1) / ranks if kind == "all-reduce" else (ranks - 1) / ranks
    time_us = float(row["time_us"] or 0) or size * factor / (1000 * float(row["busbw_GBps"]))
    name = f"{row['case']}: {kind}, {row['state']}"
    return Curve(name=name, cluster=row["case"], machine=machine, kind=kind, dtype="float32", sizes=np.array([size]),
        times=np.array([time_us * 1e-6]), health=row["healthy"])  # fmt: skip


def verdict_on(sample: Sample, constants: Mapping[str, float]) -> CurveVerdict:
    """What the rule says of a curve."""
    curve = sample.curve
    if not sample.call.options:  # a setting of the log's leaves nothing that the model knows
        return CurveVerdict(curve.name, curve.health, slowness([]))
    ratio = curve.times * 1e6 / predicted(sample, constants)
    rows = [(int(s), float(r)) for s, r in zip(curve.sizes, ratio, strict=True) if np.isfinite(r)]
    return CurveVerdict(curve.name, curve.health, slowness(rows))


def detection(
    left_out: Iterable[tuple[Sample, Mapping[str, float]]],
    ill: Sequence[Curve],
    points: Sequence[Curve],
    known: Mapping[str, float],
) -> list[str]:
    """Lines of the table.

    Args:
        left_out: healthy samples with constants fitted without them. ill: curves known to be ill. points: single sizes.
        known: constants of all healthy curves.
    """
    found = [verdict_on(sample, constants) for sample, constants in left_out]
    found += [verdict_on(sample, known) for sample in samples_of([*ill, *points])]
    told = [one for one in found if one.word != "unknown"]
    sick, well = ([one for one in told if one.health == health] for health in ("no", "yes"))
    missed, accused = [one for one in sick if one.word == "ok"], [one for one in well if one.word == "slow"]
    lines = [
        "", "## Slow or not", "",
        "`commbench validate LOG` calls a machine slow by a fixed rule (`commbench/results/health_rule.py`). Healthy",
        "curves are judged by constants that were fitted without their cluster, single sizes before and after a fault",
        f"was mended by those of all healthy curves. **{len(sick) - len(missed)} of {len(sick)} ill ones are called",
        f"slow, {len(accused)} of {len(well)} healthy ones are.** {len(found) - len(told)} more are of classes without",
        "constants: `unknown`. Most of the ill sizes are of one machine in several settings. Corrupt rows are found by",
        "the log's own column of wrong values, which these tables lack.",
        "", "| machine | is | called | from 256 (64) MiB | worst three from 1 MiB |", "|---|---|---|---|---|",
    ]  # fmt: skip
    shown = [*sick, *accused, *(one for one in well if ":" in one.name)]
    for one in dict.fromkeys(shown):
        worst = f"{one.found.worst[0]:.2f}" if one.found.worst else "-"
        plateau = f"{one.found.plateau:.2f}" if one.found.plateau is not None else "-"
        health = "healthy" if one.health == "yes" else "ill"
        lines.append(f"| {one.name} | {health} | {one.word} | {plateau} | {worst} |")
    return lines
