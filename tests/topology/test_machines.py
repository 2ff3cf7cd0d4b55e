# SPDX-License-Identifier: Apache-2.0
"""The machines that measurements are published of: what joins their GPUs and hosts, in one place."""

import numpy as np
import pytest

from commbench.topology import LinkKind, NodeKind, list_topologies, load_fabric

# GPUs and NICs of one host; GB/s out of one GPU over NVLink or xGMI; Gbit/s of one NIC, None where nothing joins hosts
MACHINES = {
    #                   device, GPUs, links GB/s, NICs, NIC Gbit/s, network, CPU
    "dgx-v100": ("v100-sxm2", 8, 150, 4, None, "", "intel"),
    "p3dn-x2": ("v100-sxm2-32gb", 8, 150, 1, 100, "efa", "intel"),
    "dgx-a100": ("a100-sxm4", 8, 300, 8, None, "", "amd"),
    "dgx-a100-x2": ("a100-sxm4", 8, 300, 8, 200, "ib", "amd"),
    "p4de-x2": ("a100-sxm4-80gb", 8, 300, 4, 100, "efa", "intel"),
    "bm-gpu4-x2": ("a100-sxm4-40gb", 8, 300, 16, 100, "roce", "amd"),
    "hgx-a800": ("a800-sxm4-80gb", 8, 200, 8, None, "", "intel"),
    "dgx-h100": ("h100-sxm5-80gb", 8, 450, 8, None, "", "intel"),
    "dgx-h100-x2": ("h100-sxm5-80gb", 8, 450, 8, 400, "ib", "intel"),
    "p5-x2": ("h100-sxm5-80gb", 8, 450, 32, 100, "efa2", "amd"),
    "a3-high-x2": ("h100-sxm5-80gb", 8, 450, 4, 200, "tcpx", "intel"),
    "a3-mega-x2": ("h100-sxm5-80gb", 8, 450, 8, 200, "tcpxo", "intel"),
    "bm-gpu-h100-x2": ("h100-sxm5-80gb", 8, 450, 16, 200, "roce", "intel"),
    "h100-pcie-bridge": ("h100-pcie-80gb", 2, 300, 0, None, "", "intel"),
    "hgx-h800": ("h800-sxm5-80gb", 8, 200, 8, None, "", "intel"),
    "hgx-h20": ("h20-sxm5-96gb", 8, 450, 8, None, "", "intel"),
    "hgx-h200": ("h200-sxm-141gb", 8, 450, 8, None, "", "intel"),
    "hgx-h200-x2": ("h200-sxm-141gb", 8, 450, 8, 400, "ib", "intel"),
    "a3-ultra-x2": ("h200-sxm-141gb", 8, 450, 8, 400, "roce", "intel"),
    "bm-gpu-h200-x2": ("h200-sxm-141gb", 8, 450, 8, 400, "roce", "intel"),
    "gh200-quad": ("gh200-96gb", 4, 450, 4, None, "", "arm"),
    "gh200-quad-x2": ("gh200-96gb", 4, 450, 4, 200, "slingshot", "arm"),
    "dgx-b200": ("b200-sxm-180gb", 8, 900, 8, None, "", "intel"),
    "dgx-b200-x2": ("b200-sxm-180gb", 8, 900, 8, 400, "ib", "intel"),
    "a4-x2": ("b200-sxm-180gb", 8, 900, 8, 400, "roce", "intel"),
    "dgx-b300": ("b300-sxm-288gb", 8, 900, 8, None, "", "intel"),
    "dgx-b300-x2": ("b300-sxm-288gb", 8, 900, 8, 800, "ib", "intel"),
    "gb200-nvl72": ("gb200-186gb", 72, 900, 72, None, "", "arm"),
    "gb200-nvl72-x2": ("gb200-186gb", 72, 900, 72, 400, "ib", "arm"),
    "gb300-nvl72": ("gb300-277gb", 72, 900, 72, None, "", "arm"),
    "gb300-nvl72-x2": ("gb300-277gb", 72, 900, 72, 800, "roce", "arm"),
    "mi300x": ("mi300x-192gb", 8, 448, 8, None, "", "amd"),
    "mi300x-x2": ("mi300x-192gb", 8, 448, 8, 400, "roce", "amd"),
    "mi325x": ("mi325x-256gb", 8, 448, 8, None, "", "amd"),
    "mi325x-x2": ("mi325x-256gb", 8, 448, 8, 400, "roce", "amd"),
    "mi325x-x4": ("mi325x-256gb", 8, 448, 8, 400, "roce", "amd"),
    "mi355x": ("mi355x-288gb", 8, 537.6, 8, None, "", "amd"),
    "mi355x-x2": ("mi355x-288gb", 8, 537.6, 8, 400, "roce", "amd"),
    "pcie-4090": ("rtx-4090-24gb", 8, 0, 2, None, "", "amd"),
    "pcie-4090-4": ("rtx-4090-24gb", 4, 0, 0, None, "", "amd"),
    "rtx3090-x2": ("rtx-3090-24gb", 1, 0, 1, 100, "roce", "amd"),
    "pcie-l40s": ("l40s-48gb", 8, 0, 2, None, "", "intel"),
    "rtx-pro-6000": ("rtx-pro-6000-blackwell-96gb", 8, 0, 8, None, "", "intel"),
    "rtx-pro-6000-x2": ("rtx-pro-6000-blackwell-96gb", 8, 0, 8, 400, "roce", "intel"),
    "dgx-spark-x2": ("gb10-128gb", 1, 0, 2, 100, "roce", ""),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_has_the_links_that_its_makers_state(name: str) -> None:
    device, gpus, links_GBps, nics, nic_Gbps, network, cpu = MACHINES[name]  # noqa: N806
    fabric = load_fabric(name)
    assert (fabric.device, fabric.network, fabric.cpu) == (device, network, cpu)
    assert fabric.num_ranks == gpus * fabric.num_hosts
    for rank in (fabric.ranks[0], fabric.ranks[-1]):
        out = sum(x.bandwidth for x in fabric.links if x.src == rank and x.kind is LinkKind.NVLINK)
        assert out == pytest.approx(links_GBps * 1e9)
    assert len(list(fabric.of_kind(NodeKind.NIC))) == nics * fabric.num_hosts
    cabled = {x.bandwidth for x in fabric.links if x.kind is LinkKind.NETWORK and x.src.startswith("h0/nic")}
    assert cabled == (set() if nic_Gbps is None else {nic_Gbps * 1e9 / 8})
    assert fabric.num_hosts == (1 if nic_Gbps is None else int(name.rpartition("-x")[2]))


def test_every_machine_with_a_network_says_what_its_nics_speak() -> None:
    """Libraries take times by it. Plain hosts, of which nothing is known, say nothing."""
    for name in list_topologies():
        fabric = load_fabric(name)
        if fabric.device and fabric.num_hosts > 1:
            assert fabric.network, name


def test_all_gpus_of_a_machine_have_links_alike() -> None:
    for name in ("gb200-nvl72", "mi355x", "gh200-quad", "p3dn-x2"):
        fabric = load_fabric(name)
        out = [sum(x.bandwidth for x in fabric.links if x.src == rank and x.kind is LinkKind.NVLINK)
               for rank in fabric.ranks]  # fmt: skip
        assert np.ptp(out) == 0
