# SPDX-License-Identifier: Apache-2.0
"""Fault scripts: what a file means, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from commbench.errors import TopologyError
from commbench.topology.fault_files import load_faults
from commbench.topology.faults import (
    Background,
    FaultScript,
    KilledRank,
    LinkFault,
    SlowRank,
    require_fits,
)
from tests.emulate.fabrics import leaf_spine, topology_of

GOOD = """
faults:
  - {kind: killed-rank, at: 5 s, rank: 2}
  - {kind: link, at: 2 s, src: leaf0, dst: spine0, direction: both, factor: 0.1}
  - {kind: link, at: 2500 ms, src: spine0, dst: leaf1, direction: forward, factor: 0}
  - {kind: slow-rank, at: 0 s, rank: 3, factor: 0.5}
  - {kind: background, at: 2 s, src: 0, dst: 3, size: 8M}
"""
SECOND = 10**12


def load(folder: Path, text: str) -> FaultScript:
    (folder / "faults.yaml").write_text(text, encoding="utf-8")
    return load_faults(folder / "faults.yaml")


def test_a_script_in_the_order_of_time(tmp_path: Path) -> None:
    """Both directions are two faults; faults of one time keep the order of the file."""
    assert load(tmp_path, GOOD).faults == (
        SlowRank(0, 3, 0.5),
        LinkFault(2 * SECOND, "leaf0", "spine0", 0.1),
        LinkFault(2 * SECOND, "spine0", "leaf0", 0.1),
        Background(2 * SECOND, 0, 3, 8 * 2**20),
        LinkFault(5 * SECOND // 2, "spine0", "leaf1", 0.0),
        KilledRank(5 * SECOND, 2),
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{kind: flood, at: 1 s}", "faults.0.kind: 'flood': must be one of"),
        ("{at: 1 s}", "faults.0.kind: missing"),
        ("{kind: killed-rank, at: 1 s}", "faults.0.rank: missing; every key must be given"),
        ("{kind: killed-rank, at: 1, rank: 1}", "faults.0.at: 1 is not a duration"),
        ("{kind: killed-rank, at: -1 s, rank: 1}", "faults.0.at: duration '-1 s' must not be negative"),
        ("{kind: killed-rank, at: 1 s, rank: -1}", "line 2: faults.0.rank: -1: must be at least 0"),
        (
            "{kind: killed-rank, at: 1 s, rank: 1, how: sadly}",
            "faults.0.how: unknown key; known keys here: kind, at, rank",
        ),
        ("{kind: slow-rank, at: 1 s, rank: 1, factor: 0}", "faults.0.factor: 0: must be above 0"),
        (
            "{kind: link, at: 1 s, src: a, dst: b, direction: both, factor: 1.5}",
            "faults.0.factor: 1.5: must be at most 1",
        ),
        ("{kind: link, at: 1 s, src: a, dst: b, direction: back, factor: 1}", "faults.0.direction: 'back'"),
        ("{kind: background, at: 1 s, src: 0, dst: 1, size: 0}", "faults.0.size: size 0 must be one byte or more"),
        ("{kind: killed-rank, at: 1 s, at: 2 s, rank: 1}", "line 2: key 'at' is given twice"),
    ],
)
def test_what_is_wrong_is_named(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TopologyError) as caught:
        load(tmp_path, f"faults:\n  - {entry}\n")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "faults.yaml"))


def test_files_that_are_none(tmp_path: Path) -> None:
    wrong = (("[1, 2]", "must be a mapping"), ("faults: {", "not YAML"), ("fault: []", "unknown key"))
    many = "faults:\n" + "  - {kind: killed-rank, at: 1 s, rank: 1}\n" * 1001
    for text, message in ((many, "line 1: faults: 1,001 entries: must be at most 1,000, the most of 'faults'"), *wrong):
        with pytest.raises(TopologyError, match=message):
            load(tmp_path, text)
    with pytest.raises(TopologyError, match="cannot be read"):
        load_faults(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (LinkFault(0, "leaf0", "leaf1", 1.0), "has no link leaf0 -> leaf1"),
        (KilledRank(0, 4), "has the ranks 0..3"),
        (SlowRank(0, 4, 0.5), "has the ranks 0..3"),
        (Background(0, 0, 4, 1), "has the ranks 0..3"),
    ],
)
def test_a_script_must_fit_the_topology(fault: LinkFault, message: str) -> None:
    topology = topology_of(leaf_spine(4))
    require_fits(FaultScript((LinkFault(0, "leaf0", "spine0", 1.0), KilledRank(0, 3)), "x.yaml"), topology)
    with pytest.raises(TopologyError, match=f"x.yaml: .*{message}"):
        require_fits(FaultScript((fault,), "x.yaml"), topology)
