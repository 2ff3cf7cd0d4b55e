# SPDX-License-Identifier: Apache-2.0
"""The options of a simulated collective, as data."""

from dataclasses import dataclass
from typing import Annotated

__all__ = ["CollectiveOptions"]

_LIBRARY = (
    "Who decides: ideal (you, at wire speed), nccl or rccl (their model) [the GPUs' own; ideal with --algorithm, "
    "--channels, --slices, --group or --detail folded]."
)
_DETAIL = (
    "transfer (all of them), folded (the same times from less work where symmetric) or collective (an estimate: one "
    "aggregate flow) [transfer; nccl: collective, or transfer where a scenario needs it]."
)
_NETWORK = (
    "How long messages take: fluid (max-min shares), packet[:none|:dcqcn|:swift|:ndp] (queues, marks, pauses), "
    "packet:tcp (connections, acknowledgements, losses), with settings after it: packet:dcqcn,mtu=1024,pfc=off, "
    "packet:tcp,congestion=reno, or auto[:...]: packets only where a port is sent more than it can drain."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveOptions:
    """The options of ``commbench sim`` with their help, but for the sizes, and with flags that are not their names.

    ``library`` left out is what the hosts' GPUs take (:mod:`commbench.experiments.library_choice`).
    """

    collective: str
    topology: Annotated[str, "A name from topologies/ or a path.", "-t"]
    algorithm: Annotated[str | None, "A name, or a .txt, .xml or .py file [ring; direct for all-to-all].", "-a"] = None
    ranks: Annotated[int | None, "World size; all endpoints if left out.", "-g"] = None
    slices: Annotated[int | None, "Pieces to pipeline in; the algorithm's default if left out."] = None
    channels: Annotated[int, "Pieces that run side by side."] = 1
    root: Annotated[int, "Root rank of a rooted collective."] = 0
    group: Annotated[int | None, "Ranks per host for hierarchical algorithms; the topology's own."] = None
    matrix: Annotated[
        str | None, "CSV of relative sizes for all-to-all-v: a line for each sender, an entry for each receiver."
    ] = None
    zipf: Annotated[
        float | None, "Sizes of all-to-all-v by Zipf's law with this exponent, rank 0 gets the most."
    ] = None
    dtype: Annotated[str, "Element type.", "-d"] = "float32"
    routing: Annotated[str | None, "ecmp, d-mod-k or rail-aware; the topology's own if left out."] = None
    placement: Annotated[str, "linear, random, round-robin (over hosts), or a host file."] = "linear"
    ranks_per_host: Annotated[int | None, "Ranks on each host, the first endpoints; all if left out."] = None
    jobs: Annotated[
        str | None, "Groups at once: a number, or ranks such as 0,1,4,5/2,3,6,7.", "--jobs", "--groups"
    ] = None
    seed: Annotated[int, "Of the ECMP hash, random placement and jitter."] = 0
    library: Annotated[str | None, _LIBRARY] = None
    nccl_version: Annotated[str | None, "Whose tables choose, such as 2.21; the newest if left out."] = None
    launch_mode: Annotated[str | None, "process (one a GPU), threads (nccl-tests -g), graph [process]."] = None
    nvls: Annotated[str | None, "on or off: whether NVSwitches may add; as the GPUs if left out."] = None
    nccl_graph: Annotated[
        str | None, "Graphs that NCCL found there (NCCL_GRAPH_DUMP_FILE), not the model's."
    ] = None
    constants: Annotated[str | None, "The machine's own, as calibrate --library wrote them."] = None
    detail: Annotated[str | None, _DETAIL] = None
    engine: Annotated[str, "compiled, reference or auto (the quicker one); the same times."] = "auto"
    network: Annotated[str, _NETWORK] = "fluid"
    scenario: Annotated[str | None, "YAML file of what goes wrong: links, ranks, other traffic."] = None
    jitter: Annotated[float, "Vary the bytes of every transfer by up to this share, by the seed."] = 0.0
    links: Annotated[bool, "Name the ten busiest links."] = False
