# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.control_plane``: a few ranks go through all of it; no speed is judged."""

import pytest

pytest.importorskip("torch")

from benchmarks.control_plane import PROCESSES, cost, mesh


@pytest.mark.live
def test_a_few_ranks_join_meet_and_leave() -> None:
    ranks = PROCESSES + 2
    seen = cost(ranks, beats_s=1.0)
    assert seen.ranks == ranks
    assert min(seen.join_s, seen.gather_s, seen.barrier_s, seen.leave_s) > 0
    assert 2 * ranks <= seen.connections <= 2 * ranks + 16  # two of each rank, and the store's own


def test_a_mesh_has_a_socket_for_every_two() -> None:
    seconds, sockets = mesh(4)
    assert seconds > 0
    assert sockets >= 4 * 3
