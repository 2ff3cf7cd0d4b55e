# SPDX-License-Identifier: Apache-2.0
"""How wall time grows with the flows on one link: n transfers that all start at once, each of another size.

Every end changes the rate of all that are left, so n flows cost n shares over n, n - 1, ... flows: no engine that
obeys SEMANTICS.md can do it in fewer than n^2 / 2 changes of rate.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.records import SharedLink
from commbench.engine import compiled, reference
from commbench.engine.setting import Paths, Setting
from commbench.program.flat import TRANSFER, FlatProgram

__all__ = ["FLOWS", "MOST_OF_REFERENCE", "QUICK_FLOWS", "shared_link"]

FLOWS = tuple(2**e for e in range(13))
QUICK_FLOWS = (1, 16, 256)
MOST_OF_REFERENCE = 512
"""Beyond this the reference engine takes too long to wait for."""

_BANDWIDTH = 12.5e9  # bytes/s
_LATENCY_PS = 1_000_000
_STEP_BYTES = 4096


def shared_link(flows: Sequence[int], repeats: int, tell: Callable[[str], None]) -> Iterator[SharedLink]:
    """Both engines in turns, each in this process; the first compiled run is not counted."""
    compiled.run(*_work(1))
    for n in flows:
        tell(f"{n} flows on one link")
        engines = [compiled, reference] if n <= MOST_OF_REFERENCE else [compiled]
        walls: dict[str, list[float]] = {engine.ENGINE: [] for engine in engines}
        shares: dict[str, int] = {}
        program, setting = _work(n)
        for _ in range(repeats):
            for engine in engines:
                began = time.perf_counter()
                trace = engine.run(program, setting)
                walls[engine.ENGINE].append(time.perf_counter() - began)
                shares[engine.ENGINE] = trace.num_shares
        for name, each in walls.items():
            yield SharedLink(engine=name, flows=n, num_shares=shares[name], walls_s=tuple(each))


def _work(flows: int) -> tuple[FlatProgram, Setting]:
    """Transfer i from rank 2 i to rank 2 i + 1 of i + 1 times 4 KiB, all over link 0."""
    each = np.arange(flows, dtype=np.int64)
    program = FlatProgram(
        num_ranks=2 * flows,
        kind=np.full(flows, TRANSFER),
        rank=2 * each,
        peer=2 * each + 1,
        num_bytes=(each + 1) * _STEP_BYTES,
        duration_ps=np.zeros(flows, dtype=np.int64),
        channel=np.zeros(flows, dtype=np.int64),
        step=np.full(flows, -1),
        operation=each,
        first=np.zeros(flows + 1, dtype=np.int64),
        needs=np.empty(0, dtype=np.int64),
    )
    paths = Paths.of_lists([_BANDWIDTH], [(0,)], [_LATENCY_PS], [0] * flows)
    return program, Setting(paths)
