# SPDX-License-Identifier: Apache-2.0
"""What was observed: immutable records with raw samples. Statistics are derived, never stored as truth.

Every record turns into one JSON object with ``kind`` and ``schema`` (DESIGN section 9). Times are seconds, sizes
bytes, bandwidths GB/s (1e9 bytes/s). Derived figures are written for scripts to read; on the way back in they are
computed anew from the samples.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar

from commbench.results.regions import KNEE, LATENCY, PLATEAU
from commbench.results.shapes import Environment, Shaped
from commbench.results.statistics import deviation, median, percentile, slowest
from commbench.results.strict import CONFIG
from commbench.results.values import (
    Bytes,
    Count,
    Factor,
    Instant,
    Lasting,
    Name,
    OneOf,
    Samples,
    Seconds,
    Share,
    Whole,
)
from commbench.units import GB

__all__ = ["SCHEMA", "Compared", "Measured", "Record", "Simulated", "Summary", "bandwidth_GBps", "require_rows"]

SCHEMA = 1


def bandwidth_GBps(size_bytes: int, time_s: float) -> float | None:  # noqa: N802  the unit is spelled as in the output
    """Algorithm bandwidth in GB/s, or None where it has no meaning (no bytes, no time)."""
    return size_bytes / time_s / GB if size_bytes and time_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base: one observation, one JSON line; ``run`` identifies the invocation that made it, "" if nothing says so."""

    kind: ClassVar[str]
    __pydantic_config__: ClassVar[Mapping[str, Any]] = CONFIG

    run: str = ""

    def derived(self) -> dict[str, Any]:
        """Figures computed from the fields, written beside them."""
        return {}

    def to_json(self) -> str:
        """One line of JSON, without the newline."""
        return json.dumps({"kind": self.kind, "schema": SCHEMA, **self.derived(), **asdict(self)}, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows: the kind, the derived figures and the plain fields, by their names in the JSON."""
        from html import escape

        names = [field.name for field in fields(self)]
        found = {"kind": self.kind, **self.derived(), **{name: getattr(self, name) for name in names}}
        plain = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
        rows = (f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in plain.items())
        return f"<table>{''.join(rows)}</table>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Record):
    """One collective at one size on live ranks.

    Attributes:
        run: identifier of the invocation that measured it.
        collective, algorithm, backend: what ran; ``algorithm`` "native" is the backend's own collective.
        ranks: world size. size_bytes: as nccl-tests defines the size. num_elements: of the buffer. dtype, op: of it.
        channels, slices: pieces that the schedule ran side by side and was pipelined in; 1 for native. root: of rooted
            collectives, else 0. group: ranks per host that the schedule was built for; 1 for native.
        weights: of all-to-all-v, relative sizes of what each rank had for each, row by row; empty where all were equal.
        schedule: digest of the schedule's text form (collectives.text.digest), "" for native.
        samples_s: seconds of each timed iteration, rank x iteration, each rank by its own clock.
        warmup_s: the same for the warm-up iterations, which no statistic uses.
        phases_s: seconds spent per phase ("post", "wait", "reduce"), rank x iteration; empty for native.
        timing: "isolated" (barrier before each iteration) or "pipelined" (back to back).
        in_place: whether the result stood where the input stood; None in records that do not tell.
        cold_cache: whether caches were emptied before each iteration.
        graphed: iterations that a CUDA graph held; a sample is then the time of its launch, divided by them. 0: none.
        wrong: elements with a wrong value over all ranks after the correctness run; None if it was not run.
        busbw_factor: factor from algbw to busbw for this collective and world size.
        launcher: what started the ranks ("commbench", "torchrun", ...).
        environment: typed facts about machine and software, see results.environment.
        started_at: ISO 8601 time with zone at which this size began.
    """

    kind: ClassVar[str] = "measured"

    run: Name
    collective: Name
    algorithm: Name
    backend: Name
    ranks: Count
    size_bytes: Bytes
    num_elements: Count
    dtype: Name
    op: str
    samples_s: Samples
    busbw_factor: Factor
    timing: Annotated[str, OneOf(("isolated", "pipelined"))]
    launcher: str
    started_at: Instant
    in_place: bool | None = None
    wrong: Whole | None = None
    channels: Count = 1
    slices: Count = 1
    group: Count = 1
    root: Whole = 0
    weights: tuple[Whole, ...] = ()
    cold_cache: bool = False
    graphed: Whole = 0
    schedule: str = ""
    warmup_s: Samples = ()
    phases_s: Mapping[str, tuple[tuple[Seconds, ...], ...]] = field(default_factory=dict)
    environment: Environment = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_rows("samples_s", self.samples_s, self.ranks)
        if self.warmup_s and any(self.warmup_s):
            require_rows("warmup_s", self.warmup_s, self.ranks)
        for phase, rows in self.phases_s.items():
            require_rows(f"phases_s.{phase}", rows, self.ranks)
        if self.num_elements and self.size_bytes % self.num_elements:
            raise ValueError(f"size_bytes {self.size_bytes} must be a whole number of {self.num_elements} elements")
        if self.weights and len(self.weights) != self.ranks**2:
            raise ValueError(f"weights must be {self.ranks**2} numbers, one for each two of {self.ranks} ranks")
        if self.root >= self.ranks:
            raise ValueError(f"root {self.root} must be one of the {self.ranks} ranks")

    @property
    def slowest_s(self) -> tuple[float, ...]:
        """Per iteration, the slowest rank's seconds."""
        return slowest(self.samples_s)

    @property
    def time_s(self) -> float:
        """The headline: median over iterations of the maximum over ranks."""
        return median(self.slowest_s)

    @property
    def spread_s(self) -> float:
        """Median absolute deviation over iterations of the headline's per-iteration maxima."""
        return deviation(self.slowest_s)

    @property
    def p95_s(self) -> float:
        """95th percentile over iterations of the slowest rank."""
        return percentile(self.slowest_s, 0.95)

    @property
    def p99_s(self) -> float:
        """99th percentile of the same."""
        return percentile(self.slowest_s, 0.99)

    @property
    def algbw_GBps(self) -> float | None:  # noqa: N802
        """size / time in GB/s."""
        return bandwidth_GBps(self.size_bytes, self.time_s)

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802
        """algbw x factor in GB/s; None for one rank, where it says nothing."""
        algbw = self.algbw_GBps
        return algbw * self.busbw_factor if algbw is not None and self.ranks > 1 else None

    def derived(self) -> dict[str, Any]:
        """Headline, spread, percentiles and bandwidths."""
        return {
            "time_s": self.time_s,
            "spread_s": self.spread_s,
            "p95_s": self.p95_s,
            "p99_s": self.p99_s,
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
        weights: of all-to-all-v, as measured ones have them.
        topology, routing, placement: where it ran. engine: "reference" or "compiled". detail: "transfer" ...
        network: what messages cost: "fluid" (what the links say alone), a packet network, or the name of a transport.
            network_why: it was that one, where that was left open (``--network auto``).
        transfers: how many the collective has. shortcut: what was folded or skipped, in words; "" if each of them was
            simulated.
        scenario: name of the scenario that disturbed it, "" if none. scenario_digest: of what is in it, "" if none.
        jitter: share by which the bytes of transfers vary.
        wall_s: real seconds that it took. seed: of routing hash, placement and jitter.
        jobs: where several ran at once, ``ranks`` and ``time_s`` of each; the record's own time is that of the slowest.
        fluid_time_s: of a packet network, seconds that the fluid model takes for the same transfers; else None.
        counted: what that network counted over all links (sim.packets). queues: the ten links with the deepest queues.
        library_version, protocol: of a library with a model, else "". terms: seconds by what they go to: from that
            model, or where it was asked for of the critical path of single transfers (sim.terms).
        links: the busiest, if asked for and known: ``link``, ``bytes``, ``utilisation`` over the time, ``bound_share``
            (time of these bytes on that link / lower bound).
    """

    kind: ClassVar[str] = "simulated"

    collective: Name
    algorithm: Name
    library: Name
    ranks: Count
    size_bytes: Bytes
    time_s: Seconds
    busbw_factor: Factor
    lower_bound_s: Seconds
    topology: Name
    routing: Name
    placement: Name
    engine: Name
    detail: Name
    transfers: Whole
    wall_s: Seconds
    seed: int
    channels: Count = 1
    slices: Count = 1
    group: Count = 1
    root: Whole = 0
    element_bytes: Count = 4
    weights: tuple[Whole, ...] = ()
    network: Name = "fluid"
    network_why: str = ""
    shortcut: str = ""
    scenario: str = ""
    scenario_digest: str = ""
    jitter: Share = 0.0
    jobs: tuple[Mapping[str, Any], ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    fluid_time_s: Seconds | None = None
    counted: Mapping[str, float] = field(default_factory=dict)
    queues: tuple[Mapping[str, Any], ...] = ()
    library_version: str = ""
    protocol: str = ""
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def algbw_GBps(self) -> float | None:  # noqa: N802
        """size / time in GB/s."""
        return bandwidth_GBps(self.size_bytes, self.time_s)

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
        run: that measured it.
        channels, slices, group, root, weights, cold_cache, graphed, dtype, op, timing, in_place: as measured.
        topology: that it was predicted on, or the lab that it was measured in.
        error: signed, simulated / measured - 1.
        set: "fit" if the calibration saw this point, else "test"; "busy" where processors were, and neither uses it.
        round: which of the groups that ran at once, in words; "" where there was one.
        region: "latency" (<= 64 KiB), "knee" or "plateau" (>= 256 MiB), as results.regions says.
        packets_s: simulated by packets beside; None where that was not done.
    """

    kind: ClassVar[str] = "compared"

    collective: Name
    algorithm: Name
    backend: Name
    ranks: Count
    size_bytes: Bytes
    slices: Count
    measured_s: Lasting
    spread_s: Seconds
    simulated_s: Seconds
    set: Annotated[str, OneOf(("fit", "test", "busy"))]
    region: Annotated[str, OneOf((LATENCY, KNEE, PLATEAU))]
    busbw_factor: Factor
    topology: Name
    channels: Count = 1
    group: Count = 1
    root: Whole = 0
    weights: tuple[Whole, ...] = ()
    cold_cache: bool = False
    graphed: Whole = 0
    dtype: Name = "float32"
    op: str = "sum"
    timing: Annotated[str, OneOf(("isolated", "pipelined"))] = "isolated"
    in_place: bool | None = None
    round: str = ""
    packets_s: Seconds | None = None

    @property
    def error(self) -> float:
        """Signed relative error of the simulation."""
        return self.simulated_s / self.measured_s - 1

    @property
    def packets_error(self) -> float | None:
        """... of that by packets."""
        return None if self.packets_s is None else self.packets_s / self.measured_s - 1

    def derived(self) -> dict[str, Any]:
        """The signed errors."""
        return {"error": self.error} | ({} if self.packets_s is None else {"packets_error": self.packets_error})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Record):
    """The end of a validation: error over the test points and whether the thresholds held.

    Attributes:
        points: test points counted. groups: the same statistics by fabric, algorithm and region.
        max_median_abs_error, max_p95_abs_error: the thresholds. ok: both held.
    """

    kind: ClassVar[str] = "summary"

    points: Count
    median_abs_error: Factor
    p95_abs_error: Factor
    max_median_abs_error: Factor
    max_p95_abs_error: Factor
    ok: bool
    groups: Mapping[str, Mapping[str, Annotated[Mapping[str, float], Shaped("GroupFigures")]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        held = self.median_abs_error <= self.max_median_abs_error and self.p95_abs_error <= self.max_p95_abs_error
        if self.ok is not held:
            raise ValueError(f"ok is {self.ok}, but its errors and thresholds say {held}")


def require_rows(name: str, rows: Sequence[Sequence[object]], count: int, length: int | None = None) -> None:
    """Refuse rows that are not ``count`` of one length, which is ``length`` if given, else any above zero.

    Raises:
        ValueError: names the field.
    """
    lengths = {len(row) for row in rows}
    if len(rows) != count or len(lengths) != 1 or 0 in lengths or length not in (None, *lengths):
        what = "one iteration or more" if length is None else f"{length} iterations"
        raise ValueError(f"{name} must hold a row of {what} for each of {count} ranks")
