# SPDX-License-Identifier: Apache-2.0
"""One to three times of a user's own machine, which a library's model is then adapted to; kept beside the topology."""

from dataclasses import dataclass
from math import log
from pathlib import Path

from commbench.collectives.spec import get_collective
from commbench.errors import CommbenchError, InputError
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.predictor import MIDDLE, Adapted, MachinePoint, adapt
from commbench.units import format_bytes, format_time, parse_bandwidth, parse_duration_ps, parse_size, seconds

__all__ = ["MOST_POINTS", "OwnPoints", "adapted_to", "parse_point", "points_of_log", "prior_and_posterior", "read_own",
    "write_own",
]

MOST_POINTS = 3
_EXAMPLE = "8:13us, 8M:80us or 1G:391GB/s (bus bandwidth)"
_FACTORS = {"latency": (1e-3, 1e3), "wire": (1e-3, 1e3), "knee": (1e-3, 1e3), "knee_bytes": (1.0, 2.0**60)}


@dataclass(frozen=True, slots=True)
class OwnPoints:
    """Points and where they are from, in words."""

    points: tuple[MachinePoint, ...]
    source: str


def parse_point(text: str, collective: str, num_ranks: int) -> MachinePoint:
    """A size and what was measured there: a time, or a bus bandwidth as nccl-tests prints it.

    Raises:
        InputError: it is neither.
    """
    size, _, value = text.partition(":")
    try:
        size_bytes = parse_size(size)
        try:
            time_s = seconds(parse_duration_ps(value))
        except CommbenchError:
            factor = get_collective(collective).busbw_factor(num_ranks)
            time_s = size_bytes * factor / parse_bandwidth(value)
    except CommbenchError:
        raise InputError(f"--point {text!r} is no size with a time or a bandwidth: give {_EXAMPLE}") from None
    if size_bytes <= 0 or time_s <= 0:
        raise InputError(f"--point {text!r}: size and time must be above 0: give {_EXAMPLE}")
    return MachinePoint(size_bytes, time_s, collective)


def points_of_log(log_path: Path, collective: str, num_ranks: int) -> OwnPoints:
    """The smallest size of a log of nccl-tests, the one nearest to 8 MiB and the largest.

    Raises:
        InputError: the log cannot be read, is of other ranks, or has no row of this collective that can be used.
    """
    from commbench.results.logs import read_log

    rows = [r for r in read_log(log_path).records if r.collective == collective and r.time_s > 0 and not r.problem]
    rows = [r for r in rows if not r.in_place] or rows
    if not rows:
        raise InputError(f"{log_path}: no row of {collective} that can be used; --collective names another")
    if rows[0].ranks != num_ranks:
        raise InputError(f"{log_path}: {rows[0].ranks} ranks, but {num_ranks} take part; give --ranks {rows[0].ranks}")
    rows.sort(key=lambda row: row.size_bytes)
    middle = min(rows, key=lambda row: abs(log(row.size_bytes / MIDDLE)))
    chosen = {row.size_bytes: row for row in (rows[0], middle, rows[-1])}.values()
    points = tuple(MachinePoint(row.size_bytes, row.time_s, collective) for row in chosen)
    return OwnPoints(points, f"{len(points)} rows of {log_path.name}")


def adapted_to(machine: NcclMachine, own: OwnPoints, dtype: str) -> Adapted:
    """What the points say of the machine.

    Raises:
        InputError: none or more than three of them, or a class of machine that the model does not know.
    """
    if not 0 < len(own.points) <= MOST_POINTS:
        raise InputError(f"{len(own.points)} points: give one to {MOST_POINTS}, such as {_EXAMPLE}")
    if len({point.size_bytes for point in own.points}) < len(own.points):
        raise InputError("two points of one size: give each size once")
    return adapt(machine, own.points, dtype)


def prior_and_posterior(own: Adapted) -> list[tuple[str, float, float, str]]:
    """(constant, prior, posterior, what it multiplies)."""
    return [
        ("latency", 1.0, own.latency, "launch and latency steps"),
        ("wire", 1.0, own.wire, "what grows with the size"),
        ("knee", 1.0, own.knee, f"all, about {format_bytes(own.knee_bytes)}"),
    ]


def write_own(path: Path, own: Adapted, source: OwnPoints, machine: NcclMachine, topology: str) -> None:
    """Write the constants of a machine, for ``sim --library nccl --constants FILE``."""
    told = "; ".join(f"{p.kind} of {format_bytes(p.size_bytes)} in {format_time(p.time_s)}" for p in source.points)
    lines = [
        "# Written by `commbench calibrate --library`; `sim --library ... --constants` takes it.",
        f"library: {machine.library}",
        f"topology: {topology}",
        f"points: {own.points}",
        *(
            f'{name}: {{value: {round(value, 6):.6g}, provenance: fitted, source: "{told}"}} # {prior:g} before: {what}'
            for name, prior, value, what in prior_and_posterior(own)
        ),
        f"knee_bytes: {own.knee_bytes:.10g}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_own(path: Path, library: str) -> Adapted:
    """What :func:`write_own` wrote.

    Raises:
        InputError: a key that is missing or unknown, another library's, or a value outside its bounds; names all three.
    """
    from commbench.yaml_reader import read_yaml  # most machines have no such file

    document = read_yaml(path, InputError, example="commbench calibrate --library nccl writes it")
    wanted = {"library", "topology", "points", *_FACTORS}
    if document.data.keys() != wanted:
        odd = ", ".join(sorted(map(str, document.data.keys() ^ wanted)))
        raise InputError(f"{path}: keys must be {', '.join(sorted(wanted))}; missing or unknown: {odd}")
    if document.data["library"] != library:
        raise InputError(f"{path}: library {document.data['library']!r} is not {library}, which was asked for")
    count = document.data["points"]
    if count not in range(1, MOST_POINTS + 1) or isinstance(count, bool):
        raise InputError(f"{path}: line {document.line(('points',))}: points {count!r} must be 1 to {MOST_POINTS}")
    values = {}
    for name, (least, most) in _FACTORS.items():
        entry = document.data[name]
        value = entry.get("value") if isinstance(entry, dict) else entry if name == "knee_bytes" else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            line = document.line((name,))
            key = name if name == "knee_bytes" else f"{name}.value"
            raise InputError(f"{path}: line {line}: {key} {value!r} must be a number from {least:g} to {most:g}")
        values[name] = float(value)
    return Adapted(**values, points=int(count))
