# SPDX-License-Identifier: Apache-2.0
"""NCCL as a library of the simulator: its choice, and the model's time as a delay and a flow on the fabric."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from commbench.cluster import Cluster
from commbench.collectives.algorithm import Request
from commbench.collectives.registry import DEFAULTS, get_algorithm
from commbench.collectives.spec import get_collective
from commbench.errors import InputError, UnknownTimeError
from commbench.libraries.base import Choice, Layout, Timing, Wanted
from commbench.libraries.nccl.machine import NETWORKS, NcclMachine
from commbench.libraries.nccl.prediction import Prediction
from commbench.libraries.nccl.predictor import KINDS, Adapted, predict
from commbench.network.transport import Connections
from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, Fabric
from commbench.topology.model import LinkKind, NodeKind

__all__ = ["NcclLibrary", "host_nics", "library_of", "links_inside", "machine_of"]

_AS_MESSAGES = ("Ring", "SendRecv")  # of NCCL's algorithms those whose messages are laid on links


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclLibrary:
    """NCCL, or RCCL on AMD's GPUs.

    Attributes:
        machine: of the whole cluster; every group is as many nodes and GPUs of it as its ranks lie on.
        dtype, redop: of what is sent. own: what points of the machine itself say.
        connections: none; what messages cost is in the model.
    """

    machine: NcclMachine
    dtype: str = "float32"
    redop: str = "sum"
    own: Adapted | None = None
    connections: Connections | None = None
    has_model: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """As records have it."""
        return self.machine.library

    @property
    def version(self) -> str:
        """As the user gave it, and how far the machine's own graphs and points are in the answer."""
        own = self.own
        graphs = ", graphs as found there" if self.machine.searched else ""
        points = "" if own is None else f", calibrated on {own.points} point{'s' * (own.points > 1)}"
        return f"{self.machine.version}{graphs}{points}"

    def prediction(self, wanted: Wanted, layout: Layout) -> Prediction:
        """What the model says.

        Raises:
            InputError: NCCL has no such collective, the class of machine has no constants, or hosts hold unequal
                numbers of the ranks.
        """
        if wanted.kind not in KINDS:
            raise InputError(f"library {self.name} has no {wanted.kind}; it has {', '.join(KINDS)}")
        held = Counter(layout.hosts).values()
        if len(set(held)) > 1:
            raise InputError(
                f"library {self.name}: {len(layout.hosts)} ranks lie on {len(held)} hosts, {min(held)} to {max(held)} "
                "on each; its model knows hosts of equally many: give -g or --jobs that fill them alike, "
                "--ranks-per-host, or --library ideal"
            )
        machine = _part_of(self.machine, layout.num_hosts, layout.ranks_per_host)
        size = wanted.num_elements * wanted.element_bytes
        if get_collective(wanted.kind).rows:  # counted as what one rank sends
            size //= len(layout.hosts)
        found = predict(machine, wanted.kind, size, self.dtype, redop=self.redop, own=self.own)
        if found.status == "unknown":
            raise UnknownTimeError(f"library {self.name}: {found.reason}; or give --library ideal")
        return found

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """See :class:`commbench.libraries.base.Library`; the messages are those of rings, or of all pairs."""
        found = self.prediction(wanted, layout)
        entry = get_algorithm(wanted.kind, DEFAULTS[wanted.kind])
        rings = entry.name == "ring" and layout.num_hosts > 1
        request = Request(
            num_ranks=len(layout.hosts),
            slices=1,
            channels=layout.ranks_per_host if rings else 1,
            root=wanted.root,
            group=layout.ranks_per_host,
            hosts=layout.hosts,
            ways=layout.ways,
            by_host=True,
            num_elements=wanted.num_elements,
            element_bytes=wanted.element_bytes,
        )
        wire_s = found.terms["wire"]
        trees = found.algorithm in ("Tree", "NVLSTree") and layout.num_hosts == 2
        ranks = len(layout.hosts)
        return Choice(
            algorithm=entry,
            request=request,
            protocol=found.protocol,
            timing=Timing(
                called=found.algorithm,
                channels=found.channels,
                delay_s=found.time_s - wire_s,
                wire_s=wire_s,
                share=ranks / (2 * (ranks - 1)) if trees else 1.0,
                stand_in=found.algorithm not in _AS_MESSAGES,
                in_switch=found.algorithm.startswith("NVLS"),
                terms=found.terms,
                candidates=tuple(
                    (f"{one.algorithm} {one.protocol}", one.formula_s, one.time_s) for one in found.candidates
                ),
            ),
        )


