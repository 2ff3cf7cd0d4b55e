# SPDX-License-Identifier: Apache-2.0
"""Where the time of a simulated collective goes: the terms of the critical path add up to it, to the picosecond."""

from dataclasses import replace

import pytest

from commbench.errors import InputError
from commbench.results.terms import terms_ps
from commbench.sim.terms import TERMS
from commbench.topology.load import load_fabric
from commbench.units import PS_PER_S
from tests.cases import simulate_collective

MIB = 2**20
CASES = [
    (topology, algorithm, size)
    for topology in ("star-8", "fat-tree-16", "leaf-spine-16-4to1", "shared-memory-4", "dgx-h100-x2")
    for algorithm in ("ring", "double-binary-tree", "recursive-doubling")
    for size in (1024, 64 * MIB)
]


@pytest.mark.parametrize(("topology", "algorithm", "size"), CASES)
def test_terms_add_up_to_the_time(topology: str, algorithm: str, size: int) -> None:
    done = simulate_collective(load_fabric(topology), "all-reduce", algorithm, size, explain=True)
    terms = terms_ps(done.record)
    assert tuple(terms) == TERMS, "nothing is left for a rest"
    assert sum(terms.values()) == done.trace.finish_ps == round(done.record.time_s * PS_PER_S)
    assert min(terms.values()) >= 0


def test_a_ring_on_a_fat_tree_is_latency_and_wire() -> None:
    """2 x 15 steps, each of 4 us and 1/16 of the bytes at 12.5 GB/s, and no link is shared."""
    done = simulate_collective(load_fabric("fat-tree-16"), "all-reduce", "ring", 64 * MIB, explain=True)
    wire_ps = round(64 * MIB / 16 / 12.5e9 * PS_PER_S)
    assert terms_ps(done.record) == {
        "message overhead": 0, "latency": 30 * 4_000_000, "wire": 30 * wire_ps, "contention": 0, "reduction": 0,
    }  # fmt: skip


def test_flows_that_share_a_link_are_contention() -> None:
    """All ranks send across the spines at once, whose links are a quarter of what hosts can send."""
    fabric = load_fabric("leaf-spine-16-4to1")
    shared = simulate_collective(fabric, "all-to-all", "direct", 64 * MIB, explain=True)
    assert terms_ps(shared.record)["contention"] > terms_ps(shared.record)["wire"]


def test_messages_and_additions_have_terms_of_their_own() -> None:
    """On shared memory each message costs the processor, and each received byte an addition."""
    fabric = load_fabric("shared-memory-4")
    terms = terms_ps(simulate_collective(fabric, "all-reduce", "ring", 64 * MIB, explain=True).record)
    assert terms["message overhead"] == 6 * 2 * fabric.costs.message_overhead_ps
    assert terms["reduction"] == 3 * round(16 * MIB * fabric.costs.reduction_ps_per_byte)


def test_what_terms_leave_open_is_a_term_and_rounding_is_none() -> None:
    record = simulate_collective(load_fabric("star-8"), "all-reduce", "ring", MIB, explain=True).record
    half = replace(record, terms={"wire": record.time_s / 2})
    whole_ps = round(record.time_s * PS_PER_S)
    assert terms_ps(half) == {"wire": whole_ps // 2, "rest": whole_ps - whole_ps // 2}
    thirds = replace(record, terms=dict.fromkeys(("a", "b", "c"), record.time_s / 3))
    assert tuple(terms_ps(thirds)) == ("a", "b", "c")
    assert sum(terms_ps(thirds).values()) == whole_ps


@pytest.mark.parametrize("how", [{"detail": "collective"}, {"detail": "folded"}, {"jobs": "2"}])
def test_what_has_no_single_transfers_cannot_be_explained(how: dict[str, str]) -> None:
    with pytest.raises(InputError, match="--explain follows single transfers"):
        simulate_collective(load_fabric("fat-tree-16"), "all-reduce", "ring", MIB, explain=True, **how)  # type: ignore[arg-type]
