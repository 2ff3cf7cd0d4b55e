# SPDX-License-Identifier: Apache-2.0
"""What NCCL's time depends on: a machine in words and numbers, made by hand or from a fabric (``of_cluster``)."""

from dataclasses import dataclass

from commbench.errors import InputError
from commbench.libraries.nccl.channel_graph import ChannelGraph

__all__ = ["GPUS", "LAUNCHES", "LINKS", "NETWORKS", "VERSIONS", "Gpu", "NcclMachine", "gpu_named", "switches_add"]

LINKS = ("nvswitch", "cube-mesh", "nvlink", "pcie", "xgmi")
"""How the GPUs of a node reach each other: through NVSwitches, NVLinks of a hybrid cube mesh, NVLinks between every
two, PCIe, or Infinity Fabric between every two."""
NETWORKS = ("ib", "roce", "efa", "efa2", "tcpx", "tcpxo", "slingshot", "socket")
"""Between nodes; what stands behind ``roce`` is a plugin's, each of which has times of its own (``efa``: p3dn and p4d,
``efa2``: from p5 on)."""
LAUNCHES = ("process", "threads", "graph")
"""A process for each GPU; one process for all GPUs of a node (nccl-tests ``-g k``); a replayed CUDA graph, whose floor
is assumed to be that of a process for each GPU."""
VERSIONS = tuple(f"2.{minor}" for minor in range(18, 31))
"""Versions that have tables."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as NCCL sees it.

    Attributes:
        generation: volta, ampere, hopper, blackwell, consumer, cdna3, ...; keys of the constants.
        compute_capability: 70 is sm_70. nvlink_GBps: of one link in one direction, by data sheet; 0: it has none.
        links: NVLinks of one GPU. nvls: whether its NVSwitches add, where nobody says.
    """

    generation: str
    compute_capability: int
    nvlink_GBps: float = 0.0  # noqa: N815
    links: int = 0
    nvls: bool = False


GPUS = {
    "v100": Gpu("volta", 70, 25, 6),
    "a100": Gpu("ampere", 80, 25, 12),
    "a800": Gpu("ampere", 80, 25, 8),
    "h100": Gpu("hopper", 90, 25, 18, nvls=True),
    "h200": Gpu("hopper", 90, 25, 18, nvls=True),
    "h20": Gpu("hopper", 90, 25, 18),  # the public curve (nccl-tests#306) is that of rings
    "h800": Gpu("hopper", 90, 25, 8, nvls=True),
    "gh200": Gpu("hopper", 90, 25, 18, nvls=True),
    "b200": Gpu("blackwell", 100, 50, 18, nvls=True),
    "b300": Gpu("blackwell", 103, 50, 18, nvls=True),
    "gb200": Gpu("blackwell", 100, 50, 18, nvls=True),
    "gb300": Gpu("blackwell", 103, 50, 18, nvls=True),
    "rtx-3090": Gpu("ampere-pcie", 86),
    "rtx-4090": Gpu("ada", 89),
    "l40s": Gpu("ada-server", 89),
    "rtx-pro": Gpu("blackwell-pcie", 120),
    "rtx-5090": Gpu("blackwell-pcie", 120),
    "rtx-6000d": Gpu("blackwell-pcie", 120),
    "gb10": Gpu("blackwell-soc", 121),
    "mi250x": Gpu("cdna2", 90),
    "mi300x": Gpu("cdna3", 94),
    "mi325x": Gpu("cdna3", 94),
    "mi355x": Gpu("cdna4", 95),
}
"""By how their names begin."""


def gpu_named(name: str) -> Gpu:
    """The GPU that a device or a data sheet calls so: ``h100-sxm5-80gb``, ``H100-SXM5-80GB``, ``RTX 4090``.

    Raises:
        InputError: it is none of GPUS.
    """
    plain = name.lower().replace(" ", "-").replace("_", "-")
    for word in ("nvidia-", "amd-", "tesla-", "geforce-", "instinct-"):  # in which drivers call it so
        plain = plain.removeprefix(word)
    found = [key for key in GPUS if plain.startswith(key)]
    if not found:
        raise InputError(f"GPU {name!r} is not known to the model of NCCL; known: {', '.join(GPUS)}")
    return GPUS[max(found, key=len)]


def switches_add(device: str) -> bool | None:
    """Whether NVSwitches add for this device (NVLS); None: it is not known to the model."""
    try:
        return gpu_named(device).nvls
    except InputError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclMachine:
    """The machine, as many nodes and GPUs of it as take part.

    Attributes:
        gpu: name, as :func:`gpu_named` reads it.
        gpus_per_node: that take part. A node is what NVLink joins: 72 GPUs of an NVL72 rack are one.
        nodes: that take part.
        link: one of LINKS. link_GBps: of one GPU to all others of its node together, in one direction, by data sheet.
        nics: of a node. nic_Gbps: of one. network: one of NETWORKS.
        cpu: "intel", "amd", "arm" or "power".
        version: of the library, such as "2.21.5"; one without tables takes those of the nearest.
        launch: one of LAUNCHES. nvls: whether NVLS may be used; None: where the GPUs have it.
        library: "nccl" or "rccl".
        algorithms, protocols: that alone may be used (NCCL_ALGO, NCCL_PROTO), in NCCL's spelling; empty: all.
        searched: graphs that NCCL's own search found there: "ring", "tree", "nvls"; empty: what it would find.
    """

    gpu: str
    gpus_per_node: int
    nodes: int = 1
    link: str
    link_GBps: float  # noqa: N815
    nics: int = 0
    nic_Gbps: float = 0.0  # noqa: N815
    network: str = "ib"
    cpu: str = "intel"
    version: str = "2.27"
    launch: str = "process"
    nvls: bool | None = None
    library: str = "nccl"
    algorithms: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    searched: tuple[tuple[str, ChannelGraph], ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("link", LINKS), ("network", NETWORKS), ("launch", LAUNCHES)):
            if getattr(self, name) not in known:
                raise InputError(f"machine: {name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.gpus_per_node < 1 or self.nodes < 1:
            raise InputError(f"machine: {self.nodes} nodes of {self.gpus_per_node} GPUs: give at least one of each")
        if self.nodes > 1 and not self.nics * self.nic_Gbps > 0:
            raise InputError(f"machine: {self.nodes} nodes need nics and nic_Gbps")
        generation = self.kind.generation
        if self.nvls and (self.link != "nvswitch" or generation not in ("hopper", "blackwell")):
            raise InputError(f"machine: {self.gpu} over {self.link} has no NVLS: its switches do not add")

    @property
    def ranks(self) -> int:
        """GPUs that take part."""
        return self.nodes * self.gpus_per_node

    @property
    def kind(self) -> Gpu:
        """The GPU as NCCL sees it."""
        return gpu_named(self.gpu)
