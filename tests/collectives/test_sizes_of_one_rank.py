# SPDX-License-Identifier: Apache-2.0
"""What a size means for a barrier (nothing) and for all-to-all-v (one rank's row); counts that are too large."""

from pathlib import Path

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.load import load_file
from commbench.collectives.registry import build, get_algorithm
from commbench.collectives.sizes import buffer_elements, whole_elements
from commbench.collectives.spec import get_collective
from commbench.errors import CommbenchError
from commbench.topology.load import load_fabric
from tests.cases import MIB, US, simulate_collective, star


@pytest.mark.parametrize("size", [8, 32 * MIB])
def test_a_barrier_has_no_size(size: int) -> None:
    """3 rounds of 2 us and a token of 4 B."""
    done = simulate_collective(star(8), "barrier", "dissemination", size)
    assert done.record.size_bytes == 4
    assert done.trace.finish_ps == 3 * (2 * US + 4 * 80)


@pytest.mark.parametrize("algorithm", ["direct", "pairwise", "gloo"])
def test_all_to_all_v_is_as_large_as_what_one_rank_sends(algorithm: str) -> None:
    """So it takes as long as an all-to-all of that size, at the same bandwidth and with the same bound."""
    ragged = simulate_collective(star(8), "all-to-all-v", algorithm, MIB).record
    even = simulate_collective(star(8), "all-to-all", algorithm, MIB).record
    for name in ("size_bytes", "time_s", "busbw_factor", "lower_bound_s"):
        assert getattr(ragged, name) == getattr(even, name), name
    spec = get_collective("all-to-all-v")
    assert whole_elements(spec, 8, 100, 4) == 24
    assert buffer_elements(spec, 8, 24) == 192


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"slices": 2_000_000}, "--slices 2000000: at most 1048576"),
        ({"slices": 1_000_000}, "112e6 transfers, more than the .*: give fewer --ranks, --slices or --channels"),
        ({"channels": 1_000_000}, "--channels 1000000: at most 1024"),
        ({"group": 10**22}, "--group 10000000000000000000000: at most 1048576"),
        ({"hosts": (0, 0, 1)}, "3 hosts for 8 ranks"),
    ],
)
def test_counts_have_bounds(counts: dict, message: str) -> None:
    with pytest.raises(CommbenchError, match=message):
        build(get_algorithm("all-reduce", "ring"), Request(num_ranks=8, **counts))


@pytest.mark.parametrize("algorithm", ["direct", "pairwise"])
def test_all_pairs_of_many_ranks_are_not_written_out(algorithm: str) -> None:
    with pytest.raises(CommbenchError, match=r"on 131,072 ranks: 17.2e9 transfers take about"):
        simulate_collective(load_fabric("fat-tree-131072"), "all-to-all", algorithm, 2**30, keep_trace=False)


def test_a_ring_of_many_ranks_by_transfers_is_refused_before_it_starts() -> None:
    with pytest.raises(CommbenchError, match=r"34.4e9 transfers one by one are more than 4e9: give --detail folded"):
        simulate_collective(load_fabric("fat-tree-131072"), "all-reduce", "ring", 2**30, keep_trace=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0 0 0 send", "2000000000 0 0 send", "2000000001 steps; at most 1048576"),
        ("0 0 0 send", "1000000 0 0 send", "steps on all ranks and channels are too many"),
        ("0 0 0 send", "0 0 2000000000 send", "2000000001 channels; at most 1024"),
        ("chunks 1", "chunks 1000000000", "1000000000 chunks in all buffers of a rank; at most"),
        ("chunks 1", "chunks 9000000", "contributions to its results are too many to verify; at most"),
        ("ranks 2", "ranks 2000000000", "2000000000 ranks and switches; at most 1048576"),
        ("root 0", "root 0\nswitches 2000000000", "2000000002 ranks and switches; at most"),
        ("root 0", "root 0\nbuffers 2000000000", "2000000000 chunks in all buffers of a rank; at most"),
    ],
)
def test_a_small_file_cannot_ask_for_much(tmp_path: Path, old: str, new: str, message: str) -> None:
    head = ["collective all-reduce", "algorithm x", "ranks 2", "chunks 1", "window 1", "root 0"]
    ops = [f"0 {a} {c} {op} {1 - a} 0 1" for c in range(3) for a in (0, 1) for op in ("send", "reduce")]
    path = tmp_path / "x.txt"
    path.write_text("\n".join(["commbench-schedule 1", *head, *ops]).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CommbenchError, match=message) as error:
        load_file(path)
    assert str(error.value).startswith(str(path))
