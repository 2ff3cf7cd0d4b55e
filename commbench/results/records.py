# SPDX-License-Identifier: Apache-2.0
"""What was observed: immutable records with raw samples. Statistics are derived, never stored as truth.

Every record turns into one JSON object with ``kind`` and ``schema`` (DESIGN section 9). Times are seconds, sizes
bytes, bandwidths GB/s (1e9 bytes/s). Derived figures are written for scripts to read; on the way back in they are
computed anew from the samples.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from statistics import median
from typing import Any, ClassVar, Self

from commbench.errors import ResultsError
from commbench.units import GB

__all__ = ["SCHEMA", "Compared", "Measured", "Record", "Simulated", "Summary", "record_from_json"]

SCHEMA = 1
Samples = tuple[tuple[float, ...], ...]
"""Seconds, shape rank x iteration."""


def _bandwidth_GBps(size_bytes: int, time_s: float) -> float | None:  # noqa: N802  the unit is spelled as in the output
    """Algorithm bandwidth in GB/s, or None where it has no meaning (no bytes, no time)."""
    return size_bytes / time_s / GB if size_bytes and time_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base: one observation, one JSON line; ``run`` identifies the invocation that made it, "" if nothing says so."""

    kind: ClassVar[str]

    run: str = ""

    def derived(self) -> dict[str, Any]:
        """Figures computed from the fields, written beside them."""
        return {}

    def to_json(self) -> str:
        """One line of JSON, without the newline."""
        return json.dumps({"kind": self.kind, "schema": SCHEMA, **self.derived(), **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record of a decoded JSON object; unknown keys are derived figures and are dropped.

        Raises:
            KeyError: a required field is missing.
        """
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        for name in ("samples_s", "warmup_s"):
            if name in known:
                known[name] = tuple(tuple(row) for row in known[name])
        if "phases_s" in known:
            known["phases_s"] = {k: tuple(tuple(row) for row in v) for k, v in known["phases_s"].items()}
        try:
            return cls(**known)
        except TypeError as error:
            raise KeyError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Record):
    """One collective at one size on live ranks.

    Attributes:
        run: identifier of the invocation that measured it.
        collective, algorithm, backend: what ran; ``algorithm`` "native" is the backend's own collective.
        ranks: world size. size_bytes: as nccl-tests defines the size. num_elements: of the buffer. dtype, op: of it.
        channels, slices: pieces that the schedule ran side by side and was pipelined in; 1 for native. root: of rooted
            collectives, else 0. group: ranks per host that the schedule was built for; 1 for native.
        schedule: digest of the schedule's text form (collectives.text.digest), "" for native.
        samples_s: seconds of each timed iteration, rank x iteration, each rank by its own clock.
        warmup_s: the same for the warm-up iterations, which no statistic uses.
        phases_s: seconds spent per phase ("post", "wait", "reduce"), rank x iteration; empty for native.
        timing: "isolated" (barrier before each iteration) or "pipelined" (back to back).
        wrong: elements with a wrong value over all ranks after the correctness run; None if it was not run.
        busbw_factor: factor from algbw to busbw for this collective and world size.
        launcher: what started the ranks ("commbench", "torchrun", ...).
        environment: typed facts about machine and software, see results.environment.
        started_at: ISO 8601 time with zone at which this size began.
    """

    kind: ClassVar[str] = "measured"

    run: str
    collective: str
    algorithm: str
    backend: str
    ranks: int
    size_bytes: int
    num_elements: int
    dtype: str
    op: str
    samples_s: Samples
    busbw_factor: float
    timing: str
    launcher: str
    started_at: str
    wrong: int | None = None
    channels: int = 1
    slices: int = 1
    group: int = 1
    root: int = 0
    schedule: str = ""
    warmup_s: Samples = ()
    phases_s: Mapping[str, Samples] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.samples_s}
        if len(self.samples_s) != self.ranks or len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"samples_s must hold a row of one iteration or more for each of {self.ranks} ranks")
        if not all(isinstance(t, float | int) and t > 0 for row in self.samples_s for t in row):
            raise ValueError("samples_s must be seconds above zero")
        for name in ("ranks", "size_bytes", "num_elements", "channels", "slices", "group"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} {getattr(self, name)!r} must be a whole number")

    @property
    def slowest_s(self) -> tuple[float, ...]:
        """Per iteration, the slowest rank's seconds."""
        return tuple(max(column) for column in zip(*self.samples_s, strict=True))

    @property
    def time_s(self) -> float:
        """The headline: median over iterations of the maximum over ranks."""
        return median(self.slowest_s)

    @property
    def spread_s(self) -> float:
        """Median absolute deviation over iterations of the headline's per-iteration maxima."""
        middle = self.time_s
        return median(abs(t - middle) for t in self.slowest_s)

    @property
    def algbw_GBps(self) -> float | None:  # noqa: N802
        """size / time in GB/s."""
        return _bandwidth_GBps(self.size_bytes, self.time_s)

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802
        """algbw x factor in GB/s; None for one rank, where it says nothing."""
        algbw = self.algbw_GBps
        return algbw * self.busbw_factor if algbw is not None and self.ranks > 1 else None

    def derived(self) -> dict[str, Any]:
        """Headline, spread and bandwidths."""
        return {
            "time_s": self.time_s,
            "spread_s": self.spread_s,
            "algbw_GBps": self.algbw_GBps,
            "busbw_GBps": self.busbw_GBps,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated(Record):
    """One simulated collective at one size.

    Attributes:
        library: whose behaviour the schedule follows ("schedule" for a plain schedule).
        time_s: from the common start to the end of the last rank.
        lower_bound_s: no schedule without in-switch reduction is faster on this topology (network.bounds).
        channels, slices: pieces that run side by side, and pieces to pipeline in. group: ranks per host that the
            algorithm was told. root: of rooted collectives, else 0. element_bytes: of one element.
        topology, routing, placement: where it ran. engine: "reference" or "compiled". detail: "transfer" ...
        network: what messages cost: "fluid" (what the links say alone) or the name of a transport.
        transfers: how many the collective has. shortcut: what was folded or skipped, in words; "" if each of them was
            simulated.
        scenario: name of the scenario that disturbed it, "" if none. scenario_digest: of what is in it, "" if none.
        jitter: share by which the bytes of transfers vary.
        wall_s: real seconds that it took. seed: of routing hash, placement and jitter.
    """

    kind: ClassVar[str] = "simulated"

    collective: str
    algorithm: str
    library: str
    ranks: int
    size_bytes: int
    time_s: float
    busbw_factor: float
    lower_bound_s: float
    topology: str
    routing: str
    placement: str
    engine: str
    detail: str
    transfers: int
    wall_s: float
    seed: int
    channels: int = 1
    slices: int = 1
    group: int = 1
    root: int = 0
    element_bytes: int = 4
    network: str = "fluid"
    shortcut: str = ""
    scenario: str = ""
    scenario_digest: str = ""
    jitter: float = 0.0

    @property
    def algbw_GBps(self) -> float | None:  # noqa: N802
        """size / time in GB/s."""
        return _bandwidth_GBps(self.size_bytes, self.time_s)

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802
        """algbw x factor in GB/s; None for one rank."""
        algbw = self.algbw_GBps
        return algbw * self.busbw_factor if algbw is not None and self.ranks > 1 else None

    def derived(self) -> dict[str, Any]:
        """Bandwidths."""
        return {"algbw_GBps": self.algbw_GBps, "busbw_GBps": self.busbw_GBps}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Record):
    """One measured point beside its prediction.

    Attributes:
        run: that measured it. channels, slices, group, root, dtype, op, timing: as measured.
        topology: that it was predicted on, or the lab that it was measured in.
        error: signed, simulated / measured - 1.
        set: "fit" if the calibration saw this point, else "test".
        region: "latency" (<= 64 KiB), "knee" or "plateau" (>= 256 MiB), as results.regions says.
    """

    kind: ClassVar[str] = "compared"

    collective: str
    algorithm: str
    backend: str
    ranks: int
    size_bytes: int
    slices: int
    measured_s: float
    spread_s: float
    simulated_s: float
    set: str
    region: str
    busbw_factor: float
    topology: str
    channels: int = 1
    group: int = 1
    root: int = 0
    dtype: str = "float32"
    op: str = "sum"
    timing: str = "isolated"

    @property
    def error(self) -> float:
        """Signed relative error of the simulation."""
        return self.simulated_s / self.measured_s - 1

    def derived(self) -> dict[str, Any]:
        """The signed error."""
        return {"error": self.error}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Record):
    """The end of a validation: error over the test points and whether the thresholds held.

    Attributes:
        points: test points counted. groups: the same statistics by fabric, algorithm and region.
        max_median_abs_error, max_p95_abs_error: the thresholds. ok: both held.
    """

    kind: ClassVar[str] = "summary"

    points: int
    median_abs_error: float
    p95_abs_error: float
    max_median_abs_error: float
    max_p95_abs_error: float
    ok: bool
    groups: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


@cache
def _record_types() -> Mapping[str, type[Record]]:
    """Every kind of record; those of other modules are imported here, as they build on this one."""
    from commbench.results.device_records import DEVICE_RECORDS
    from commbench.results.pipeline_records import PIPELINE_RECORDS
    from commbench.results.steps import SimulatedStep

    here: tuple[type[Record], ...] = (Measured, Simulated, Compared, Summary, SimulatedStep)
    others: tuple[type[Record], ...] = (*PIPELINE_RECORDS, *DEVICE_RECORDS)
    return {cls.kind: cls for cls in (*here, *others)}


def record_from_json(line: str, place: str) -> Record:
    """The record on one JSON line; ``place`` (file and line number) opens every error message.

    Raises:
        ResultsError: not whole JSON, an unknown kind or schema, or a missing field.
    """
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{place}: not a whole JSON object ({error.msg} at column {error.colno}); the line was cut"
        ) from None
    types = _record_types()
    if not isinstance(data, dict) or data.get("kind") not in types:
        kind = data.get("kind") if isinstance(data, dict) else data
        raise ResultsError(f"{place}: kind {kind!r} is unknown; known: {', '.join(types)}")
    if data.get("schema") != SCHEMA:
        raise ResultsError(f"{place}: schema {data.get('schema')!r}; this commbench reads schema {SCHEMA}")
    try:
        return types[data["kind"]].from_json(data)
    except KeyError as error:
        raise ResultsError(f"{place}: a {data['kind']} record misses a field: {error.args[0]}") from None
