# SPDX-License-Identifier: Apache-2.0
"""What a run is to do: one immutable object that every rank gets the same copy of."""

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import dtype_bytes
from commbench.collectives.spec import get_collective
from commbench.collectives.text import from_text, to_text
from commbench.errors import InputError

__all__ = ["BACKENDS", "OPS", "TIMINGS", "Plan", "default_out"]

BACKENDS = ("auto", "gloo", "nccl")
OPS = ("sum",)
TIMINGS = ("isolated", "pipelined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of one collective over some sizes.

    Attributes:
        collective: a key of ``spec.COLLECTIVES``.
        ranks: world size.
        sizes_bytes: buffer sizes, each a whole number of elements.
        out: the journal that records are appended to.
        run: identifier of this invocation, in every record.
        schedule: the algorithm to execute; None for the backend's own collective.
        slices: pieces the schedule was pipelined in, for the record.
        dtype, op: of the elements and the reduction.
        backend: "gloo", "nccl", or "auto": nccl if every rank has a GPU of its own, else gloo.
        iters, warmup: timed and warm-up iterations per size.
        timing: "isolated" (barrier before each iteration) or "pipelined" (back to back after one barrier).
        check: whether the values are checked after the timed loop.
        timeout_s: seconds without progress after which a rank counts as hung.

    Raises:
        InputError: a value that no run can have; names option, value and rule.
    """

    collective: str
    ranks: int
    sizes_bytes: tuple[int, ...]
    out: Path
    run: str
    schedule: Schedule | None = None
    slices: int = 1
    dtype: str = "float32"
    op: str = "sum"
    backend: str = "auto"
    iters: int = 20
    warmup: int = 5
    timing: str = "isolated"
    check: bool = True
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        get_collective(self.collective)
        item = dtype_bytes(self.dtype)
        for option, value, known in (
            ("--op", self.op, OPS),
            ("--backend", self.backend, BACKENDS),
            ("--timing", self.timing, TIMINGS),
        ):
            if value not in known:
                raise InputError(f"{option} {value!r} is unknown; known: {', '.join(known)}")
        for option, number, least in (
            ("--nproc", self.ranks, 1),
            ("--iters", self.iters, 1),
            ("--warmup", self.warmup, 0),
            ("--slices", self.slices, 1),
        ):
            if number < least:
                raise InputError(f"{option} {number} must be at least {least}")
        if not self.timeout_s > 0:
            raise InputError(f"--timeout {self.timeout_s:g} must be above 0 seconds")
        for size in self.sizes_bytes:
            if size < item or size % item:
                raise InputError(f"size {size} bytes is not one or more whole elements of {self.dtype} ({item} bytes)")
        if self.schedule is not None:
            self._require_fit(self.schedule)

    def _require_fit(self, schedule: Schedule) -> None:
        if schedule.num_ranks != self.ranks:
            raise InputError(
                f"schedule {schedule.algorithm!r} is for {schedule.num_ranks} ranks, the run has {self.ranks}"
            )
        if schedule.collective != self.collective:
            raise InputError(
                f"schedule {schedule.algorithm!r} is a {schedule.collective}, the run is of {self.collective}"
            )

    @property
    def algorithm(self) -> str:
        """Name of the algorithm; "native" is the backend's own."""
        return "native" if self.schedule is None else self.schedule.algorithm

    def to_json(self) -> str:
        """The plan as text, for a rank in another process."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["out"] = str(self.out)
        data["schedule"] = None if self.schedule is None else to_text(self.schedule)
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan that :meth:`to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        data["out"] = Path(data["out"])
        data["sizes_bytes"] = tuple(data["sizes_bytes"])
        if data["schedule"] is not None:
            data["schedule"] = from_text(data["schedule"], "the plan's schedule")
        return cls(**data)


def default_out(collective: str, algorithm: str) -> Path:
    """``runs/<UTC time>-<collective>-<algorithm>.jsonl``."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in algorithm)
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{collective}-{name}.jsonl"
