# SPDX-License-Identifier: Apache-2.0
"""What is suspicious about a machine that is to run collectives, each with what to do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from commbench.doctor.gpus import GpuState
from commbench.doctor.machine import HostFacts, PciDevice
from commbench.units import format_bytes

__all__ = ["Suspicion", "suspicions"]

_LEAST_MEMLOCK = 2**30  # RDMA pins its buffers; NCCL's alone are some hundred MiB on eight GPUs
_SLOW_CLOCK = 0.9  # of what it may have, while something holds it down
_SWITCHED_OFF = {
    "NCCL_P2P_DISABLE": "GPUs of a host go through its memory instead of NVLink or PCIe",
    "NCCL_SHM_DISABLE": "ranks of a host go over the network where they cannot reach each other directly",
    "NCCL_IB_DISABLE": "hosts are joined by TCP sockets instead of RDMA",
    "NCCL_NVLS_ENABLE": "",
    "NCCL_NET_GDR_DISABLE": "NICs go through the memory of the host",
}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """``what`` was seen, and what to ``do`` about it."""

    what: str
    do: str


def suspicions(machine: HostFacts, gpus: Sequence[GpuState]) -> list[Suspicion]:
    """All that is odd, in no order of weight."""
    return [*_pci(machine), *_network(machine), *_system(machine), *_variables(machine), *_gpus(gpus)]


def _pci(machine: HostFacts) -> Iterator[Suspicion]:
    for one in machine.pci:
        name = f"{one.kind} {one.address}"
        if one.width and one.most_width and one.width < one.most_width:
            yield Suspicion(f"{name}: {one.width} of {one.most_width} PCIe lanes",
                            "reseat it, look at its riser and slot; compare with lspci -vv")  # fmt: skip
        if one.kind == "nic" and one.speed and one.most_speed and one.speed < one.most_speed:
            yield Suspicion(f"{name}: PCIe at {one.speed:g} of {one.most_speed:g} GT/s",
                            "look at the slot's generation in the firmware's setup")  # fmt: skip
    yield from _far_gpus(machine)


def _far_gpus(machine: HostFacts) -> Iterator[Suspicion]:
    """NUMA nodes with GPUs and without a NIC, where others have one."""
    def nodes(devices: Sequence[PciDevice]) -> set[int]:
        return {one.numa for one in devices if one.numa is not None}

    gpus, nics = nodes(machine.of_kind("gpu")), nodes(machine.of_kind("nic"))
    if gpus and nics and gpus - nics:
        numbers = ", ".join(map(str, sorted(gpus - nics)))
        yield Suspicion(f"GPUs on NUMA node {numbers} have no NIC there", "their traffic crosses the sockets: place "
                        "ranks that talk to other hosts elsewhere, or move a NIC")  # fmt: skip


def _network(machine: HostFacts) -> Iterator[Suspicion]:
    for port in machine.ports:
        name = f"{port.device} port {port.port}"
        if port.state != "ACTIVE":
            yield Suspicion(f"{name} is {port.state or 'in no state that it tells'}",
                            "look at its cable and at the subnet manager (ibstat, ibdiagnet)")  # fmt: skip
    rates = Counter(port.rate for port in machine.ports if port.state == "ACTIVE" and port.rate)
    usual = rates.most_common(1)[0][0] if rates else None
    for port in machine.ports:
        if usual and port.rate and port.state == "ACTIVE" and port.rate < usual:
            yield Suspicion(f"{port.device} port {port.port} runs at {port.rate / 1e9:g} Gbit/s, others at "
                            f"{usual / 1e9:g}", "it trained down: clean or change its cable")  # fmt: skip
    if machine.ports and machine.memlock_bytes is not None and machine.memlock_bytes < _LEAST_MEMLOCK:
        yield Suspicion(f"a process may lock {format_bytes(machine.memlock_bytes)} of memory; RDMA locks its buffers",
                        "ulimit -l unlimited, or LimitMEMLOCK=infinity for the service that starts ranks")  # fmt: skip
    nvidia = [one for one in machine.of_kind("gpu") if one.vendor == "0x10de"]
    if machine.ports and nvidia and machine.driver and not machine.peermem:
        yield Suspicion("nvidia_peermem is not loaded", "modprobe nvidia_peermem, unless NCCL says in its log that it "
                        "reaches GPUs by DMA-BUF: else NICs go through the memory of the host")  # fmt: skip


def _system(machine: HostFacts) -> Iterator[Suspicion]:
    if machine.quota is not None and machine.quota < machine.cores:
        yield Suspicion(f"the control group grants {machine.quota:g} cores' worth of time on {machine.cores} cores",
                        "threads are stopped when it is spent: raise cpu.max, or count on fewer ranks")  # fmt: skip
    if machine.online is not None and machine.cores < machine.online:
        yield Suspicion(f"this process may run on {machine.cores} of {machine.online} cores",
                        "look at taskset, the launcher's binding and cpuset.cpus")  # fmt: skip
    if "powersave" in machine.governors:
        yield Suspicion("cores follow the governor powersave", "cpupower frequency-set -g performance")
    nvidia = [one for one in machine.of_kind("gpu") if one.vendor == "0x10de"]
    if nvidia and not machine.driver:
        yield Suspicion(f"{len(nvidia)} NVIDIA GPUs on the bus, and no driver",
                        "install it, or start the container with --gpus all")  # fmt: skip


def _variables(machine: HostFacts) -> Iterator[Suspicion]:
    for name, value in machine.variables.items():
        off = value == ("0" if name.endswith("_ENABLE") else "1")
        if name in _SWITCHED_OFF and off:
            why = _SWITCHED_OFF[name] or "switches inside the host do not add"
            yield Suspicion(f"{name}={value}", f"unset it, unless you mean it: {why}")
    for name in ("NCCL_ALGO", "NCCL_PROTO"):
        if name in machine.variables:
            yield Suspicion(f"{name}={machine.variables[name]}",
                            "unset it, unless you mean it: NCCL no longer chooses by size")  # fmt: skip


def _gpus(gpus: Sequence[GpuState]) -> Iterator[Suspicion]:
    most = max((gpu.links_up for gpu in gpus), default=0)
    for gpu in gpus:
        name = f"GPU {gpu.index} ({gpu.address})"
        if gpu.links_up < max(gpu.links, most):
            yield Suspicion(f"{name}: {gpu.links_up} of {max(gpu.links, most)} NVLinks are up",
                            "nvidia-smi nvlink -s; look at the fabric manager and for XIDs in dmesg")  # fmt: skip
        if gpu.held and gpu.clock and gpu.most_clock and gpu.clock < _SLOW_CLOCK * gpu.most_clock:
            yield Suspicion(f"{name}: clocks are held down to {gpu.clock} of {gpu.most_clock} MHz",
                            "nvidia-smi -q -d PERFORMANCE says why: heat, power, or a cable")  # fmt: skip
        if gpu.ecc is False:
            yield Suspicion(f"{name}: ECC is off", "nvidia-smi -e 1 and a reset, unless you mean it")
        if gpu.uncorrected:
            yield Suspicion(f"{name}: {gpu.uncorrected} memory errors that ECC could not correct",
                            "drain the host and reset the GPU; change it if they come back")  # fmt: skip
