# SPDX-License-Identifier: Apache-2.0
"""The ring that csg-htsim was held against: docs/fluid-or-packets.md, benchmarks/against_htsim.py."""

from pathlib import Path

import pytest

import commbench as cb
from benchmarks.against_htsim import FABRIC, HEADER, KEPT_US, RANKS, SIZE_BYTES, matrix
from commbench.engine.engines import Run
from commbench.experiments.flows import simulate_flows

HTSIM_US = 12_527.4
NETWORK = f"packet:none,header={HEADER}"


def test_an_all_reduce_is_within_two_percent_of_htsim() -> None:
    """Each step takes as long as over the longest route: six links of 1 us, and five that store and forward."""
    cluster = cb.load_cluster(FABRIC, routing="ecmp")
    program = cb.collective_program("all-reduce", SIZE_BYTES, ranks=RANKS)
    done = cb.simulate(program, cluster, cb.Ideal(algorithms={"all-reduce": "ring"}), Run(network=NETWORK))
    packet_ps = (4096 + HEADER) * 80
    assert done.finish_ps == 2 * (RANKS - 1) * (SIZE_BYTES // RANKS // 4096 * packet_ps + 5 * packet_ps + 6_000_000)
    for theirs_us in (HTSIM_US, *KEPT_US):
        assert done.time_s * 1e6 == pytest.approx(theirs_us, rel=0.02)


@pytest.mark.parametrize(("size_bytes", "theirs_us"), [(4096, 4.67584), (8192, 5.00864), (524_288, 46.9414)])
def test_a_message_alone_takes_what_htsim_prints(size_bytes: int, theirs_us: float, tmp_path: Path) -> None:
    """Until its sender knows: the answer of 64 bytes takes 5.12 ns on each of two links, which ours does not."""
    file = tmp_path / "one.cm"
    file.write_text(f"Nodes 2\nConnections 2\nTriggers 1\n0->1 id 1 start 0 size {size_bytes} send_done_trigger 1\n"
                    "2->3 id 2 trigger 1 size 64\ntrigger id 1 oneshot\n")  # fmt: skip
    table = tmp_path / "flows.csv"
    simulate_flows(str(file), FABRIC, network=NETWORK, table=table)
    known_us = float(table.read_text().splitlines()[2].split(",")[3]) * 1e6
    assert known_us + 2 * 0.00512 == pytest.approx(theirs_us, abs=1e-4)


def test_a_ring_as_a_connection_matrix(tmp_path: Path) -> None:
    """Three hosts of one switch, 4 steps of 1 KiB: a step takes its bytes and two links, then comes the answer."""
    file = tmp_path / "ring.cm"
    file.write_text(matrix(3, 3 * 1024))
    done = simulate_flows(str(file), FABRIC)
    step_us = 1024 / 12.5e9 * 1e6 + 2
    assert done.flows == 12
    assert done.time_s * 1e6 == pytest.approx(4 * step_us + 3 * 2, rel=1e-6)
