# SPDX-License-Identifier: Apache-2.0
"""Right or wrong, exactly: inputs are small integers chosen so that every sum is exact in the dtype.

A rank's input is a row of ``_PERIOD`` pseudo-random integers, repeated. The period is a prime, so that a
chunk that landed in another chunk's place does not find its own values there. Any order of adding gives the
same sum, so an element is right only if it is equal.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

__all__ = ["EXPECTED", "count_wrong", "fill_input"]

_PERIOD = 8191
_LARGEST = 96

_EXACT_UP_TO: Mapping[torch.dtype, int] = MappingProxyType(
    {
        # every integer up to 2^p is exact in a floating format with p bits of significand (IEEE 754)
        torch.float64: 2**53,
        torch.float32: 2**24,
        torch.float16: 2**11,
        torch.bfloat16: 2**8,
        torch.int64: 2**62,
        torch.int32: 2**30,
    }
)


def fill_input(buffer: torch.Tensor, rank: int, num_ranks: int) -> None:
    """Write this rank's input into the buffer."""
    buffer.copy_(_repeat(_row(rank, num_ranks, buffer.dtype), buffer.numel()))


def count_wrong(collective: str, buffer: torch.Tensor, num_ranks: int) -> int:
    """Elements of this buffer that are not what the collective makes of the inputs of :func:`fill_input`."""
    row = EXPECTED[collective](num_ranks, buffer.dtype)
    expected = _repeat(row, buffer.numel()).to(device=buffer.device, dtype=buffer.dtype)
    return int((buffer != expected).sum())


def _sum_of_rows(num_ranks: int, dtype: torch.dtype) -> torch.Tensor:
    total = torch.zeros(_PERIOD, dtype=torch.int64)
    for rank in range(num_ranks):
        total += _row(rank, num_ranks, dtype)
    return total


EXPECTED: Mapping[str, Callable[[int, torch.dtype], torch.Tensor]] = MappingProxyType({"all-reduce": _sum_of_rows})
"""By collective: (ranks, dtype) -> the period that the result repeats, on every rank."""


def _row(rank: int, num_ranks: int, dtype: torch.dtype) -> torch.Tensor:
    """One period of a rank's input, int64."""
    exact = _EXACT_UP_TO[dtype]
    place = torch.arange(_PERIOD, dtype=torch.int64)
    if num_ranks > exact:  # even ones everywhere would not sum exactly: let as many ranks give a one as may
        return ((place + rank) % num_ranks < exact).to(torch.int64)
    # a multiplicative mix of (rank, place); products stay below 2^63
    mixed = (place + 1) * 0x9E3779B1 + (rank + 1) * 0x85EBCA77
    mixed = (mixed ^ (mixed >> 15)) % 2**31 * 0x2C1B3C6D
    return (mixed >> 17) % (min(exact // num_ranks, _LARGEST) + 1)


def _repeat(row: torch.Tensor, num_elements: int) -> torch.Tensor:
    return row.repeat(-(-num_elements // _PERIOD))[:num_elements]
