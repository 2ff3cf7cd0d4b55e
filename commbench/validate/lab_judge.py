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
from commbench.validate.lab_packets import PacketPrediction, is_fair, predict_packets
from commbench.validate.lab_predict import LabPrediction, predict
from commbench.validate.lab_runs import LEAST_IDLE, idle_of, is_busy, leg_of
from commbench.validate.legs import FIT_SIZES, NATIVE, STAR, fabric_of

__all__ = ["BARS", "PACKET_BARS", "Agreement", "Bar", "LabPoint", "PacketAgreement", "is_fit", "judge_labs"]


@dataclass(frozen=True, slots=True)
class Bar:
    """Largest median and largest 95th percentile of |error| that pass."""

    median: float
    p95: float


BARS: Mapping[bool, Bar] = {False: Bar(0.03, 0.10), True: Bar(0.05, 0.15)}
"""Of the fluid model, by whether a point is contended; where ports have a queue for each pair."""

PACKET_BARS: Mapping[bool, Bar] = {True: Bar(0.008, 0.06), False: Bar(0.03, 0.10)}
"""Of packets, by whether ports have a queue for each pair."""


@dataclass(frozen=True, slots=True)
class LabPoint:
    """One point: the comparison, whether flows contended for a link in it, and its leg's name.

    ``idle`` is the part of the processors' time that was left; None in records from before it was told.
    ``fair``: ports have a queue for each pair. ``wrong``: in the lab, all the time (``EmulatedFabric.wrong``).
    ``drops``, ``repeated``: packets lost, and sent again, by packets.
    """

    compared: Compared
    contended: bool
    leg: str
    idle: float | None = None
    fair: bool = True
    wrong: str = "nothing"
    drops: int = 0
    repeated: int = 0

    @property
    def by_packets(self) -> "LabPoint":
        """The same with the time by packets in the place of the fluid model's."""
        assert self.compared.packets_s is not None
        return replace(self, compared=replace(self.compared, simulated_s=self.compared.packets_s))


@dataclass(frozen=True, slots=True)
class PacketAgreement:
    """What packets say beside: ``transport`` as fitted for them, and ``summaries`` by whether queues are fair."""

    transport: Transport
    summaries: Mapping[bool, Summary]


PACKETS, FAIR, ONE_QUEUE = "packets", "a queue for each pair", "one queue at every port"
"""Of the groups of a summary of packets the first, and what it is called by the kind of queues."""

_SHAPING = ("burst_packets", "fair", "congestion", "queue_packets")
_TOLD = ("topology", "routing", "rate_mbit", "mtu", "jobs", "job", "channels", "group")  # that a prediction needs


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a campaign found.

    Attributes:
        transport: as fitted. points: all of them, those with busy processors too.
        summaries: of the test points with fair queues, uncontended and contended.
        packets: None where only the fluid model was asked.
    """

    transport: Transport
    points: tuple[LabPoint, ...]
    summaries: Mapping[bool, Summary]
    packets: PacketAgreement | None = None

    @property
    def all_summaries(self) -> tuple[Summary, ...]:
        """Of the fluid model, then of packets."""
        return (*self.summaries.values(), *(() if self.packets is None else self.packets.summaries.values()))

    @property
    def ok(self) -> bool:
        """Whether all bars hold."""
        return all(summary.ok for summary in self.all_summaries)

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
    """Whether the calibration may see a record: gloo's own all-reduce on the star, where nothing is wrong, the smaller
    sizes."""
    fabric = fabric_of(record.environment["emulated"])
    healthy = replace(fabric, rate_mbit=STAR.rate_mbit) == STAR
    chosen = healthy and (record.algorithm, record.collective) == (NATIVE, "all-reduce")
    return chosen and record.size_bytes in FIT_SIZES


def require_lab(record: Measured) -> None:
    """Refuse a record that does not tell enough of a lab to predict it.

    Raises:
        InputError: names the run and what is missing.
    """
    lab = record.environment.get("emulated", {})
    missing = [f"emulated.{key}" for key in _TOLD if key not in lab]
    missing += [f"emulated.shaping.{key}" for key in _SHAPING if key not in lab.get("shaping", {})]
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
    records: Sequence[Measured],
    *,
    bars: Mapping[bool, Bar] = BARS,
    packet_bars: Mapping[bool, Bar] | None = PACKET_BARS,
    tell: Callable[[str], None] = lambda text: None,
) -> Agreement:
    """Fit on the star, predict everything, and judge the test points, as far as the processors were not busy.

    Args:
        records: of a campaign. bars: of the fluid model. packet_bars: of packets; None leaves them out.
        tell: takes what was fitted, in words.

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
    transport = _fitted("fluid", fitted, fluid_once, tell)
    points = tuple(_point(record, transport) for record in records)
    if packet_bars is None:
        return Agreement(transport, points, _summaries(points, bars))
    own = _fitted("packets", fitted, packets_once, tell)
    points = tuple(_with_packets(point, record, own) for point, record in zip(points, records, strict=True))
    return Agreement(
        transport, points, _summaries(points, bars), PacketAgreement(own, _of_packets(points, packet_bars))
    )


