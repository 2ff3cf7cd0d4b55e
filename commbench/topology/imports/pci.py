# SPDX-License-Identifier: Apache-2.0
"""What NCCL's topology XML says by numbers: PCI devices of GPUs, models of CPUs, speeds of PCIe lanes."""

from dataclasses import dataclass

__all__ = ["CPU_MAKERS", "GPUS", "INTEL_SOCKETS", "PCIE_SPEEDS", "PciGpu", "pcie_GBps"]


@dataclass(frozen=True, slots=True)
class PciGpu:
    """A GPU by its PCI device.

    Attributes:
        device: as the files of ``topologies/devices/`` are called. compute_capability: 70 is sm_70.
        xgmi_GBps: of one link of an AMD GPU, one direction, by data sheet; 0 for other makers'.
    """

    device: str
    compute_capability: int
    xgmi_GBps: float = 0.0  # noqa: N815


GPUS = {
    "0x1db1": PciGpu("v100-sxm2-16gb", 70),
    "0x1db5": PciGpu("v100-sxm2-32gb", 70),
    "0x20b0": PciGpu("a100-sxm4-40gb", 80),
    "0x20b2": PciGpu("a100-sxm4-80gb", 80),
    "0x20f1": PciGpu("a100-pcie-40gb", 80),
    "0x20b5": PciGpu("a100-pcie-80gb", 80),
    "0x20f3": PciGpu("a800-sxm4-80gb", 80),
    "0x2204": PciGpu("rtx-3090-24gb", 86),
    "0x2684": PciGpu("rtx-4090-24gb", 89),
    "0x26b9": PciGpu("l40s-48gb", 89),
    "0x2324": PciGpu("h800-sxm5-80gb", 90),
    "0x2329": PciGpu("h20-sxm5-96gb", 90),
    "0x2330": PciGpu("h100-sxm5-80gb", 90),
    "0x2331": PciGpu("h100-pcie-80gb", 90),
    "0x2335": PciGpu("h200-sxm-141gb", 90),
    "0x2342": PciGpu("gh200-96gb", 90),
    "0x2901": PciGpu("b200-sxm-180gb", 100),
    "0x2941": PciGpu("gb200-186gb", 100),
    "0x3182": PciGpu("b300-sxm-288gb", 103),
    "0x31c2": PciGpu("gb300-277gb", 103),
    "0x2bb5": PciGpu("rtx-pro-6000-blackwell-96gb", 120),
    "0x74a1": PciGpu("mi300x-192gb", 94, 64.0),
    "0x74a5": PciGpu("mi325x-256gb", 94, 64.0),
    "0x75a3": PciGpu("mi355x-288gb", 95, 76.8),
}
"""By PCI device, as https://pci-ids.ucw.cz has them; it lacks the last, which is assumed: no file of one was seen."""

CPU_MAKERS = {
    "intel": ("x86_64", "GenuineIntel"),
    "amd": ("x86_64", "AuthenticAMD"),
    "arm": ("arm64", ""),
    "power": ("ppc64", ""),
}
"""Architecture and vendor of a maker's CPUs."""

INTEL_SOCKETS = ((207, 40.0), (143, 22.0), (85, 10.0), (0, 6.0))
"""Model of family 6 from, GB/s that NCCL counts between two such sockets (NCCL 2.30.7 src/graph/topo.h)."""

PCIE_SPEEDS = (2.5, 5.0, 8.0, 16.0, 32.0, 64.0)
"""GT/s of a lane, by generation."""


def pcie_GBps(transfers: float, width: int) -> float:  # noqa: N802
    """GB/s of ``width`` lanes at so many GT/s, one direction, by the coding of their generation."""
    coding = 0.8 if transfers < 8 else 128 / 130 if transfers < 64 else 242 / 256
    return transfers * width * coding / 8
