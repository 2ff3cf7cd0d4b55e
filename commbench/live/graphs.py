# SPDX-License-Identifier: Apache-2.0
"""Many runs of an operation, launched at once as a CUDA graph: no host stands between them, as in captured steps.

nccl-tests measures so with ``-G``: the iterations of a size are one graph, which is launched some times.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from commbench.live.strict_stream import recording
from commbench.live.timing import Operation

__all__ = ["Graphed", "cuda_graph", "strict_graph"]


@dataclass(frozen=True, slots=True)
class Graphed:
    """An operation whose run is a graph of many; ``launch`` is what the backend's ``record`` gave.

    It has no phases, for nobody stands between them, and is checked by one run of the operation itself.
    """

    operation: Operation
    launch: Callable[[], None]

    @property
    def phases(self) -> Mapping[str, float]:
        """None."""
        return {}

    def run(self) -> None:
        """Launch it."""
        self.launch()

    def run_to_check(self) -> None:
        """The operation once, by itself."""
        self.operation.run_to_check()

    def close(self) -> None:
        """The operation belongs to whoever made it."""


def cuda_graph(run: Callable[[], None], times: int) -> Callable[[], None]:
    """Record ``times`` runs; what is returned replays them on the current stream.

    Other threads of the process, such as the watchdog of NCCL's process group, may go on asking for events meanwhile
    (capture_error_mode of torch.cuda.graph).
    """
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(times):
            run()
    return graph.replay


def strict_graph(run: Callable[[], None], times: int) -> Callable[[], None]:
    """Run once as while recording, when neither host may wait nor ranks connect; what is returned runs ``times``."""
    with recording():
        run()

    def launch() -> None:
        for _ in range(times):
            run()

    return launch
