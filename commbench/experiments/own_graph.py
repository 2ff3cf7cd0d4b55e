# SPDX-License-Identifier: Apache-2.0
"""What NCCL's own search found on a machine, instead of what the model's search would find."""

from pathlib import Path

from commbench.errors import InputError
from commbench.libraries.nccl.channel_graph import ChannelGraph
from commbench.libraries.nccl.machine import NcclMachine
from commbench.topology.imports import read_nccl_graphs

__all__ = ["searched_in"]

_TAKEN = {"ring": "ring", "tree": "tree", "NVLS": "nvls"}


def searched_in(path: Path, machine: NcclMachine) -> tuple[tuple[str, ChannelGraph], ...]:
    """The graphs of a file (NCCL_GRAPH_DUMP_FILE) that the model has a use for, as it takes them.

    Raises:
        TopologyError: the file is none of NCCL's graphs.
        InputError: it has no ring, or is of other GPUs than take part.
    """
    found = {_TAKEN[one.name]: one for one in read_nccl_graphs(path) if one.name in _TAKEN}
    if "ring" not in found:
        raise InputError(f"--nccl-graph {path}: has no ring (graph id 0) with channels, which NCCL always finds")
    ring = found["ring"]
    if ring.gpus != machine.gpus_per_node:
        raise InputError(
            f"--nccl-graph {path}: its channels have {ring.gpus} GPUs; of a host {machine.gpus_per_node} take part: "
            f"give --ranks-per-host {ring.gpus}, or a graph of these"
        )
    if ring.to_network != (machine.nodes > 1):
        there, here = ("leave the host", "one host") if ring.to_network else ("stay on one host", "several")
        raise InputError(f"--nccl-graph {path}: its channels {there}, and the ranks lie on {here}: take one of such")
    return tuple(
        (
            name,
            ChannelGraph(
                channels=one.channels,
                intra=one.intra,
                inter=one.inter,
                nvlink=one.nvlink,
                pattern=one.pattern,
                latency_us=one.latency_us,
            ),
        )
        for name, one in found.items()
    )
