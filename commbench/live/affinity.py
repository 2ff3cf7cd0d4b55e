# SPDX-License-Identifier: Apache-2.0
"""Steady conditions for ranks that share a host: a share of its cores for each, and memory that stays with the process.

Both are what launchers and frameworks do elsewhere: Open MPI binds ranks to cores unless told otherwise, and on GPUs
torch keeps the memory that tensors gave back. Without them ranks are moved from core to core in the midst of a
collective, and each large tensor is zeroed page by page by the kernel when it is first written.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["bind_to_cores", "cores_of", "keep_memory"]

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM = 2**31 - 1  # bytes at the top of the heap that are kept


def cores_of(rank: int, num_ranks: int, cores: Sequence[int]) -> tuple[int, ...]:
    """A rank's share: dealt out in turn; with more ranks than cores, some have the same one."""
    return tuple(cores[rank % num_ranks :: num_ranks]) or (cores[rank % len(cores)],)


def bind_to_cores(rank: int, num_ranks: int) -> tuple[int, ...]:
    """Keep all threads of this process to the rank's share of the cores; () where the system has no such call."""
    if sys.platform != "linux":
        return ()
    share = cores_of(rank, num_ranks, sorted(os.sched_getaffinity(0)))
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), share)
        except ProcessLookupError:  # it has ended
            continue
    return share


def keep_memory() -> bool:
    """Let malloc keep what is freed; False where it is not glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))
