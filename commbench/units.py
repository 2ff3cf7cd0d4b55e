# SPDX-License-Identifier: Apache-2.0
"""Text with units to SI numbers and back, at the border only.

Inside the package every number is SI: bytes, seconds, bytes per second; simulated time is an int count of
picoseconds. Decimal prefixes (k, M, G, T) are powers of 1000 and binary ones (Ki, Mi, Gi) powers of 1024. The one
exception is :func:`parse_size`, where bare K, M, G are binary, the way nccl-tests reads ``-b 8 -e 8G``.
"""

import math
import re
from decimal import Decimal

from commbench.errors import UnitError

__all__ = [
    "GB",
    "PS_PER_S",
    "format_bandwidth",
    "format_bit_rate",
    "format_bytes",
    "format_figure",
    "format_time",
    "parse_bandwidth",
    "parse_duration_ps",
    "parse_flops",
    "parse_ratio",
    "parse_size",
    "rate_unit",
    "seconds",
]

PS_PER_S = 10**12
GB = 1e9  # bytes per GB: decimal, as nccl-tests and every NIC vendor count (harness convention)

_INT64_END = 2**63
_SLOWEST, _FASTEST = 1 / 8, 1e18  # bytes/s: what no machine does would only make times of no meaning
_LEAST_FLOPS, _MOST_FLOPS = 1e3, 1e21  # FLOP/s, likewise
_NUMBER = re.compile(r"^\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?)\s*(\S.*?)?\s*$")
_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_TIME_PS = {"ps": 1, "ns": 10**3, "us": 10**6, "µs": 10**6, "ms": 10**9, "s": PS_PER_S}
_BANDWIDTH = {f"{p}bit/s": f / 8 for p, f in _DECIMAL.items()} | {
    f"{p}B/s": float(f) for p, f in (_DECIMAL | _BINARY).items()
}
_FLOPS = {f"{p}FLOP/s": float(f) for p, f in (_DECIMAL | {"P": 10**15}).items()}
_BITS = {f"{p}{rest}": f"{p}bit/s" for p in _DECIMAL for rest in ("bps", "b/s", "bit")}  # Gbps, Gb/s: as sold
_SIZE = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE |= dict.fromkeys(("K", "k", "Ki", "KiB"), 2**10) | dict.fromkeys(("M", "m", "Mi", "MiB"), 2**20)
_SIZE |= dict.fromkeys(("G", "g", "Gi", "GiB"), 2**30) | dict.fromkeys(("T", "Ti", "TiB"), 2**40)


def _split(text: object, units: dict[str, int] | dict[str, float], what: str, example: str) -> tuple[Decimal, float]:
    """Return (number, unit factor) of a text such as "100 Gbit/s", the number exactly as written."""
    match = _NUMBER.match(text) if isinstance(text, str) else None
    if match is None or (match[2] or "") not in units:
        known = ", ".join(u for u in units if u)
        raise UnitError(f"{text!r} is not a {what}: give a number and a unit ({known}), for example {example!r}")
    return Decimal(match[1]), units[match[2] or ""]


def _spelt(text: object) -> object:
    """The text with another spelling of bits per second as this one: "400 Gbps" is "400 Gbit/s"."""
    match = _NUMBER.match(text) if isinstance(text, str) else None
    return f"{match[1]} {_BITS[match[2]]}" if match is not None and match[2] in _BITS else text


def parse_bandwidth(text: object) -> float:
    """Bytes per second of a text such as "100 Gbit/s" or "12.5 GB/s".

    Raises:
        UnitError: no unit, an unknown unit, not above zero, or outside 1 bit/s to 1e18 B/s.
    """
    number, factor = _split(_spelt(text), _BANDWIDTH, "bandwidth", "100 Gbit/s")
    bandwidth = float(number) * factor
    if not bandwidth > 0:
        raise UnitError(f"bandwidth {text!r} must be above zero")
    if not _SLOWEST <= bandwidth <= _FASTEST:
        raise UnitError(f"bandwidth {text!r} must be from 1 bit/s to {_FASTEST / 1e12:,.0f} TB/s")
    return bandwidth


