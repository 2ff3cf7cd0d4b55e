# SPDX-License-Identifier: Apache-2.0
"""Work that no machine can do is refused before anything large is made, with what to give instead."""

import time
from dataclasses import replace
from typing import Any

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.all_pairs import all_pairs_all_gather
from commbench.collectives.passes import add_channels, pipeline
from commbench.collectives.registry import ALGORITHMS, build, build_schedule, get_algorithm, rounds_of
from commbench.collectives.work import rows_of
from commbench.errors import InputError
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

HUGE = "fat-tree-131072"
SHORTER = "give --detail folded or collective"
FEWER = "give fewer --ranks, --slices or --channels, or another --algorithm"


@pytest.mark.parametrize(
    ("collective", "algorithm", "options", "said"),
    [
        ("all-to-all", "pairwise", {}, r"17\.2e9 transfers take about [\d,]+ GiB of memory.*" + FEWER),
        ("all-to-all", "direct", {"detail": "collective"}, r"17\.\de9 transfers .*" + FEWER),
        ("all-to-all", "direct", {"detail": "folded"}, r"17\.\de9 transfers .*" + FEWER),
        ("all-reduce", "hierarchical", {}, FEWER),
        ("all-reduce", "ring", {}, r"ring on 131,072 ranks: 34\.4e9 transfers one by one .*" + SHORTER),
        ("all-reduce", "ring", {"engine": "reference"}, r"34\.4e9 transfers take .*" + SHORTER),
        ("all-reduce", "ring", {"channels": 10**6, "detail": "folded"}, FEWER),
        ("all-reduce", "ring", {"size_bytes": 64, "detail": "folded"}, "give a larger size, or --detail collective"),
        ("all-reduce", "tree", {"slices": 10**6}, FEWER),
    ],
)
def test_what_nobody_can_wait_for_is_refused_at_once(
    collective: str, algorithm: str, options: dict[str, Any], said: str
) -> None:
    fabric, began = load_fabric(HUGE), time.perf_counter()
    with pytest.raises(InputError, match=said):
        simulate_collective(fabric, collective, algorithm, **{"size_bytes": 2**26, "keep_trace": False} | options)
    assert time.perf_counter() - began < 5


def test_a_schedule_alone_is_refused_too() -> None:
    """As for a run, an emulation or a listing."""
    with pytest.raises(InputError, match=r"all-to-all by pairwise on 1,000,000 ranks: 1e12 transfers take about"):
        build_schedule("all-to-all", "pairwise", 10**6)


def test_a_schedule_made_without_a_request_has_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's own build(request) makes one: what memory holds, one rule for all who write records out."""
    monkeypatch.setattr("commbench.collectives.memory.memory_bytes", lambda: 2**20)
    small = build_schedule("all-reduce", "recursive-doubling", 8)
    ring = rounds_of(get_algorithm("all-reduce", "ring"), Request(num_ranks=128))
    assert ring is not None
    for make in (lambda: pipeline(small, 10**3), lambda: add_channels(small, 10**3), ring.schedule,
                 lambda: all_pairs_all_gather(128)):  # fmt: skip
        with pytest.raises(InputError, match=r"transfers take about 0 GiB of memory, this machine has 0: " + FEWER):
            make()


@pytest.mark.parametrize(
    ("collective", "algorithm"), sorted({(c, a.name) for (c, _), a in ALGORITHMS.items()}), ids="-".join
)
def test_the_estimate_is_near_what_is_built(collective: str, algorithm: str) -> None:
    entry = ALGORITHMS[collective, algorithm]
    request = Request(num_ranks=256, group=8, num_elements=2**16)
    if entry.refuses(request):
        pytest.skip(entry.refuses(request))
    built = len(build(entry, request).table)
    from commbench.collectives import work

    most, work._SMALL = work._SMALL, 0
    try:
        estimate = rows_of(entry, request)
        both = rows_of(entry, replace(request, slices=3, channels=2))
    finally:
        work._SMALL = most
    assert built / 2 <= estimate <= 2 * built
    assert both == 6 * estimate
