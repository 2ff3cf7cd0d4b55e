# SPDX-License-Identifier: Apache-2.0
"""Steady conditions: which cores a rank keeps to."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.live.affinity import cores_of


@pytest.mark.parametrize(
    ("ranks", "cores", "shares"),
    [
        (2, [0, 1], [(0,), (1,)]),
        (4, [0, 1], [(0,), (1,), (0,), (1,)]),
        (2, [2, 3, 5, 7, 8], [(2, 5, 8), (3, 7)]),
        (3, [4], [(4,), (4,), (4,)]),
    ],
)
def test_cores_are_dealt_out(ranks: int, cores: list[int], shares: list[tuple[int, ...]]) -> None:
    assert [cores_of(rank, ranks, cores) for rank in range(ranks)] == shares


@given(st.integers(1, 40), st.sets(st.integers(0, 99), min_size=1))
def test_every_rank_has_cores_and_every_core_as_many_ranks_as_any_other_or_one_more(
    ranks: int, cores: set[int]
) -> None:
    shares = [cores_of(rank, ranks, sorted(cores)) for rank in range(ranks)]
    held = [sum(core in share for share in shares) for core in cores]
    assert all(shares)
    assert max(held) - min(held) <= 1
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bind no threads")
def test_all_threads_of_a_process_are_bound() -> None:
    program = """
import os, threading
from commbench.live.affinity import bind_to_cores, keep_memory
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
share = bind_to_cores(1, 2)
threads = os.listdir("/proc/self/task")
assert len(threads) >= 2
assert all(os.sched_getaffinity(int(thread)) == set(share) for thread in threads)
print(*share, keep_memory() in (True, False))
stop.set()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    usable = sorted(os.sched_getaffinity(0))
    assert done.stdout.split() == [*map(str, cores_of(1, 2, usable)), "True"]
