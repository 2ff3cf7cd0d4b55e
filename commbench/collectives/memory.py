# SPDX-License-Identifier: Apache-2.0
"""What memory there is, and the refusal of schedules that it does not hold."""

import os
from pathlib import Path

from commbench.errors import InputError

__all__ = ["FEWER", "TABLE_BYTES", "memory_bytes", "require_rows", "require_table", "worded"]

TABLE_BYTES = 100  # for a row of a schedule while it is made: seven columns of int32, sorted
MOST_ROWS = 2**25
"""Rows of a schedule that are listed one by one: minutes, and 1 GiB for each copy."""
FEWER = "give fewer --ranks, --slices or --channels, or another --algorithm"


def memory_bytes() -> int:
    """Memory that this process may take: the machine's, or its control group's where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdecimal() else found


def require_rows(what: str, rows: int, bytes_per_row: int, instead: str) -> None:
    """Refuse work on so many rows of a schedule that the machine's memory does not hold them.

    Args:
        what: the work, and ``instead``: what to give, in words. bytes_per_row: that the work takes.

    Raises:
        InputError: the machine has less; says how much of what.
    """
    needed, there = rows * bytes_per_row, memory_bytes()
    if needed > there:
        raise InputError(
            f"{what}: {worded(rows // 2)} transfers take about {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{there / 2**30:,.0f}: {instead}"
        )


def require_table(what: str, rows: int) -> None:
    """Refuse to list so many rows of a schedule: more than the memory holds, or than anybody waits for.

    Raises:
        InputError: says how many, and what to give instead.
    """
    require_rows(what, rows, TABLE_BYTES, FEWER)
    if rows > MOST_ROWS:
        raise InputError(
            f"{what}: {worded(rows // 2)} transfers, more than the {worded(MOST_ROWS // 2)} that are listed one by "
            f"one: {FEWER}, or for a ring --detail folded"
        )


def worded(count: int) -> str:
    """A large number as people say it: 34e9."""
    power = (len(str(count)) - 1) // 3 * 3
    return f"{count / 10**power:.3g}e{power}" if power >= 6 else f"{count:,}"
