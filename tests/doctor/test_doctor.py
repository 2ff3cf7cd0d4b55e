# SPDX-License-Identifier: Apache-2.0
"""``doctor`` on machines made of files: what is there is read, what is odd is told, and nothing is guessed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commbench.cli.doctor import doctor_text
from commbench.doctor.gpus import GpuState, read_gpus
from commbench.doctor.machine import HostFacts, read_machine
from commbench.doctor.suspicions import suspicions
from tests.cli.commands import commbench

GPU, SWITCH, NIC = "0000:1b:00.0", "0000:c0:00.0", "0000:1c:00.0"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def pci(root: Path, address: str, **files: str) -> None:
    for name, text in files.items():
        put(root, f"sys/bus/pci/devices/{address}/{name}", text)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a GPU and a NIC on one node, both as they should be."""
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor")
    put(tmp_path, "proc/meminfo", "MemTotal:       1056000000 kB\nHugePages_Free:       12")
    put(tmp_path, "proc/self/limits", "Limit  Soft Limit  Hard Limit\nMax locked memory         unlimited  unlimited")
    put(tmp_path, "proc/self/status", "Cpus_allowed:\tff\nCpus_allowed_list:\t0-7")
    put(tmp_path, "proc/self/cgroup", "0::/job")
    put(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed Jan")
    put(tmp_path, "proc/sys/user/max_user_namespaces", "1000")
    put(tmp_path, "sys/module/nvidia_peermem/refcnt", "0")
    put(tmp_path, "sys/devices/system/cpu/online", "0-7")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")
    for node, cores in ((0, "0-3"), (1, "4-7")):
        put(tmp_path, f"sys/devices/system/node/node{node}/cpulist", cores)
    lanes = {"current_link_width": "16", "max_link_width": "16", "current_link_speed": "32.0 GT/s PCIe",
             "max_link_speed": "32.0 GT/s PCIe"}  # fmt: skip
    pci(tmp_path, GPU, **{"class": "0x030200"}, vendor="0x10de", device="0x2330", numa_node="0", **lanes)
    pci(tmp_path, SWITCH, **{"class": "0x068000"}, vendor="0x10de", device="0x22a3", numa_node="-1")
    pci(tmp_path, NIC, **{"class": "0x020700"}, vendor="0x15b3", device="0x1021", numa_node="0", **lanes)
    pci(tmp_path, "0000:00:1f.0", **{"class": "0x060100"}, vendor="0x8086", device="0x1")
    for number in range(2):
        port = f"sys/class/infiniband/mlx5_{number}/ports/1"
        put(tmp_path, f"{port}/state", "4: ACTIVE")
        put(tmp_path, f"{port}/rate", "400 Gb/sec (4X NDR)")
        put(tmp_path, f"{port}/link_layer", "InfiniBand")
    return tmp_path


def seen(root: Path, gpus: tuple[GpuState, ...] = (), **variables: str) -> tuple[HostFacts, list[str]]:
    machine = read_machine(root, variables)
    return machine, [one.what for one in suspicions(machine, gpus)]


def test_what_is_there_is_read(host: Path) -> None:
    machine, odd = seen(host)
    assert odd == []
    assert (machine.cpu, machine.cores, machine.numa) == ("AMD EPYC 9654 96-Core Processor", 8, {0: 4, 1: 4})
    assert (machine.memory_bytes, machine.memlock_bytes, machine.hugepages) == (1056000000 * 1024, None, 12)
    assert (machine.driver, machine.peermem, machine.namespaces) == ("570.86.15", True, 1000)
    [gpu], [switch], [nic] = (machine.of_kind(kind) for kind in ("gpu", "nvswitch", "nic"))
    assert (gpu.address, gpu.width, gpu.speed, gpu.numa) == (GPU, 16, 32.0, 0)
    assert (switch.address, switch.numa, switch.width) == (SWITCH, None, None)
    assert nic.vendor == "0x15b3"
    assert [(port.device, port.state, port.rate) for port in machine.ports] == [
        ("mlx5_0", "ACTIVE", 400e9),
        ("mlx5_1", "ACTIVE", 400e9),
    ]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (f"sys/bus/pci/devices/{GPU}/current_link_width", "8", f"gpu {GPU}: 8 of 16 PCIe lanes"),
        (f"sys/bus/pci/devices/{NIC}/current_link_speed", "16.0 GT/s PCIe", f"nic {NIC}: PCIe at 16 of 32 GT/s"),
        (f"sys/bus/pci/devices/{NIC}/numa_node", "1", "GPUs on NUMA node 0 have no NIC there"),
        ("sys/class/infiniband/mlx5_1/ports/1/state", "1: DOWN", "mlx5_1 port 1 is DOWN"),
        ("sys/class/infiniband/mlx5_1/ports/1/rate", "200 Gb/sec (4X HDR)", "mlx5_1 port 1 runs at 200 Gbit/s, others"),
        ("proc/self/limits", "Max locked memory         8388608    8388608   bytes", "may lock 8 MiB of memory"),
        ("sys/fs/cgroup/job/cpu.max", "200000 100000", "grants 2 cores' worth of time on 8 cores"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "governor powersave"),
        ("sys/devices/system/cpu/online", "0-15", "may run on 8 of 16 cores"),
    ],
)
def test_what_is_odd_is_told(host: Path, file: str, text: str, words: str) -> None:
    put(host, file, text)
    if file.endswith("ports/1/rate"):  # a majority says what is usual
        for name in ("state", "rate", "link_layer"):
            port = "sys/class/infiniband/mlx5_{}/ports/1/" + name
            put(host, port.format(2), (host / port.format(0)).read_text().strip())
    [odd] = seen(host)[1]
    assert words in odd


