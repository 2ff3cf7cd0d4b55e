# SPDX-License-Identifier: Apache-2.0
"""What of a step lies in host memory, and the link over which it goes there and back.

* Optimizer (ZeRO-Offload, arXiv 2101.06840): behind the last gradients each rank sends those that it updates to its
  host, whose CPUs update them, and takes the parameters back, one after the other. ZeRO-Offload sends gradients beside
  backward and the first parameters beside the update of the next; here nothing runs beside, so a step is at most that
  much too long.
* Activations: while a layer computes, forward those of the layer before it go out and backward those of the one that is
  next come back, on a stream of their own; the layer after waits for both. The last layer of a stage stays on the
  device, as Transformer Engine wants it (cpu_offload: fewer layers than there are). So a device holds one layer's for
  each microbatch in flight, and one more while it moves.

Copies share PCIe with all ranks of their host that hang on the same link, all of which copy at once. What NICs move
over it meanwhile is not counted, nor a copy's latency.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from commbench.errors import InputError
from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, Fabric
from commbench.topology.model import LinkKind, NodeKind
from commbench.units import PS_PER_S
from commbench.workload.step_passes import Begin, End, Item, Landed, Move

__all__ = ["CPU_ADAM", "CPU_ADAM_WORDS", "OFFLOAD", "Offload", "host_link", "with_moves"]

OFFLOAD = ("optimizer", "activations", "both")

CPU_ADAM = 10e9 / 2.57
"""Parameters per second that the CPUs of a host update: DeepSpeed's CPU-Adam, 10 billion in 2.57 s on a DGX-2's two
Xeon Platinum 8168 (arXiv 2101.06840, table 4). Newer hosts are faster."""
CPU_ADAM_WORDS = "published: 10 billion in 2.57 s on a DGX-2, arXiv 2101.06840, table 4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """What lies in host memory.

    Attributes:
        optimizer: its state, which CPUs update there. activations: of all but the last layer of a stage.
        link_bytes_per_s: from a rank to its host while all others of it send, too; the other way it is as much.
        adam_per_s: parameters per second that the CPUs update for a rank, while they do for all others of the host.
        host_ranks: ranks of a host.
    """

    optimizer: bool
    activations: bool
    link_bytes_per_s: float
    adam_per_s: float
    host_ranks: int

    def optimizer_parts(
        self, parameters: float, gradient_bytes: int, parameter_bytes: int
    ) -> tuple[tuple[str, float], ...]:
        """Kind and seconds of what follows each other where a rank updates so many parameters."""
        return (
            ("offload", gradient_bytes * parameters / self.link_bytes_per_s),
            ("host", parameters / self.adam_per_s),
            ("offload", parameter_bytes * parameters / self.link_bytes_per_s),
        )

    def move_s(self, num_bytes: int) -> float:
        """Seconds in which so many bytes go out or come back."""
        return num_bytes / self.link_bytes_per_s


def with_moves(items: Iterable[Item], moves_s: Sequence[float]) -> Iterator[Item]:
    """The items of a pass, beside each layer but the first what the one before it in the stage keeps for backward, on
    its way out (forward) or back (backward); ``moves_s`` seconds for each layer but the last.
    """
    for item in items:
        if isinstance(item, Begin) and 0 < item.layer <= len(moves_s):
            yield Move(round(moves_s[item.layer - 1] * PS_PER_S))
        if isinstance(item, End) and 0 < item.layer <= len(moves_s):
            yield Landed()
        yield item


def host_link(fabric: Fabric, ranks: int) -> float:
    """Bytes/s in one direction between a GPU and its host's CPUs while so many ranks, from the first on, do the same:
    the least share that any of them has of the PCIe links on its way.

    Raises:
        InputError: the topology has no PCIe from a rank to a CPU; says what to give instead.
    """
    gpu, switch, cpu = (NODE_KINDS.index(kind) for kind in (NodeKind.GPU, NodeKind.PCIE_SWITCH, NodeKind.CPU))
    src, dst = fabric.node_kinds[fabric.src], fabric.node_kinds[fabric.dst]
    up = ((src == gpu) & ((dst == switch) | (dst == cpu))) | ((src == switch) & (dst == cpu))
    up &= fabric.link_kinds == LINK_KINDS.index(LinkKind.PCIE)
    link_of = np.full(fabric.num_nodes, -1)
    link_of[fabric.src[up]] = np.flatnonzero(up)
    at, rate = fabric.endpoints[:ranks], float("inf")
    there = bool((fabric.node_kinds[at] == gpu).all())
    while there and len(at):
        links = link_of[at]
        there = bool((links >= 0).all())
        if there:
            users = np.bincount(links)
            rate = min(rate, float((fabric.bandwidths[links] / users[links]).min()))
            at = fabric.dst[links]
            at = at[fabric.node_kinds[at] != cpu]
    if not there:
        raise InputError(
            f"--offload: topology {fabric.name} ({fabric.origin}) has no PCIe link from each GPU to a CPU of its host; "
            "give --offload-bandwidth, what a GPU reaches to host memory, such as 25 GB/s"
        )
    return rate
