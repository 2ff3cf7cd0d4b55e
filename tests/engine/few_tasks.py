# SPDX-License-Identifier: Apache-2.0
"""Programs of a few tasks, written by hand, in either engine. One byte takes one picosecond unless said otherwise."""

from collections.abc import Sequence

from commbench.engine.setting import Change, Paths, Processors, Setting
from commbench.engine.trace import Trace
from commbench.program.flat import COMPUTE, COUPLED, TRANSFER
from tests.engine.engine_cases import BYTE_PER_PS, Engine, program_of

Route = tuple[tuple[int, ...], int]  # links, latency


def compute(rank: int, duration_ps: int, *needs: int) -> tuple:
    return COMPUTE, rank, -1, 0, duration_ps, needs


def transfer(src: int, dst: int, num_bytes: int, *needs: int) -> tuple:
    return TRANSFER, src, dst, num_bytes, 0, needs


def coupled(num_bytes: int, *needs: int) -> tuple:
    return COUPLED, -1, -1, num_bytes, 0, needs


def run_tasks(
    engine: Engine,
    tasks: Sequence[tuple],
    *changes: Change,
    routes: Sequence[Route] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
    bandwidths: Sequence[float] = (BYTE_PER_PS,),
    processors: Processors | None = None,
    overhead_ps: int = 0,
) -> Trace:
    """Task t takes route t, by default over link 0 and without latency; routes behind those are there to move to."""
    routes = [((0,), 0)] * len(tasks) if routes is None else routes
    paths = Paths.of_lists(
        bandwidths,
        [links for links, _ in routes],
        [latency_ps for _, latency_ps in routes],
        [-1 if row[0] == COMPUTE else task for task, row in enumerate(tasks)],
        weights,
    )
    return engine(program_of(tasks), Setting(paths, processors or Processors(overhead_ps), changes))