def parse_flops(text: object) -> float:
    """Floating-point operations per second of a text such as "312 TFLOP/s".

    Raises:
        UnitError: no unit, an unknown unit, or outside 1 kFLOP/s to 1e21 FLOP/s.
    """
    number, factor = _split(text, _FLOPS, "rate of computing", "312 TFLOP/s")
    flops = float(number) * factor
    if not _LEAST_FLOPS <= flops <= _MOST_FLOPS:
        raise UnitError(f"rate of computing {text!r} must be from 1 kFLOP/s to {_MOST_FLOPS / 1e15:,.0f} PFLOP/s")
    return flops


def parse_duration_ps(text: object) -> int:
    """Whole picoseconds of a text such as "1.3 us".

    Raises:
        UnitError: no unit, an unknown unit, negative, finer than one picosecond, or too long to count in int64.
    """
    number, factor = _split(text, _TIME_PS, "duration", "1 us")
    if number < 0:
        raise UnitError(f"duration {text!r} must not be negative")
    picoseconds = number * int(factor)
    if picoseconds >= _INT64_END:
        raise UnitError(f"duration {text!r} is too long: simulated time ends at 2^63 ps, about 106 days")
    if picoseconds != int(picoseconds):
        raise UnitError(f"duration {text!r} is finer than one picosecond, the resolution of simulated time")
    return int(picoseconds)


def parse_size(text: object) -> int:
    """Whole bytes of a size such as "8", "64K", "1M", "8G" (binary, nccl-tests' habit) or "10 MB" (decimal).

    Raises:
        UnitError: an unknown unit, negative, not a whole number of bytes, or too large to count in int64.
    """
    number, factor = _split(text, _SIZE, "size", "64M")
    size = number * int(factor)
    if size >= _INT64_END:
        raise UnitError(f"size {text!r} is too large: sizes end at 2^63 bytes")
    if size < 0 or size != int(size):
        raise UnitError(f"size {text!r} must be a whole number of bytes, zero or more")
    return int(size)


def parse_ratio(text: str) -> float:
    """The number that a text such as "2:1" or "1.5" stands for.

    Raises:
        UnitError: neither a number nor two numbers above zero with a colon between.
    """
    parts = [_NUMBER.match(part) for part in text.split(":")]
    numbers = [float(part[1]) if part is not None and not part[2] else 0.0 for part in parts]
    if len(numbers) > 2 or not all(0 < number < math.inf for number in numbers):
        raise UnitError(f"{text!r} is not a ratio: give a number above zero, or two as in '2:1'")
    return numbers[0] / numbers[-1] if len(numbers) == 2 else numbers[0]


def seconds(picoseconds: int) -> float:
    """Seconds of an int count of picoseconds."""
    return picoseconds / PS_PER_S


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    """The value in the largest unit that leaves it at 1 or above, with at most 4 significant digits."""
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{value / factor:.4g} {unit}"
    factor, unit = steps[-1]
    return f"{value / factor:.4g} {unit}"


def format_time(time_s: float) -> str:
    """Readable time, for example "10.19 ms"."""
    return _scaled(time_s, ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")))


def format_bytes(num_bytes: float) -> str:
    """Readable size in binary units, for example "64 MiB"."""
    return _scaled(num_bytes, ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")))


def format_bandwidth(bytes_per_s: float) -> str:
    """Readable bandwidth in decimal bytes, for example "12.5 GB/s"."""
    return _scaled(bytes_per_s, ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")))


def format_bit_rate(bytes_per_s: float) -> str:
    """The same in bits, as vendors of networks count, for example "100 Gbit/s"."""
    steps = ((1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s"))
    return _scaled(8 * bytes_per_s, steps)


def rate_unit(fastest: float) -> tuple[float, str]:
    """The unit for a column of bandwidths up to ``fastest`` (bytes/s): (bytes/s of one, its name).

    GB/s, as nccl-tests prints, unless all figures are below a tenth of it.
    """
    steps = ((GB, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s"))
    return next((step for step in steps if fastest >= 0.1 * step[0]), steps[0 if not fastest else -1])


def format_figure(value: float, width: int) -> str:
    """Four significant digits, or the two or three that ``width`` columns allow; never 0 for what is not."""
    lead = math.floor(math.log10(abs(value))) if value else 3
    for digits in (4, 3, 2):
        text = f"{value:.{max(0, digits - 1 - lead)}f}"
        if len(text) <= width:
            return text
    return f"{value:.1e}"
