# SPDX-License-Identifier: Apache-2.0
"""The options of a simulated collective, as data."""

from dataclasses import dataclass

__all__ = ["CollectiveOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveOptions:
    """As ``commbench sim --help`` has them, but for the sizes; ``collective`` as it is spelt there.

    ``library`` left out is what the hosts' GPUs take (:mod:`commbench.experiments.library_choice`). ``detail`` is
    "transfer" if left out; with a library that has a model "collective", but where a scenario needs single transfers.
    """

    collective: str
    topology: str
    algorithm: str | None = None
    ranks: int | None = None
    slices: int | None = None
    channels: int = 1
    root: int = 0
    matrix: str | None = None
    zipf: float | None = None
    group: int | None = None
    dtype: str = "float32"
    routing: str | None = None
    placement: str = "linear"
    ranks_per_host: int | None = None
    jobs: str | None = None
    seed: int = 0
    detail: str | None = None
    library: str | None = None
    nccl_version: str | None = None
    launch_mode: str | None = None
    nvls: str | None = None
    nccl_graph: str | None = None
    constants: str | None = None
    engine: str = "auto"
    network: str = "fluid"
    scenario: str | None = None
    jitter: float = 0.0
    links: bool = False
