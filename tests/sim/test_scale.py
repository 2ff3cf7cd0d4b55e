# SPDX-License-Identifier: Apache-2.0
"""A thousand ranks and more: exact times, exact counts, and bytes that add up."""

import numpy as np
import pytest

from commbench.routing.router import Router
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

MIB = 2**20
US = 10**6


@pytest.mark.parametrize(("ranks", "printed_us", "num_shares"), [(512, "14804.447", 11214), (1024, "18910.932", 22478)])
def test_the_ring_of_simgrids_raw_model(ranks: int, printed_us: str, num_shares: int) -> None:
    """64 MiB by ring: 2(n-1) steps of 64 MiB / n at 12.5 GB/s and 4 us, as SimGrid 3.32 printed it (CM02, no cross
    traffic, same fat tree).
    """
    done = simulate_collective(load_fabric(f"fat-tree-{ranks}"), "all-reduce", "ring", 64 * MIB, keep_trace=False)
    assert done.trace.finish_ps == 2 * (ranks - 1) * (64 * MIB // ranks * 80 + 4 * US)
    assert f"{done.trace.finish_ps / US:.3f}" == printed_us
    assert done.trace.num_shares == num_shares
    assert done.record.transfers == 2 * ranks * (ranks - 1)


@pytest.mark.parametrize("detail", ["folded", "collective"])
def test_less_work_the_same_time(detail: str) -> None:
    fabric = load_fabric("fat-tree-1024")
    done = simulate_collective(fabric, "all-reduce", "ring", 64 * MIB, detail=detail, keep_trace=False)
    assert round(done.record.time_s * 1e12) == 2 * 1023 * (64 * MIB // 1024 * 80 + 4 * US)
    assert done.record.transfers == 2_095_104
    assert done.record.shortcut


def test_a_hundred_thousand_ranks() -> None:
    """2 (131072 - 1) steps of 512 bytes at 12.5 GB/s; the longest way of a step is over the cores, six links."""
    done = simulate_collective(load_fabric("fat-tree-131072"), "all-reduce", "ring", 64 * MIB, detail="collective")
    assert done.record.ranks == 131_072
    assert done.record.time_s == pytest.approx(2 * 131_071 * (512 / 12.5e9 + 6e-6), rel=1e-12)


def test_all_to_all_on_an_oversubscribed_tree() -> None:
    """Direct all-to-all of 256 ranks, 2:1 oversubscribed: 65,280 flows at once.

    A block is 64 MiB / 256 = 256 KiB. Every rank's link carries 255 of them each way. A leaf of 16 ranks sends 16 x 240
    blocks up, by d-mod-k over 16 spines evenly: 240 over each of its uplinks, each half as wide as a rank's link.
    """
    fabric = load_fabric("leaf-spine-256-2to1")
    done = simulate_collective(fabric, "all-to-all", "direct", 64 * MIB)
    block = 256 * 1024
    program = done.flat
    sends = program.peer >= 0
    assert np.count_nonzero(sends) == done.record.transfers == 256 * 255
    first, links = Router(fabric).routes(program.rank[sends], program.peer[sends], program.channel[sends])
    carried = np.bincount(
        links, weights=np.repeat(program.num_bytes[sends], np.diff(first)), minlength=len(fabric.bandwidths)
    )
    rank_links, uplinks = 4 * 256, 2 * 16 * 16  # rank to NIC and NIC to leaf, leaf to spine, both ways each
    assert sorted(carried.tolist()) == [240 * block] * uplinks + [255 * block] * rank_links
    assert carried.sum() == 256 * 255 * block * 4 + 256 * 240 * block * 2
    # No link can have carried it in less time, and the uplinks, the narrowest place, are busy but for the latencies.
    busiest_s = float((carried / fabric.bandwidths).max())
    assert busiest_s == 240 * block / 6.25e9
    assert busiest_s < done.record.time_s < busiest_s + 5e-6
