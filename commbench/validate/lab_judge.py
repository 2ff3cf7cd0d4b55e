# SPDX-License-Identifier: Apache-2.0
"""Hold what was measured in labs against the simulator: fitted on one star, tested on all else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from commbench.calibrate.transport import fit_transport
from commbench.errors import CheckFailedError, InputError
from commbench.libraries.gloo import GLOO_TCP
from commbench.network.transport import Transport
from commbench.results.records import Compared, Measured, Summary
from commbench.results.regions import region
from commbench.units import format_bytes, seconds
from commbench.validate.compare import BUSY, FIT, TEST, figures, summarize
from commbench.validate.lab_predict import predict
from commbench.validate.lab_runs import LEAST_IDLE, idle_of, is_busy, leg_of
from commbench.validate.legs import FIT_SIZES, NATIVE, STAR, EmulatedFabric

__all__ = ["BARS", "Agreement", "Bar", "LabPoint", "is_fit", "judge_labs"]


@dataclass(frozen=True, slots=True)
class Bar:
    """Largest median and largest 95th percentile of |error| that pass."""

    median: float
    p95: float


BARS: Mapping[bool, Bar] = {False: Bar(0.03, 0.10), True: Bar(0.05, 0.15)}
"""By whether a point is contended."""


@dataclass(frozen=True, slots=True)
class LabPoint:
    """One point: the comparison, whether flows contended for a link in it, and its leg's name.

    ``idle`` is the part of the processors' time that was left; None in records from before it was told.
    """

    compared: Compared
    contended: bool
    leg: str
    idle: float | None = None


_TOLD = ("topology", "routing", "rate_mbit", "mtu", "jobs", "job", "channels", "group")  # that a prediction needs


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a campaign found.

    Attributes:
        transport: as fitted. points: all of them, those with busy processors too.
        summaries: of the test points, uncontended and contended.
    """

    transport: Transport
    points: tuple[LabPoint, ...]
    summaries: Mapping[bool, Summary]

    @property
    def ok(self) -> bool:
        """Whether all bars hold."""
        return all(summary.ok for summary in self.summaries.values())

    @property
    def used(self) -> tuple[LabPoint, ...]:
        """The points of fit and test."""
        return tuple(point for point in self.points if point.compared.set != BUSY)

    @property
    def busy(self) -> tuple[LabPoint, ...]:
        """The other points: processors had less than :data:`LEAST_IDLE` left."""
        return tuple(point for point in self.points if point.compared.set == BUSY)

    @property
    def worst(self) -> LabPoint:
        """The test point that is farthest off."""
        return max((p for p in self.points if p.compared.set == TEST), key=lambda p: abs(p.compared.error))


def is_fit(record: Measured) -> bool:
    """Whether the calibration may see a record: gloo's own all-reduce on the star, the smaller sizes."""
    fabric = record.environment["emulated"]["topology"]
    wanted = (STAR.topology, NATIVE, "all-reduce")
    return (fabric, record.algorithm, record.collective) == wanted and record.size_bytes in FIT_SIZES


def require_lab(record: Measured) -> None:
    """Refuse a record that does not tell enough of a lab to predict it.

    Raises:
        InputError: names the run and what is missing.
    """
    lab = record.environment.get("emulated", {})
    missing = [f"emulated.{key}" for key in _TOLD if key not in lab]
    missing += [] if "burst_packets" in lab.get("shaping", {}) else ["emulated.shaping.burst_packets"]
    missing += [] if "cores_usable" in record.environment else ["cores_usable"]
    if missing:
        raise InputError(
            f"run {record.run}, {record.size_bytes} B: its environment does not tell {', '.join(missing)}; "
            "validate --emulated takes what it measured itself"
        )
    job, ranks = lab["job"], [rank for one in lab["jobs"] for rank in one]
    if job >= len(lab["jobs"]) or len(lab["jobs"][job]) != record.ranks or len(set(ranks)) != len(ranks):
        raise InputError(f"run {record.run}: emulated.jobs {lab['jobs']} is not what job {job} of it measured")


