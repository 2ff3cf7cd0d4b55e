# SPDX-License-Identifier: Apache-2.0
"""Text with units to SI numbers and back."""

import pytest

from commbench.errors import UnitError
from commbench.units import (
    format_bandwidth,
    format_bytes,
    format_time,
    parse_bandwidth,
    parse_duration_ps,
    parse_flops,
    parse_size,
    seconds,
)


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("100 Gbit/s", 12.5e9),  # 100e9 bits / 8
        ("400Gbit/s", 50e9),
        ("400 Gbps", 50e9),
        ("400 Gb/s", 50e9),
        ("50Mbps", 6.25e6),
        ("25 GB/s", 25e9),
        ("1 GiB/s", 2.0**30),
        ("50 Mbit/s", 6.25e6),
        ("8 kbit/s", 1e3),
        ("8 bit/s", 1.0),
        ("1.5e3 MB/s", 1.5e9),
        (" 2 TB/s ", 2e12),
    ],
)
def test_bandwidth(text: str, bytes_per_s: float) -> None:
    assert parse_bandwidth(text) == bytes_per_s


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("100", "'100' is not a bandwidth: give a number and a unit"),
        ("100 GBps", "'100 GBps' is not a bandwidth"),
        ("Gbit/s", "'Gbit/s' is not a bandwidth"),
        ("", "'' is not a bandwidth"),
        (12.5, "12.5 is not a bandwidth"),
        (None, "None is not a bandwidth"),
        ("0 GB/s", "bandwidth '0 GB/s' must be above zero"),
        ("-1 GB/s", "bandwidth '-1 GB/s' must be above zero"),
        ("1e999 GB/s", "bandwidth '1e999 GB/s' must be from 1 bit/s to 1,000,000 TB/s"),
        ("1e21 GB/s", "bandwidth '1e21 GB/s' must be from 1 bit/s to 1,000,000 TB/s"),
        ("0.5 bit/s", "bandwidth '0.5 bit/s' must be from 1 bit/s"),
        ("nan GB/s", "'nan GB/s' is not a bandwidth"),
    ],
)
def test_bad_bandwidth(text: object, complaint: str) -> None:
    with pytest.raises(UnitError) as error:
        parse_bandwidth(text)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "flops"), [("312 TFLOP/s", 312e12), ("989.5 TFLOP/s", 989.5e12), ("1.5 PFLOP/s", 1.5e15)]
)
def test_rate_of_computing(text: str, flops: float) -> None:
    assert parse_flops(text) == flops


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("312", "'312' is not a rate of computing: give a number and a unit (FLOP/s, "),
        ("312 TFLOPS", "'312 TFLOPS' is not a rate of computing"),
        (312e12, "312000000000000.0 is not a rate of computing"),
        ("0 TFLOP/s", "rate of computing '0 TFLOP/s' must be from 1 kFLOP/s to 1,000,000 PFLOP/s"),
        ("1e999 TFLOP/s", "rate of computing '1e999 TFLOP/s' must be from 1 kFLOP/s"),
    ],
)
def test_bad_rate_of_computing(text: object, complaint: str) -> None:
    with pytest.raises(UnitError) as error:
        parse_flops(text)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "picoseconds"),
    [
        ("0 us", 0),
        ("7 ps", 7),
        ("0.3 ns", 300),
        ("1.3 us", 1_300_000),
        ("1.3 µs", 1_300_000),
        ("2 ms", 2 * 10**9),
        ("1s", 10**12),
        ("1.000000000001 s", 10**12 + 1),  # exact: a float would round it the right way here, by luck
        ("9223372.036854775807 s", 2**63 - 1),  # the last picosecond of int64
    ],
)
def test_duration(text: str, picoseconds: int) -> None:
    assert parse_duration_ps(text) == picoseconds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1.3", "'1.3' is not a duration: give a number and a unit (ps, ns, us, µs, ms, s)"),
        ("1.3 min", "'1.3 min' is not a duration"),
        (5, "5 is not a duration"),
        ("-1 us", "duration '-1 us' must not be negative"),
        ("0.5 ps", "duration '0.5 ps' is finer than one picosecond"),
        ("0.0000001 ps", "duration '0.0000001 ps' is finer than one picosecond"),
        ("2000000.4 ps", "duration '2000000.4 ps' is finer than one picosecond"),
        ("0.0001234 ns", "duration '0.0001234 ns' is finer than one picosecond"),
        ("1e300 s", "duration '1e300 s' is too long"),
        ("9223372.036854775808 s", "duration '9223372.036854775808 s' is too long"),
    ],
)
def test_bad_duration(text: object, complaint: str) -> None:
    with pytest.raises(UnitError) as error:
        parse_duration_ps(text)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8", 8),
        ("8 B", 8),
        ("64K", 64 * 2**10),  # bare prefixes are binary, nccl-tests' habit
        ("64k", 64 * 2**10),
        ("1M", 2**20),
        ("8G", 8 * 2**30),
        ("1T", 2**40),
        ("64 MiB", 64 * 2**20),
        ("10 MB", 10**7),  # a B after a decimal prefix is decimal
        ("1 kB", 1000),
        ("0.5K", 512),
        ("9007199254740993", 2**53 + 1),  # more than a float can hold
    ],
)
def test_size(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not a size"),
        ("M", "'M' is not a size"),
        ("8 Mbit", "'8 Mbit' is not a size"),
        (8, "8 is not a size"),
        ("-8", "size '-8' must be a whole number of bytes, zero or more"),
        ("0.3", "size '0.3' must be a whole number of bytes, zero or more"),
        ("1e300 G", "size '1e300 G' is too large: sizes end at 2^63 bytes"),
        ("999999999999G", "size '999999999999G' is too large"),
    ],
)
def test_bad_size(text: object, complaint: str) -> None:
    with pytest.raises(UnitError) as error:
        parse_size(text)
    assert str(error.value).startswith(complaint)


def test_seconds_of_picoseconds() -> None:
    assert seconds(10_186_329_600) == 0.0101863296


@pytest.mark.parametrize(
    ("formatted", "text"),
    [
        (format_time(0.0101863296), "10.19 ms"),
        (format_time(2.5), "2.5 s"),
        (format_time(1e-6), "1 us"),
        (format_time(3e-10), "0.3 ns"),
        (format_time(0.0), "0 ns"),
        (format_bytes(64 * 2**20), "64 MiB"),
        (format_bytes(1000), "1000 B"),
        (format_bytes(0), "0 B"),
        (format_bandwidth(12.5e9), "12.5 GB/s"),
        (format_bandwidth(3.6e12), "3.6 TB/s"),
        (format_bandwidth(12.0), "12 B/s"),
    ],
)
def test_format(formatted: str, text: str) -> None:
    assert formatted == text
