# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine and the software that a measurement came from.

Only what is listed here is kept. Of the environment variables, those that change how a collective runs are
kept and
no others: a results file gets mailed around, and the rest of the environment may hold secrets.
"""

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commbench import __version__

__all__ = [
    "collect_environment",
    "cores",
    "cores_usable",
    "cpu_quota",
    "differences_by_rank",
    "differing_note",
    "kept_variables",
]

QUOTA = tuple[str, float]
KEPT_PREFIXES = ("NCCL_", "GLOO_", "TORCH_NCCL_", "TORCH_GLOO_", "UCX_", "FI_")
KEPT_NAMES = frozenset(
    {
        "CUDA_DEVICE_MAX_CONNECTIONS",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "TORCH_DISTRIBUTED_DEBUG",
    }
)


def collect_environment() -> dict[str, Any]:
    """Typed facts about this machine; None stands for what the system does not tell.

    Returns:
        hostname, platform, kernel, cpu_model, python, commbench: str. cores_usable: int, cores this process
            may run
        on. cpu_quota: float, cores' worth of time its control group may use. memory_bytes: int. load_1min: float,
        load average now, before the run adds to it. variables: the kept environment variables.
    """
    quota = cpu_quota()
    return {
        "hostname": socket.gethostname(),
        "platform": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "cpu_model": _cpu_model(),
        "cores_usable": cores_usable(),
        "cpu_quota": None if quota is None else quota[1],
        "memory_bytes": _memory_bytes(),
        "load_1min": _load(),
        "python": platform.python_version(),
        "commbench": __version__,
        "variables": kept_variables(os.environ),
    }


_TOLD_APART = frozenset({"hostname", "load_1min"})
"""What every host has of its own: ``hosts`` tells the names."""
_OWN = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NCCL_HOSTID", "cores_usable", "cpu_quota", "memory_bytes"}
)
"""What launchers give each rank alone, and what like hosts have not exactly alike."""


def differences_by_rank(environments: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the environment of each rank has that rank 0's has not, by the rank's number; ranks that have all alike are
    left out, so that many alike ranks take no room. Of variables, None stands for one that is not set."""
    found: dict[str, dict[str, Any]] = {}
    for rank, one in enumerate(environments):
        first = environments[0]
        apart = {
            key: value
            for key, value in one.items()
            if key not in _TOLD_APART and key != "variables" and value != first.get(key)
        }
        here, there = one.get("variables", {}), first.get("variables", {})
        if variables := {name: here.get(name) for name in sorted({*here, *there}) if here.get(name) != there.get(name)}:
            apart["variables"] = variables
        if apart:
            found[str(rank)] = apart
    return found


def differing_note(apart: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A warning that names what ranks have not alike, where they should; what launchers give each rank is no such."""
    names: dict[str, list[str]] = {}
    for rank, facts in apart.items():
        for name in (*(key for key in facts if key != "variables"), *facts.get("variables", {})):
            if name not in _OWN:
                names.setdefault(name, []).append(rank)
    if not names:
        return []
    told = ", ".join(f"{name} (rank {ranks[0]}{f' and {len(ranks) - 1} more' * (len(ranks) > 1)})"
                     for name, ranks in names.items())  # fmt: skip
    return [f"warning: not all ranks have what rank 0 has: {told}; records tell under environment.by_rank"]


def kept_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that are on the allow-list, sorted by name."""
    return {
        name: value for name, value in sorted(variables.items()) if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)
    }


def cores_usable() -> int:
    """How many cores this process may run on."""
    return len(cores())


def cores() -> frozenset[int]:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> QUOTA | None:
    """The tightest limit on this process: a control group, and the cores' worth of time that it grants per period.

    Version 2 of control groups; None if none of those that the process is in has a limit.

    Args:
        root: where the groups are. membership: what says which one the process is in; see cgroups(7).
    """
    paths = [line[3:] for line in _read(str(membership)).splitlines() if line.startswith("0::")]
    group = Path(paths[0] if paths else "/")
    limits = []
    for path in (group, *group.parents):
        words = _read(str(root / path.relative_to("/") / "cpu.max")).split() if path.is_absolute() else []
        if len(words) == 2 and words[0] != "max":
            limits.append((str(path), int(words[0]) / int(words[1])))
    return min(limits, key=lambda limit: limit[1], default=None)


def _cpu_model() -> str | None:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _read(path: str) -> str:
    """The text of a system file, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