def judge_labs(
    records: Sequence[Measured], *, bars: Mapping[bool, Bar] = BARS, tell: Callable[[str], None] = lambda text: None
) -> Agreement:
    """Fit on the star, predict everything, and judge the test points, as far as the processors were not busy.

    Raises:
        InputError: a record is of no lab, nothing to fit on, or nothing to test.
        CheckFailedError: a record has wrong values.
    """
    for record in records:
        require_lab(record)
    wrong = [record for record in records if record.wrong]
    if wrong:
        raise CheckFailedError(f"{len(wrong)} records have wrong values, the first of {leg_of(wrong[0])}")
    known = [record for record in records if is_fit(record)]
    fitted = [record for record in known if not is_busy(record)]
    if not known:
        raise InputError(f"nothing to fit on: no {NATIVE} all-reduce on {STAR.topology} in the records")
    if not fitted:
        raise InputError(
            f"nothing to fit on: in all {len(known)} points of the {NATIVE} all-reduce on {STAR.topology} processors "
            f"had less than {LEAST_IDLE:.0%} of their time left; measure again in another --out, with less other work"
        )
    transport = fit_transport(GLOO_TCP, fitted, lambda point, tried: predict(point, tried).time_s)
    numbers = (seconds(ps) * 1e6 for ps in (transport.latency_ps, transport.overhead_ps))
    tell("fitted on {} points: latency {:.0f} us, overhead {:.1f} us".format(len(fitted), *numbers))
    points = tuple(_point(record, transport) for record in records)
    return Agreement(transport, points, _summaries(points, bars))


def _point(record: Measured, transport: Transport) -> LabPoint:
    lab = record.environment["emulated"]
    found = predict(record, transport)
    compared = Compared(
        run=record.run,
        collective=record.collective,
        algorithm=record.algorithm,
        backend=record.backend,
        ranks=record.ranks,
        size_bytes=record.size_bytes,
        channels=record.channels,
        slices=record.slices,
        group=record.group,
        root=record.root,
        dtype=record.dtype,
        op=record.op,
        timing=record.timing,
        in_place=record.in_place,
        measured_s=record.time_s,
        spread_s=record.spread_s,
        simulated_s=found.time_s,
        set=BUSY if is_busy(record) else FIT if is_fit(record) else TEST,
        region=region(record.size_bytes),
        busbw_factor=record.busbw_factor,
        topology=EmulatedFabric(lab["topology"], lab["routing"], lab["rate_mbit"]).label,
    )
    return LabPoint(compared, found.contended, leg_of(record), idle_of(record))


def _summaries(points: Sequence[LabPoint], bars: Mapping[bool, Bar]) -> dict[bool, Summary]:
    """A verdict on either kind of points, where there are any."""
    found = {}
    for contended, bar in bars.items():
        mine = [p for p in points if p.contended is contended and p.compared.set == TEST]
        if mine:
            summary = summarize([p.compared for p in mine], max_median=bar.median, max_p95=bar.p95)
            kind = {"contended": {"yes" if contended else "no": figures([p.compared for p in mine])}}
            extra = {"size": _by_size(mine), "jobs": _by_jobs(mine)}
            found[contended] = replace(summary, groups={**kind, **summary.groups, **extra})
    if not found:
        raise InputError("nothing to validate: every point was used by the fit, or measured by busy processors")
    return found


def _by_size(points: Sequence[LabPoint]) -> dict[str, Mapping[str, float]]:
    """By nominal size: what a collective rounds down by less than one part in a hundred is the same."""
    sizes = sorted({round(p.compared.size_bytes, -3) for p in points})
    groups = {size: [p.compared for p in points if round(p.compared.size_bytes, -3) == size] for size in sizes}
    return {format_bytes(max(c.size_bytes for c in group)): figures(group) for group in groups.values()}


def _by_jobs(points: Sequence[LabPoint]) -> dict[str, Mapping[str, float]]:
    kinds = {"one job": [p for p in points if "/" not in p.leg], "two jobs": [p for p in points if "/" in p.leg]}
    return {name: figures([p.compared for p in members]) for name, members in kinds.items() if members}
