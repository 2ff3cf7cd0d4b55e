# SPDX-License-Identifier: Apache-2.0
"""A lab of the campaign with a background flow and a degraded link: what it measures, and what a record is worth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commbench.emulate.testbed import Testbed
from commbench.errors import RunError
from commbench.libraries.gloo import GLOO_TCP
from commbench.topology.load import find_topology
from commbench.validate.lab_packets import predict_packets
from commbench.validate.lab_predict import predict
from commbench.validate.lab_runs import measure_in_labs
from commbench.validate.legs import NATIVE, STAR, Leg, fabric_of, legs_on
from commbench.validate.wide_legs import degraded_link
from tests.emulate.fabrics import leftovers, namespaces

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")

FLUID = replace(GLOO_TCP, latency_ps=1_000_000, overhead_ps=8_900_000)
PACKETS = replace(GLOO_TCP, latency_ps=1_427_046, overhead_ps=2_512_510)
LAB = replace(STAR, rate_mbit=10, degraded=degraded_link("h2/nic0", "leaf0", 0.4), background=((0, 3),))
SIZE = 200 * 1024
AGREE = 0.06
"""Of the time. One that knew nothing of the flow or of the link would be off by half of it."""


def leg(*hosts: int) -> Leg:
    return Leg(LAB, "all-reduce", NATIVE, (hosts,), sizes_bytes=(SIZE,))


@pytest.mark.measured
def test_both_simulators_predict_a_lab_in_which_something_is_wrong(tmp_path: Path) -> None:
    """Three ranks beside the flow, and three others one of which has the slow link."""
    before = namespaces()
    records = measure_in_labs([leg(0, 1, 4), leg(1, 2, 4)], tmp_path / "runs.jsonl", tell=print)
    assert leftovers(tmp_path, before) == []
    for record in records[:2]:
        assert fabric_of(record.environment["emulated"]) == LAB
        assert predict(record, FLUID).time_s == pytest.approx(record.time_s, rel=AGREE)
        assert predict_packets(record, PACKETS).time_s == pytest.approx(record.time_s, rel=AGREE)


@pytest.mark.measured
def test_a_topology_of_ones_own_is_measured_and_predicted(tmp_path: Path) -> None:
    """A star of three, from a file: both simulators read it again where the record says it lies."""
    file = tmp_path / "mine.yaml"
    text = find_topology("star-8").read_text(encoding="utf-8")
    file.write_text(text.replace("name: star-8", "name: mine").replace("hosts: 8", "hosts: 3"), encoding="utf-8")
    legs = legs_on(str(file), 3)
    assert {leg.jobs for leg in legs} == {((0, 1, 2),)}
    assert {leg.collective for leg in legs} == {"all-reduce", "all-gather", "broadcast", "all-to-all"}
    chosen = [replace(leg, sizes_bytes=(SIZE,)) for leg in legs if leg.algorithm in ("ring", NATIVE)][:2]
    for record in measure_in_labs(chosen, tmp_path / "runs.jsonl", tell=print):
        assert record.environment["emulated"]["topology"] == str(file)
        assert predict(record, FLUID).time_s == pytest.approx(record.time_s, rel=AGREE)
        assert predict_packets(record, PACKETS).time_s == pytest.approx(record.time_s, rel=AGREE)


def test_a_point_whose_flow_has_ended_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, start = namespaces(), Testbed.start_flow

    def killed(*given: Any, **options: Any) -> Any:
        flow = start(*given, **options)
        flow.kill()
        return flow

    monkeypatch.setattr(Testbed, "start_flow", killed)
    with pytest.raises(RunError, match="background flow 0:3 was killed by signal 9"):
        measure_in_labs([leg(0, 1)], tmp_path / "runs.jsonl", tell=print)
    assert not (tmp_path / "runs.jsonl").exists()
    assert leftovers(tmp_path, before) == []
