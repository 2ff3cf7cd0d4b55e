# SPDX-License-Identifier: Apache-2.0
"""``doctor --write``: machines made of files and of what a management library says become topologies that load."""

from pathlib import Path
from typing import Any

import pytest

from commbench.doctor.gpus import GpuState, read_gpus
from commbench.doctor.machine import read_machine
from commbench.doctor.topology import topology_of
from commbench.errors import InputError
from commbench.topology import load_fabric
from commbench.topology.model import LinkKind
from commbench.topology.summary import link_classes, node_counts
from tests.cli.commands import commbench

GEN5, GEN4 = "32.0 GT/s PCIe", "16.0 GT/s PCIe"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def device(root: Path, bus: int, numa: int, *, switch: int | None, **files: str) -> str:
    """A PCI device as sysfs has it: a folder below those of its bridges, and a link to it."""
    address = f"0000:{bus:02x}:00.0"
    above = ["devices", f"pci0000:{numa}0", f"0000:{numa}0:01.0"]
    if switch is not None:
        above += [f"0000:{switch:02x}:00.0", f"0000:{switch + 1:02x}:{bus % 16:02x}.0"]
    folder = root.joinpath("sys", *above, address)
    folder.mkdir(parents=True)
    lanes = {"current_link_width": "16", "max_link_width": "16", "current_link_speed": "2.5 GT/s PCIe",
             "max_link_speed": GEN5, "numa_node": str(numa)}  # fmt: skip
    for name, text in (lanes | files).items():
        put(folder, name, text)
    (root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
    (root / "sys/bus/pci/devices" / address).symlink_to(folder)
    return address


def gpu(root: Path, bus: int, numa: int, switch: int | None = None, kind: str = "0x2330", **files: str) -> str:
    return device(root, bus, numa, switch=switch, **{"class": "0x030200"}, vendor="0x10de", device=kind, **files)


def nic(root: Path, bus: int, numa: int, switch: int | None, name: str, rate: str = "400 Gb/sec (4X NDR)") -> None:
    address = device(root, bus, numa, switch=switch, **{"class": "0x020700"}, vendor="0x15b3", device="0x1021")
    port = f"sys/class/infiniband/{name}"
    for file, text in (("state", "4: ACTIVE"), ("rate", rate), ("link_layer", "InfiniBand")):
        put(root, f"{port}/ports/1/{file}", text)
    (root / port / "device").symlink_to((root / "sys/bus/pci/devices" / address).resolve())


def state(index: int, address: str, peers: tuple[str, ...] = (), capability: int = 90) -> GpuState:
    untold = (None,) * 6
    return GpuState(index, "NVIDIA", address, *untold, len(peers), len(peers), peers, capability)


def hgx(root: Path) -> tuple[GpuState, ...]:
    """Four H100 on an NVSwitch, two sockets with a PCIe switch each, two GPUs and NICs below every switch."""
    put(root, "proc/cpuinfo", "vendor_id\t: GenuineIntel\nmodel\t\t: 143\nmodel name\t: Intel Xeon 8480C")
    found = []
    for number in range(4):
        numa, switch = number // 2, 0x40 + 16 * (number // 2)
        found.append(state(number, gpu(root, 0x10 + number, numa, switch), ("",) * 18))
        nic(root, 0x20 + number, numa, switch, f"mlx5_{number}")
    nic(root, 0x30, 0, None, "mlx5_9", "100 Gb/sec (4X EDR)")  # of the CPU, for storage
    return tuple(found)


def written(root: Path, gpus: tuple[GpuState, ...]) -> tuple[Any, str, tuple[str, ...]]:
    made = topology_of(read_machine(root, {}), gpus, "My host")
    (root / "host.yaml").write_text(made.text, encoding="utf-8")
    return load_fabric(root / "host.yaml"), made.text, made.odd


def rates(fabric: Any) -> dict[LinkKind, set[float]]:
    found: dict[LinkKind, set[float]] = {}
    for one in link_classes(fabric):
        found.setdefault(one.kind, set()).add(round(one.bandwidth / 1e9, 1))
    return found


def test_a_host_with_an_nvswitch(tmp_path: Path) -> None:
    fabric, text, odd = written(tmp_path, hgx(tmp_path))
    counts = {kind.value: count for kind, count in node_counts(fabric).items()}
    assert (fabric.name, fabric.num_ranks, fabric.device) == ("my-host", 4, "h100-sxm5-80gb")
    assert (counts["nic"], counts["pcie-switch"], counts["cpu"]) == (4, 2, 2)  # the one for storage is not counted
    assert rates(fabric)[LinkKind.NVLINK] == {450.0}  # 18 links of 25 GB/s
    assert rates(fabric)[LinkKind.PCIE] == {63.0}  # generation 5, though idle at 2.5 GT/s
    assert "value: 22 GB/s" in text  # between sockets of this model of Intel's
    assert "as its system has them" in text
    assert not odd


def test_a_pair_on_a_bridge_and_gpus_without_nvlinks(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC")
    first, second = (gpu(tmp_path, 0x10 + n, 0, kind="0x2331") for n in range(2))
    fabric, _, odd = written(tmp_path, (state(0, first, (second,) * 12), state(1, second, (first,) * 12)))
    assert rates(fabric)[LinkKind.NVLINK] == {300.0}
    assert "nvswitch" not in {kind.value for kind in node_counts(fabric)}
    assert any("no network interface" in one for one in odd)
    fabric, _, _ = written(tmp_path, (state(0, first), state(1, second)))
    assert LinkKind.NVLINK not in rates(fabric)


def test_lanes_that_are_lost_are_in_it(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "vendor_id\t: AuthenticAMD")
    only = gpu(tmp_path, 0x10, 0, current_link_width="8", max_link_speed=GEN4)
    fabric, _, _ = written(tmp_path, (state(0, only),))
    assert rates(fabric)[LinkKind.PCIE] == {15.8}


@pytest.mark.parametrize(
    ("count", "gpus", "why_not", "says"),
    [
        (0, (), "", "--write: no GPU is to be seen here, so there is nothing to write; `commbench topology new`"),
        (1, (), "nvidia-ml-py is not installed", "--write: nvidia-ml-py is not installed; `commbench topology new`"),
        (3, ("", "0000:10:00.0", ""), "", "no topology file says what is here: the NVLinks are neither"),
    ],
)
def test_what_cannot_be_written_says_what_to_do(
    count: int, gpus: tuple[str, ...], why_not: str, says: str, tmp_path: Path
) -> None:
    addresses = [gpu(tmp_path, 0x10 + number, 0) for number in range(count)]
    states = tuple(state(n, addresses[n], (peer,) if peer else ()) for n, peer in enumerate(gpus))
    with pytest.raises(InputError) as error:
        topology_of(read_machine(tmp_path, {}), states, "x", why_not)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


class Pynvml:
    """What pynvml says of NVLinks: three to another GPU, one to a switch, one that is down."""

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetName(self, gpu: int) -> str:  # noqa: N802
        return "NVIDIA A100"

    def nvmlDeviceGetPciInfo(self, gpu: int) -> Any:  # noqa: N802
        return type("Pci", (), {"busId": "00000000:1B:00.0"})

    def nvmlDeviceGetCudaComputeCapability(self, gpu: int) -> tuple[int, int]:  # noqa: N802
        return 8, 0

    def nvmlDeviceGetNvLinkState(self, gpu: int, link: int) -> int:  # noqa: N802
        return [1, 1, 1, 1, 0][link]

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, gpu: int, link: int) -> int:  # noqa: N802
        return [0, 0, 0, 2][link]

    def nvmlDeviceGetNvLinkRemotePciInfo(self, gpu: int, link: int) -> Any:  # noqa: N802
        return type("Pci", (), {"busId": b"00000000:1C:00.0"})


def test_where_nvlinks_lead_to_is_asked() -> None:
    (only,), _ = read_gpus(Pynvml())
    assert only.peers == ("0000:1c:00.0",) * 3 + ("",)
    assert (only.links, only.links_up, only.capability) == (5, 4, 80)


def test_the_verb_on_this_machine(tmp_path: Path) -> None:
    """With GPUs a file that loads; without, an error and no file."""
    out = tmp_path / "host.yaml"
    done = commbench("doctor", "--write", str(out), folder=tmp_path)
    if out.exists():
        assert load_fabric(out).num_ranks >= 1
    else:
        assert done.returncode == 2
        assert "error: --write: " in done.stderr