def test_a_gpu_without_a_driver_and_a_driver_without_peermem(host: Path) -> None:
    (host / "sys/module/nvidia_peermem/refcnt").unlink()
    (host / "sys/module/nvidia_peermem").rmdir()
    assert seen(host)[1] == ["nvidia_peermem is not loaded"]
    (host / "proc/driver/nvidia/version").unlink()
    assert seen(host)[1] == ["1 NVIDIA GPUs on the bus, and no driver"]


def test_variables_that_switch_things_off(host: Path) -> None:
    odd = seen(host, NCCL_IB_DISABLE="1", NCCL_P2P_DISABLE="0", NCCL_NVLS_ENABLE="0", NCCL_ALGO="Ring", SECRET="x")[1]
    assert odd == ["NCCL_IB_DISABLE=1", "NCCL_NVLS_ENABLE=0", "NCCL_ALGO=Ring"]


def test_a_machine_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    machine, odd = seen(tmp_path)
    assert odd == []
    assert (machine.cpu, machine.online, machine.memory_bytes, machine.pci, machine.ports) == (None, None, None, (), ())
    assert "GPU          none on the PCI bus" in doctor_text(machine, (), "", [])


class Nvml:
    """What answers as pynvml does: GPUs by their figures; what is None is an error, as it is there."""

    NVML_CLOCK_SM, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 1, 0

    def __init__(self, *gpus: dict[str, Any]) -> None:
        self.gpus, self.open = gpus, 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> dict[str, Any]:  # noqa: N802
        return self.gpus[number]

    def nvmlDeviceGetName(self, gpu: dict[str, Any]) -> bytes:  # noqa: N802
        return b"NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetPciInfo(self, gpu: dict[str, Any]) -> Any:  # noqa: N802
        return type("Pci", (), {"busId": "00000000:1B:00.0"})

    def nvmlDeviceGetNvLinkState(self, gpu: dict[str, Any], link: int) -> int:  # noqa: N802
        return gpu["links"][link]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: dict[str, Any]) -> int:  # noqa: N802
        return gpu["held"]

    def nvmlDeviceGetMemoryInfo(self, gpu: dict[str, Any]) -> Any:  # noqa: N802
        return type("Memory", (), {"total": 80 * 2**30})

    def nvmlDeviceGetClockInfo(self, gpu: dict[str, Any], which: int) -> int:  # noqa: N802
        return gpu["clock"]

    def nvmlDeviceGetMaxClockInfo(self, gpu: dict[str, Any], which: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetEccMode(self, gpu: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        return gpu["ecc"], gpu["ecc"]

    def nvmlDeviceGetTotalEccErrors(self, gpu: dict[str, Any], kind: int, counter: int) -> int:  # noqa: N802
        return gpu["errors"]


SOUND = {"links": [1] * 18, "held": 0x1, "clock": 345, "ecc": 1, "errors": 0}  # idle: clocks are low, and may be


def test_what_the_management_library_says() -> None:
    library = Nvml(SOUND, {})
    (sound, silent), why_not = read_gpus(library)
    assert (why_not, library.open) == ("", 0)
    assert (sound.address, sound.memory_bytes, sound.links, sound.links_up) == ("0000:1b:00.0", 80 * 2**30, 18, 18)
    assert (sound.held, sound.ecc, sound.uncorrected) == (0, True, 0)
    assert (silent.clock, silent.ecc, silent.links) == (None, None, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"links": [1] * 17 + [0]}, "GPU 1 (0000:1b:00.0): 17 of 18 NVLinks are up"),
        ({"held": 0x40}, "GPU 1 (0000:1b:00.0): clocks are held down to 345 of 1980 MHz"),
        ({"ecc": 0}, "GPU 1 (0000:1b:00.0): ECC is off"),
        ({"errors": 3}, "GPU 1 (0000:1b:00.0): 3 memory errors that ECC could not correct"),
    ],
)
def test_what_is_odd_about_a_gpu(host: Path, changes: dict[str, Any], words: str) -> None:
    gpus, _ = read_gpus(Nvml(SOUND, SOUND | changes))
    assert seen(host, gpus)[1] == [words]
    assert seen(host, read_gpus(Nvml(SOUND, SOUND))[0])[1] == []


def test_a_library_that_does_not_start_says_why() -> None:
    class Broken(Nvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise RuntimeError("Driver Not Loaded")

    assert read_gpus(Broken()) == ((), "NVIDIA's management library does not start: Driver Not Loaded")


def test_text_fits_a_terminal(host: Path) -> None:
    put(host, "proc/self/limits", "Max locked memory         8388608    8388608   bytes")
    machine = replace(read_machine(host, {"NCCL_IB_DISABLE": "1"}), nccl={"nvidia-nccl-cu12": "2.27.5"})
    gpus, _ = read_gpus(Nvml(SOUND, SOUND | {"links": [0] * 18}))
    text = doctor_text(machine, gpus, "", suspicions(machine, gpus))
    assert max(map(len, text.splitlines())) <= 80
    assert "# 3 suspicious" in text


def test_the_command_says_what_it_sees_here(tmp_path: Path) -> None:
    done = commbench("doctor", "--json", folder=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == int(bool(found["suspicions"])), done.stderr
    assert found["machine"]["cores"] >= 1
    assert done.stdout.count("\n") == 1