def fluid_once(record: Measured, transport: Transport) -> LabPrediction:
    """One draw of :func:`predict`: a fit asks hundreds of times, and what is left to chance should not move it."""
    return predict(record, transport, num_draws=1)


def packets_once(record: Measured, transport: Transport) -> PacketPrediction:
    """The same by packets."""
    return predict_packets(record, transport, num_draws=1)


def _fitted(
    network: str,
    points: Sequence[Measured],
    predicted: Callable[[Measured, Transport], LabPrediction | PacketPrediction],
    tell: Callable[[str], None],
) -> Transport:
    transport = fit_transport(GLOO_TCP, points, lambda point, tried: predicted(point, tried).time_s)
    numbers = (seconds(ps) * 1e6 for ps in (transport.latency_ps, transport.overhead_ps))
    tell("{} fitted on {} points: latency {:.0f} us, overhead {:.1f} us".format(network, len(points), *numbers))
    return transport


def _with_packets(point: LabPoint, record: Measured, transport: Transport) -> LabPoint:
    found = predict_packets(record, transport)
    compared = replace(point.compared, packets_s=found.time_s)
    return replace(point, compared=compared, drops=found.drops, repeated=found.repeated)


def _of_packets(points: Sequence[LabPoint], bars: Mapping[bool, Bar]) -> dict[bool, Summary]:
    """A verdict on packets on either kind of queues, where there are any."""
    found = {}
    for fair, bar in bars.items():
        mine = [p.by_packets for p in points if p.fair is fair and p.compared.set == TEST]
        if mine:
            summary = summarize([p.compared for p in mine], max_median=bar.median, max_p95=bar.p95)
            beside = [p.compared for p in points if p.fair is fair and p.compared.set == TEST]
            kinds: dict[str, Mapping[str, Mapping[str, float]]] = {
                PACKETS: {FAIR if fair else ONE_QUEUE: figures([p.compared for p in mine])},
                "beside": {"fluid": figures(beside)},
                "collective": _by_collective(mine),
            }
            extra = {"size": _by_size(mine), "wrong": _by_wrong(mine)}
            found[fair] = replace(summary, groups={**kinds, **summary.groups, **extra})
    return found


def _by_collective(points: Sequence[LabPoint]) -> dict[str, Mapping[str, float]]:
    names = sorted({p.compared.collective for p in points})
    return {name: figures([p.compared for p in points if p.compared.collective == name]) for name in names}


def _point(record: Measured, transport: Transport) -> LabPoint:
    fabric = fabric_of(record.environment["emulated"])
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
        topology=fabric.label,
    )
    return LabPoint(compared, found.contended, leg_of(record), idle_of(record), is_fair(record), fabric.wrong)


def _summaries(points: Sequence[LabPoint], bars: Mapping[bool, Bar]) -> dict[bool, Summary]:
    """A verdict on either kind of points, where there are any."""
    found = {}
    for contended, bar in bars.items():
        mine = [p for p in points if p.fair and p.contended is contended and p.compared.set == TEST]
        if mine:
            summary = summarize([p.compared for p in mine], max_median=bar.median, max_p95=bar.p95)
            kind = {"contended": {"yes" if contended else "no": figures([p.compared for p in mine])}}
            extra = {"size": _by_size(mine), "jobs": _by_jobs(mine), "wrong": _by_wrong(mine)}
            found[contended] = replace(summary, groups={**kind, **summary.groups, **extra})
    if not any(p.compared.set == TEST for p in points):
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


def _by_wrong(points: Sequence[LabPoint]) -> dict[str, Mapping[str, float]]:
    kinds = dict.fromkeys(p.wrong for p in points)
    return {kind: figures([p.compared for p in points if p.wrong == kind]) for kind in kinds}
