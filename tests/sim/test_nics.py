# SPDX-License-Identifier: Apache-2.0
"""A collective that leaves NICs of a host idle says so, and which option uses them; only where that is true."""

import pytest

from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

MODEL = "; --library nccl (on AMD rccl) chooses as the library does"
USES_ALL = "1 of the 8 NICs of a host used; --channels 8 uses 8" + MODEL


@pytest.mark.parametrize(
    ("fabric", "algorithm", "options", "hint"),
    [
        ("dgx-h100-x2", "ring", {}, USES_ALL),
        ("dgx-h100-x2", "ring", {"channels": 2}, "2 of the 8 NICs of a host used; --channels 8 uses 8" + MODEL),
        ("dgx-h100-x2", "ring", {"channels": 8}, ""),
        ("dgx-h100-x2", "halving-doubling", {}, ""),  # every GPU sends to its twin
        ("dgx-h100-x2", "ring", {"num_ranks": 8}, ""),  # one host: none is used
        ("dgx-h100-x2", "ring", {"detail": "collective"}, USES_ALL),
        ("dgx-h100", "ring", {}, ""),
        ("star-8", "ring", {}, ""),
        ("two-rail-8", "ring", {}, "1 of the 2 NICs of a host used; --channels 2 uses 2"),
        ("two-rail-8", "ring", {"channels": 2}, ""),
    ],
)
def test_nics_that_more_channels_would_use(fabric: str, algorithm: str, options: dict[str, object], hint: str) -> None:
    done = simulate_collective(load_fabric(fabric), "all-reduce", algorithm, 2**20, hints=True, **options)  # type: ignore[arg-type]
    assert done.hint == hint


def test_no_hint_unless_asked_for() -> None:
    assert simulate_collective(load_fabric("dgx-h100-x2"), "all-reduce", "ring", 2**20).hint == ""
