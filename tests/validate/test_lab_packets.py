# SPDX-License-Identifier: Apache-2.0
"""Points of labs by packets: what is kept of the campaign comes out again, and where the records tell too little."""

from dataclasses import replace
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.libraries.gloo import GLOO_TCP
from commbench.results.journal import read_records
from commbench.results.records import Compared, Measured
from commbench.validate.lab_judge import require_lab
from commbench.validate.lab_packets import is_fair, predict_packets, tcp_of
from commbench.validate.lab_runs import leg_of

KEPT = Path(__file__).parents[2] / "reports/emulated"
FITTED = replace(GLOO_TCP, latency_ps=1_000_000, overhead_ps=100_000)
"""As fitted on the kept records, rounded as the page tells them."""
LEGS = (
    "star-8 50 all-reduce native on 0,1",
    "star-8 50 all-reduce double-binary-tree",
    "star-8 25 all-to-all native",
    "two-rail-8 25 all-reduce ring",
    "leaf-spine-16-4to1 40 all-reduce ring on 0,1,4,5/2,3,6,7",
    "fat-tree-16 ecmp 10 all-to-all pairwise",
    "star-8 one queue 10 broadcast native",
)


def kept() -> list[Measured]:
    """The smallest size of each of these legs."""
    records = [r for r in read_records(KEPT / "runs.jsonl") if isinstance(r, Measured)]
    found = []
    for leg in LEGS:
        mine = [r for r in records if leg_of(r).startswith(leg)]
        found.append(min(mine, key=lambda r: r.size_bytes))
    return found


def test_kept_records_are_predicted_again_as_their_page_says() -> None:
    said = {(r.run, r.size_bytes): r for r in read_records(KEPT / "validation.jsonl") if isinstance(r, Compared)}
    for record in kept():
        expected = said[record.run, record.size_bytes]
        found = predict_packets(record, FITTED)
        assert expected.packets_s == pytest.approx(found.time_s, rel=1e-3), leg_of(record)
        assert (found.drops, found.repeated) == (0, 0)
        assert expected.packets_error is not None
        assert expected.derived()["packets_error"] == pytest.approx(found.time_s / record.time_s - 1, abs=1e-3)


def test_the_network_is_shaped_as_the_record_tells() -> None:
    fair, one = kept()[0], kept()[-1]
    assert (is_fair(fair), is_fair(one)) == (True, False)
    given = tcp_of(fair.environment["emulated"], GLOO_TCP)
    assert given.text == "packet:tcp,congestion=reno,header=66,window=131072,fair=on,burst=3028,restart=off"
    assert not tcp_of(one.environment["emulated"], GLOO_TCP).fair


def test_a_record_that_does_not_tell_its_queues_is_refused() -> None:
    record = kept()[0]
    lab = record.environment["emulated"]
    shaping = {key: value for key, value in lab["shaping"].items() if key != "fair"}
    poor = replace(record, environment={**record.environment, "emulated": {**lab, "shaping": shaping}})
    with pytest.raises(InputError, match=r"does not tell emulated\.shaping\.fair"):
        require_lab(poor)
