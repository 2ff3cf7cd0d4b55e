# SPDX-License-Identifier: Apache-2.0
"""How many cores the ranks of a host have together, and when they have too few."""

from dataclasses import replace

import pytest

from commbench.live.console import session_notes
from commbench.live.hosts import HostCores, host_facts, own_cores
from commbench.live.observe import SessionFacts


def place(host: str, *cores: int, quota: tuple[str, float] | None = None) -> HostCores:
    return HostCores(host, frozenset(cores), quota)


@pytest.mark.parametrize(
    ("places", "notes"),
    [
        ([place("a", 0), place("a", 1)], []),  # mpirun and srun bind each rank to a core of its own
        ([place("a", 0, 1), place("a", 0, 1)], []),
        ([place("a", 0), place("a", 0)], ["2 ranks on 1 cores"]),
        ([place("a", 0), place("b", 0)], []),
        ([place("a", 0, 1), place("a", 0, 1), place("b", 3), place("b", 3)], ["2 ranks on 1 cores of b"]),
        ([place("a", 0, quota=("/job", 0.5)), place("a", 1, quota=("/job", 0.5))], ["2 ranks on 0.5 cores"]),
        ([place("a", 0, quota=("/x", 1.0)), place("a", 1, quota=("/y", 1.0))], []),  # a container for each
        ([place("a", 0, quota=("/x", 0.1)), place("a", 1)], []),
    ],
)
def test_the_cores_of_all_ranks_of_a_host_count(places: list[HostCores], notes: list[str]) -> None:
    said = session_notes(SessionFacts("gloo", "openmpi", len(places), host_facts(places)))
    assert [note.partition(":")[0] for note in said] == notes


def test_the_record_has_the_cores_of_the_first_ranks_host() -> None:
    facts = host_facts([place("a", 0), place("b", 5, 6, 7), place("a", 1)])
    assert facts == {
        "hosts": ["a", "b", "a"],
        "machines": [0, 0, 0],  # nobody has said
        "cores_by_host": {"a": 2, "b": 3},
        "cores_usable": 2,
        "cpu_quota": None,
    }


def test_a_machine_is_its_kernel_and_not_its_name() -> None:
    """Containers of one machine have names of their own, and those of two may have the same."""
    one, two = (replace(place("a", 0), machine=boot) for boot in ("boot 1", "boot 2"))
    other_name = replace(place("b", 0), machine="boot 1")
    assert host_facts([one, two, other_name])["machines"] == [0, 1, 0]
    assert own_cores().machine == own_cores().machine != ""
