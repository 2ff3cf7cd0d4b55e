# SPDX-License-Identifier: Apache-2.0
"""Ranks that others started tell each other what they are to do before the first of them sends anything.

Each was given its options by itself. If they differ, collectives fit together no longer, and gloo ends the process. So
every rank puts a description of its job into the store through which they meet, rank 0 compares, and all of them end
with the same message if two differ or one does not come.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from commbench import __version__
from commbench.collectives.text import digest
from commbench.errors import CommbenchError, InputError, RunError
from commbench.live.job import LiveJob
from commbench.live.plan import Plan
from commbench.live.seats import ranks_text
from commbench.units import format_bytes

__all__ = ["Store", "describe", "differences", "require_agreement"]

_OWN = ("out", "run", "facts", "double", "by_size", "torch_name")  # rank 0's alone, or they follow from the others
_NAMES = {
    "kind": "what is run",
    "ranks": "WORLD_SIZE",
    "sizes_bytes": "the sizes (-b, -e, -f, -i)",
    "schedule": "--algorithm, --slices, --channels or --group",
    "collective": "the collective",
    "timeout_s": "--timeout",
    "join_timeout_s": "--join-timeout",
    "executors": "--executor",
    "order": "--schedule",
    "delays_s": "--forward, --input or --weight",
    "methods": "--method",
    "size_bytes": "-b",
    "check": "--check/--no-check",
    "leaf_of": "--topology or --hosts",
    "experiment": "what is run",
    "commbench": "the version of commbench",
    "torch": "the version of torch",
}
"""What people call a field, where that is not its name as an option."""

_LONGEST = 60  # characters of a value that are shown whole
_SOONEST_S, _LATEST_S = 0.01, 0.25  # between looks into the store
_TOLD_S = 5.0  # rank 0, who has the store, stays so long for the others to read why they end


class Store(Protocol):
    """What is used of torch.distributed's stores."""

    def set(self, key: str, value: str, /) -> None:
        """Put a value."""

    def get(self, key: str, /) -> bytes:
        """A value, when it is there."""

    def add(self, key: str, amount: int, /) -> int:
        """Count, and return the sum."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all of them are there."""


def describe(job: LiveJob, torch_version: str) -> dict[str, Any]:
    """What must be the same on every rank, by name, in JSON values."""
    fields: dict[str, Any] = json.loads(job.to_json())
    if isinstance(job, Plan):
        fields["schedule"] = [f"{schedule.algorithm} {digest(schedule)}" for schedule in job.schedules] or ["native"]
    described = {name: value for name, value in fields.items() if name not in _OWN}
    return described | {"commbench": __version__, "torch": torch_version}


def differences(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between the described jobs of all ranks, a text for each option: "--op: sum on rank 0, ..."."""
    kinds = {job["kind"] for job in jobs}
    names = ["kind"] if len(kinds) > 1 else list(jobs[0])
    found = []
    for name in names:
        ranks_of: dict[str, list[int]] = {}
        for rank, job in enumerate(jobs):
            ranks_of.setdefault(_shown(name, job.get(name)), []).append(rank)
        if len(ranks_of) > 1:
            values = ", ".join(f"{value} on {ranks_text(ranks)}" for value, ranks in ranks_of.items())
            found.append(f"{_NAMES.get(name, '--' + name.replace('_', '-'))}: {values}")
    return found


def require_agreement(store: Store, rank: int, world_size: int, job: Mapping[str, Any], within_s: float) -> None:
    """Return when all ranks have come and are to do the same.

    Args:
        store: of these ranks, empty at the start; rank 0's process has it.
        rank, world_size: this process's place. job: from :func:`describe`.
        within_s: how long the others are waited for.

    Raises:
        InputError: ranks differ, with what; the same on every rank. Or another process has this rank.
        RunError: ranks have not come; names them.
    """
    if store.add(f"here{rank}", 1) > 1:
        raise InputError(f"two processes say that they are rank {rank} of {world_size}; give each a RANK of its own")
    store.set(f"job{rank}", json.dumps(job))
    if rank:
        if not _until(lambda: store.check(["verdict"]), within_s + _TOLD_S):
            raise RunError(f"rank 0 has not come within {within_s:g} s (--join-timeout)")
        verdict = store.get("verdict").decode()
        store.add("told", 1)
    else:
        verdict = _judge(store, world_size, within_s)
        store.set("verdict", verdict)
        if verdict:
            _until(lambda: store.add("told", 0) >= world_size - 1, _TOLD_S)
    if verdict:
        code, _, message = verdict.partition(" ")
        error: type[CommbenchError] = InputError if int(code) == InputError.exit_code else RunError
        raise error(message)


def _judge(store: Store, world_size: int, within_s: float) -> str:
    """Exit code and message; "" if all is well."""
    keys = [f"job{rank}" for rank in range(world_size)]
    if not _until(lambda: store.check(keys), within_s):
        missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
        return (
            f"{RunError.exit_code} {ranks_text(missing)} of {world_size} did not come within {within_s:g} s "
            "(--join-timeout)"
        )
    different = differences([json.loads(store.get(key)) for key in keys])
    if not different:
        return ""
    return f"{InputError.exit_code} ranks disagree on {'; '.join(different)}; give all of them the same"


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it holds in time. Not torch's own wait, which no Ctrl-C ends."""
    deadline, pause = time.monotonic() + seconds, _SOONEST_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LATEST_S)
    return True


def _shown(name: str, value: Any) -> str:
    """A value as a person reads it; one too long by its digest."""
    if name == "sizes_bytes":
        value = [format_bytes(size) for size in value]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2].splitlines()[0]}... (digest {hashlib.sha256(text.encode()).hexdigest()[:8]})"