def library_of(device: str) -> str:
    """ "rccl" for AMD's GPUs, else "nccl"."""
    return "rccl" if device.lower().startswith("mi") else "nccl"


def machine_of(
    cluster: Cluster,
    *,
    version: str = "2.27",
    launch: str = "process",
    nvls: bool | None = None,
) -> NcclMachine:
    """A cluster as NCCL sees it: its GPUs and links from the fabric, and what a fabric does not say.

    Of a host's NICs count those of the GPUs that take part, for a GPU has those that are its own.

    Args:
        cluster: where. version, launch, nvls: as :class:`NcclMachine` has them.

    Raises:
        InputError: the topology names no device, or no network between its hosts, or one that the model does not know.
    """
    fabric = cluster.fabric
    if not fabric.device:
        raise InputError(
            f"--library nccl on topology {fabric.name}, which names no GPU: add `device` to its host, "
            "or give --library ideal"
        )
    hosts = cluster.hosts
    count = len(set(hosts.tolist()))
    if count > 1 and not fabric.network:
        raise InputError(
            f"--library nccl on topology {fabric.name}, which does not say what its NICs speak: add `network` "
            f"({', '.join(NETWORKS)}), or give --library ideal"
        )
    nics, rate = host_nics(fabric)
    part, whole = -(-len(hosts) // count), int((fabric.host_of == hosts[0]).sum())
    link, line = links_inside(fabric)
    library = library_of(fabric.device)
    amd = library == "rccl"
    machine = NcclMachine(
        gpu=fabric.device,
        gpus_per_node=whole,
        nodes=count,
        link="xgmi" if amd and link == "nvlink" else link,
        link_GBps=line,
        nics=nics,
        nic_Gbps=rate,
        network=fabric.network or NETWORKS[0],
        cpu=fabric.cpu or "intel",
        version=version,
        launch=launch,
        nvls=nvls,
        library=library,
    )
    return _part_of(machine, count, part)


def _share(nics: int, part: int, whole: int) -> int:
    """NICs of so many of a host's GPUs; one that has any has at least one."""
    return max(min(1, nics), round(nics * min(1.0, part / whole)))


def host_nics(fabric: Fabric) -> tuple[int, float]:
    """NICs of the first host that lead to the network, and the Gbit/s of one."""
    own = [link for link in fabric.to_network.tolist() if fabric.node_hosts[fabric.src[link]] == 0]
    if not own:
        return 0, 0.0
    return len({int(fabric.src[link]) for link in own}), float(fabric.bandwidths[own[0]]) * 8 / 1e9


def _part_of(machine: NcclMachine, nodes: int, gpus: int) -> NcclMachine:
    """So many nodes and GPUs of each; where GPUs are linked one to one, links to others are of no use."""
    line = machine.link_GBps
    if machine.link in ("nvlink", "xgmi") and 1 < gpus < machine.gpus_per_node:
        line *= (gpus - 1) / (machine.gpus_per_node - 1)
    nics = _share(machine.nics, gpus, machine.gpus_per_node)
    same = (nodes > 1, gpus) == (machine.nodes > 1, machine.gpus_per_node)  # its graphs are of these GPUs
    searched = machine.searched if same else ()
    return replace(machine, nodes=nodes, gpus_per_node=gpus, nics=nics, link_GBps=line, searched=searched)


def links_inside(fabric: Fabric) -> tuple[str, float]:
    """Kind of link of the first GPU to others of its node, and GB/s of all of them."""
    first = fabric.endpoints[0]
    kinds = [LINK_KINDS[kind] for kind in fabric.link_kinds[fabric.src == first].tolist()]
    rates = fabric.bandwidths[fabric.src == first].tolist()
    ends = [NODE_KINDS[fabric.node_kinds[node]] for node in fabric.dst[fabric.src == first].tolist()]
    direct = [rate for kind, rate in zip(kinds, rates, strict=True) if kind is LinkKind.NVLINK]
    if not direct:
        pcie = [rate for kind, rate in zip(kinds, rates, strict=True) if kind is LinkKind.PCIE]
        return "pcie", (max(pcie) if pcie else 0.0) / 1e9
    if NodeKind.NVSWITCH in ends:
        return "nvswitch", sum(direct) / 1e9
    return "cube-mesh" if len(set(direct)) > 1 else "nvlink", sum(direct) / 1e9
