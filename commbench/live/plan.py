# SPDX-License-Identifier: Apache-2.0
"""One collective over some sizes, as a job that every rank gets the same copy of."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from commbench.collectives.passes import out_of_place
from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import dtype_bytes, whole_elements
from commbench.collectives.spec import CollectiveSpec, get_collective
from commbench.collectives.text import from_text, to_text
from commbench.errors import InputError
from commbench.live.backend import AUTO, BACKENDS, Backend
from commbench.live.job import LiveJob, require_known, require_least
from commbench.live.reductions import BY_SCHEDULE, OPS

__all__ = ["ASIDE", "OPS", "PLACES", "TIMINGS", "Plan", "default_out", "require_ranks_only", "rounded_sizes"]

_FLOAT8 = "float8"
TIMINGS = ("isolated", "pipelined")
PLACES = ("in", "out", "both")
ASIDE = frozenset({"all-gather", "reduce-scatter", "gather", "scatter"})
"""Collectives that torch has in place and out of place; others it has in one of the two ways."""

_LONGEST_BUDGET_S = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(LiveJob):
    """One run of one collective over some sizes. Iterations are per size; values are checked after the timed loop.

    Attributes:
        collective: a key of ``spec.COLLECTIVES``.
        sizes_bytes: of the full buffer (all-to-all-v: of one rank's row), each a whole number of elements in every
            rank's block (:func:`rounded_sizes`); one element for a barrier, which moves no more than a token.
        schedule: the algorithm to execute, or one schedule per size where it depends on the size; None for the
            backend's own collective.
        root: of rooted collectives.
        channels, slices, group: pieces the schedule runs side by side and was pipelined in, and the ranks per host that
            it was built for, for the record.
        weights: of all-to-all-v, relative sizes of what each rank has for each, row by row; empty for equal ones.
        dtype, op: of the elements and the reduction (where there is one).
        timing: "isolated" (barrier before each iteration) or "pipelined" (back to back after one barrier).
        budget_s: seconds of timed iterations at each size, instead of ``iters``; 0 for none.
        graphs: launches of one graph that holds all ``iters``, a sample each; 0 launches iterations one by one.
        cold_cache: whether caches are emptied before each iteration.
        resume: whether sizes that the run has in its file already are left out.
        place: where results stand: "in" (where the inputs stood), "out" (in a second buffer), "both" (in turn, as far
            as there are both) or "", as the schedule has it; the backend's own are in place where they may.

    Raises:
        InputError: a value that no run can have; names option, value and rule.
    """

    kind: ClassVar[str] = "collective"

    collective: str
    sizes_bytes: tuple[int, ...]
    schedule: Schedule | tuple[Schedule, ...] | None = None
    root: int = 0
    channels: int = 1
    slices: int = 1
    group: int = 1
    weights: tuple[int, ...] = ()
    dtype: str = "float32"
    op: str = "sum"
    iters: int = 20
    warmup: int = 5
    timing: str = "isolated"
    place: str = ""
    budget_s: float = 0.0
    graphs: int = 0
    cold_cache: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        LiveJob.__post_init__(self)
        spec, item = get_collective(self.collective), dtype_bytes(self.dtype)
        require_known("--op", self.op, OPS)
        require_known("--timing", self.timing, TIMINGS)
        if self.place:
            require_known("--place", self.place, PLACES)
        require_least(1, ("--channels", self.channels), ("--slices", self.slices), ("--group", self.group))
        if not 0 <= self.root < self.ranks:
            raise InputError(f"--root {self.root} is outside the ranks 0..{self.ranks - 1}")
        if self.root and not spec.rooted:
            raise InputError(f"--root {self.root} has no meaning for {self.collective}")
        for size in self.sizes_bytes:
            if size < item or size % item:
                raise InputError(f"size {size} bytes is not one or more whole elements of {self.dtype} ({item} bytes)")
            if rounded_sizes(spec, self.ranks, (size,), item) != (size,):
                raise InputError(f"size {size} bytes is not as many elements for each of {self.ranks} ranks")
        self._require_time()
        if self.backend != AUTO:
            self.require_known_to(BACKENDS[self.backend])
        if self.weights and (not spec.rows or len(self.weights) != self.ranks**2):
            raise InputError(f"{len(self.weights)} weights: {self.collective} on {self.ranks} ranks has none such")
        self._require_fit()
        if not self.in_places:
            way = "in place" if self.place == "in" else "out of place"
            whose = "torch has" if self.schedule is None else f"algorithm {self.algorithm} has"
            raise InputError(f"--place {self.place}: {whose} no {self.collective} {way}; give --place both or leave it")

    def require_known_to(self, backend: Backend) -> None:
        """Refuse a reduction or elements that the backend, or a schedule, does not have.

        Raises:
            InputError: names what, and what there is.
        """
        reduces = self.recorded_op != "none"
        who = f"algorithm {self.algorithm}" if self.schedules else f"backend {backend.name}"
        ops = BY_SCHEDULE if self.schedules else backend.ops
        if reduces and self.op not in ops:
            raise InputError(f"--op {self.op}: {who} has none such; known there: {', '.join(ops)}")
        if self.dtype.startswith(_FLOAT8) and (reduces if self.schedules else not backend.float8):
            what = "adds none such" if self.schedules else "has none such"
            raise InputError(f"--dtype {self.dtype}: {who} {what}; give --backend nccl and no --algorithm, or bfloat16")
        if self.graphs and not backend.graphs:
            raise InputError(f"--graphs {self.graphs}: backend {backend.name} launches no kernels; give --backend nccl")

    def _require_time(self) -> None:
        if not 0 <= self.budget_s <= _LONGEST_BUDGET_S:
            raise InputError(f"--budget {self.budget_s:g} s must be above 0 and at most {_LONGEST_BUDGET_S} s a size")
        if self.budget_s and not self.warmup:
            raise InputError("--budget with --warmup 0: the warm-up tells how many iterations fit; give 1 or more")
        if self.graphs:
            self._require_recordable()
        if self.cold_cache and self.timing != "isolated":
            raise InputError(f"--cold-cache has no meaning with --timing {self.timing}: give isolated")

    def _require_recordable(self) -> None:
        require_least(1, ("--graphs", self.graphs))
        if self.budget_s:
            raise InputError(f"--graphs {self.graphs} with --budget: a graph holds --iters iterations; leave out one")
        if not self.warmup:
            raise InputError(f"--graphs {self.graphs} with --warmup 0: ranks connect in the warm-up; give 1 or more")
        if self.spec.covers:
            raise InputError(f"--graphs {self.graphs}: a host waits in a {self.collective}, a graph has no hosts")

    def _require_fit(self) -> None:
        if isinstance(self.schedule, tuple) and len(self.schedule) != len(self.sizes_bytes):
            raise InputError(f"{len(self.schedule)} schedules for {len(self.sizes_bytes)} sizes: give one for each")
        for schedule in self.schedules:
            name = f"schedule {schedule.algorithm!r}"
            if schedule.num_ranks != self.ranks:
                raise InputError(f"{name} is for {schedule.num_ranks} ranks, the run has {self.ranks}")
            if schedule.collective != self.collective:
                raise InputError(f"{name} is of {schedule.collective}, the run of {self.collective}")
            if schedule.weights != self.weights and (self.weights or self.spec.rows):
                raise InputError(f"{name} has other sizes for its pairs than the run")
            if self.spec.rooted and schedule.root != self.root:
                raise InputError(f"{name} has root {schedule.root}, the run has root {self.root}")
            require_ranks_only(schedule)

    @property
    def spec(self) -> CollectiveSpec:
        """The collective."""
        return get_collective(self.collective)

    @property
    def graphed(self) -> int:
        """Iterations that a graph holds, as a record has it: 0 where none is launched."""
        return self.iters if self.graphs else 0

    @property
    def recorded_op(self) -> str:
        """The reduction, as a record has it: "none" where nothing is added up."""
        return self.op if self.spec.reduces and not self.spec.covers else "none"

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """One schedule, or one per size; none for the backend's own collective."""
        if self.schedule is None:
            return ()
        return self.schedule if isinstance(self.schedule, tuple) else (self.schedule,)

    def schedule_for(self, size_bytes: int, in_place: bool | None = None) -> Schedule | None:
        """The schedule of one of the sizes; None for the backend's own collective.

        Args:
            in_place: how it is wanted; None takes it as it is.
        """
        at = self.sizes_bytes.index(size_bytes) if isinstance(self.schedule, tuple) else 0
        found = self.schedules[at] if self.schedules else None
        return out_of_place(found) if found is not None and in_place is False and found.output == 0 else found

    @property
    def algorithm(self) -> str:
        """Name of the algorithm; "native" is the backend's own."""
        return self.schedules[0].algorithm if self.schedules else "native"

    @property
    def in_places(self) -> tuple[bool, ...]:
        """What every size is measured with, in turn: whether the result stands where the input stood."""
        usual = self.schedules[0].output == 0 if self.schedules else self.spec.in_place
        aside = not usual or bool(self.schedules) or self.collective in ASIDE
        if not self.place:
            return (usual,)
        return (False,) * (aside and self.place != "in") + (True,) * (usual and self.place != "out")

    def to_json(self) -> str:
        """The plan as text, for a rank in another process."""
        data = {"kind": self.kind} | {f.name: getattr(self, f.name) for f in fields(self)}
        data["out"] = str(self.out)
        data["schedule"] = [to_text(schedule) for schedule in self.schedules]
        data["by_size"] = isinstance(self.schedule, tuple)
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that :meth:`to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        del data["kind"]
        data["out"] = Path(data["out"])
        data |= {name: tuple(data[name]) for name in ("sizes_bytes", "weights")}
        schedules = tuple(from_text(schedule, "the plan's schedule") for schedule in data.pop("schedule"))
        by_size = data.pop("by_size")
        return cls(**data, schedule=schedules if by_size else schedules[0] if schedules else None)


def rounded_sizes(
    spec: CollectiveSpec, num_ranks: int, sizes_bytes: Iterable[int], element_bytes: int
) -> tuple[int, ...]:
    """The sizes that can be measured, in bytes: rounded down by ``whole_elements``, none twice.

    Raises:
        InputError: a size that holds nothing.
    """
    elements = (whole_elements(spec, num_ranks, size, element_bytes) for size in sizes_bytes)
    return tuple(dict.fromkeys(count * element_bytes for count in elements))


def require_ranks_only(schedule: Schedule) -> None:
    """Refuse a schedule that live ranks cannot run.

    Raises:
        InputError: it needs switches that add.
    """
    if schedule.num_switches:
        raise InputError(
            f"schedule {schedule.algorithm!r} adds inside {schedule.num_switches} switches: it can be simulated, "
            "not run on live ranks"
        )


def default_out(run: str, collective: str, algorithm: str) -> Path:
    """``runs/<run id>-<collective>-<algorithm>.jsonl``."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in algorithm)
    return Path("runs") / f"{run}-{collective}-{name}.jsonl"
