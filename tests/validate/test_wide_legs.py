# SPDX-License-Identifier: Apache-2.0
"""The wide part of the campaign: what it covers, what its records tell, and predictions that know what was wrong.

``wide_runs.jsonl`` beside this file are records of it, as a lab gave them.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commbench.cluster import make_cluster
from commbench.door import Result, simulate
from commbench.errors import InputError, RunError
from commbench.experiments.validation import Part, measure_in_fabrics
from commbench.libraries.gloo import GLOO_TCP
from commbench.libraries.ideal import Ideal
from commbench.program.operations import Collective, ProgramBuilder
from commbench.results.journal import Journal, read_records
from commbench.results.records import Measured
from commbench.topology.faults import LinkFault
from commbench.validate import lab_runs
from commbench.validate.lab_background import outlasting, with_flows
from commbench.validate.lab_judge import is_fit, judge_labs
from commbench.validate.lab_packets import predict_packets
from commbench.validate.lab_predict import LabRoutes, predict
from commbench.validate.lab_runs import lab_plan_of, leg_of, schedule_of
from commbench.validate.legs import (
    CAMPAIGN,
    FIT_LEGS,
    FIT_SIZES,
    NATIVE,
    STAR,
    EmulatedFabric,
    Leg,
    by_fabric,
    fabric_of,
    told_of,
)
from commbench.validate.wide_legs import WIDE, degraded_link
from tests.validate.remembered import remembering
from tests.validate.test_lab_predict import measured

FLUID = replace(GLOO_TCP, latency_ps=1_000_000, overhead_ps=8_900_000)
PACKETS = replace(GLOO_TCP, latency_ps=1_427_046, overhead_ps=2_512_510)
"""As fitted on the campaign (docs/emulated-validation.md)."""

CLOSE = 0.03
JOBS = "three-tier-uneven-13 10 all-reduce ring on 0,2,4,6,8,10/1,3,5,7,9,11"
BESIDE = "leaf-spine-16-4to1 background 0:4 background 13:9"
FAR = {BESIDE: (0.12, CLOSE), JOBS: (0.08, 0.08)}
"""Of records whose legs begin so, where the fluid model or packets are farther off: whose turn it is decides there. One
iteration alone of two jobs would be 11 % off by packets, and one beside flows 10 %."""


@cache
def kept() -> tuple[Measured, ...]:
    return tuple(r for r in read_records(Path(__file__).with_name("wide_runs.jsonl")) if isinstance(r, Measured))


def lab_of(record: Measured) -> EmulatedFabric:
    return fabric_of(record.environment["emulated"])


def in_lab(record: Measured, **told: Any) -> Measured:
    emulated = record.environment["emulated"] | told
    return replace(record, environment={**record.environment, "emulated": emulated})


def test_the_wide_part_covers_what_it_promises() -> None:
    assert len({leg.name for leg in (*CAMPAIGN, *WIDE)}) == len(CAMPAIGN) + len(WIDE)
    assert 60 <= sum(len(leg.sizes_bytes) * len(leg.jobs) for leg in WIDE) <= 100
    assert {3, 5, 6, 7, 9, 11, 13} <= {len(job) for leg in WIDE for job in leg.jobs}
    assert {size for leg in WIDE for size in leg.sizes_bytes} == {48 * 1024, 200 * 1024}
    fabrics = by_fabric(WIDE)
    assert {fabric.wrong for fabric in fabrics} == {
        "nothing", "degraded links", "background flows", "both"
    }  # fmt: skip
    assert {fabric.topology for fabric in fabrics} >= {"three-tier-uneven-13", "two-rail-8"}
    assert all(10 <= fabric.rate_mbit <= 25 for fabric in fabrics)


@pytest.mark.parametrize("fabric", by_fabric(WIDE), ids=lambda fabric: fabric.label)
def test_every_lab_of_it_can_be_laid_out(fabric: EmulatedFabric) -> None:
    """At its rates, with a plane for each flow; and every leg's hosts are there, and its schedule."""
    plan = lab_plan_of(fabric)
    healthy = lab_plan_of(replace(fabric, degraded=(), background=()))
    slow = {(fault.src, fault.dst): fault.factor for fault in fabric.degraded}
    for port, before in zip(plan.ports, healthy.ports, strict=True):
        assert port.rate == pytest.approx(before.rate * slow.get((port.node, port.peer), 1.0))
    assert plan.planes == 1 + len(fabric.background)
    for leg in by_fabric(WIDE)[fabric]:
        assert max(host for job in leg.jobs for host in job) < plan.topology.num_ranks
        schedule_of(leg.collective, leg.algorithm, len(leg.jobs[0]), leg.sizes_bytes[0], channels=leg.channels)


def test_a_part_is_measured_with_the_fit_and_all_on_record_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another part has put there too."""
    out, measuring = tmp_path / "runs.jsonl", set[str]()
    Journal(out).append(measured(5, 2**16))

    def fake(fabric: object, legs: list[Leg], done: object, out: Path, tell: object) -> None:
        measuring.update(leg.name for leg in legs)
        Journal(out).append(measured(0, legs[0].sizes_bytes[0], legs))

    monkeypatch.setattr(lab_runs, "_measure_fabric", fake)
    monkeypatch.setattr("commbench.emulate.privilege.gain", lambda: None)
    monkeypatch.setattr("commbench.live.ending.end_in_order", lambda: None)
    found = measure_in_fabrics(Part.WIDE, out, print)
    assert measuring == {leg.name for leg in (*FIT_LEGS, *WIDE)}
    assert [leg_of(record) for record in found] == [CAMPAIGN[5].name, *(legs[0].name for legs in _labs())]


def _labs() -> Iterable[list[Leg]]:
    return by_fabric((*FIT_LEGS, *WIDE)).values()


@pytest.mark.parametrize("fabric", by_fabric((*CAMPAIGN, *WIDE)), ids=lambda fabric: fabric.label)
def test_a_record_tells_its_lab(fabric: EmulatedFabric) -> None:
    lab = {"topology": fabric.topology, "routing": fabric.routing, "rate_mbit": fabric.rate_mbit}
    assert fabric_of(lab | {"shaping": {"fair": fabric.fair}} | told_of(fabric)) == fabric


def test_a_lab_is_called_by_what_is_wrong_in_it() -> None:
    one_way = replace(STAR, degraded=(LinkFault(0, "leaf0", "h1/nic0", 0.25),), background=((0, 3), (2, 1)))
    assert one_way.label == "star-8 leaf0->h1/nic0 at 25% background 0:3 background 2:1"
    assert replace(STAR, degraded=degraded_link("h1/nic0", "leaf0", 0.5)).label == "star-8 h1/nic0-leaf0 at 50%"


@pytest.mark.parametrize(
    "wrong", [{"fault": "SlowRank", "at_ps": 0, "rank": 1, "factor": 0.5}, {"at_ps": 7}, {"factor": 0.0}]
)
def test_faults_that_no_campaign_has_are_refused(wrong: dict[str, object]) -> None:
    fault = {"fault": "LinkFault", "at_ps": 0, "src": "h1/nic0", "dst": "leaf0", "factor": 0.5} | wrong
    with pytest.raises(InputError, match=r"emulated\.faults: .*have a part of their rate .* from the start"):
        fabric_of({"topology": "star-8", "routing": "d-mod-k", "rate_mbit": 10, "faults": [fault]})


def test_the_fit_sees_healthy_stars_alone() -> None:
    leg = Leg(STAR, "all-reduce", NATIVE, ((0, 1, 2, 3),), sizes_bytes=FIT_SIZES)
    record = measured(0, FIT_SIZES[0], [leg])
    assert is_fit(record)
    assert not is_fit(in_lab(record, background=[[0, 3]]))
    assert not is_fit(in_lab(record, **told_of(replace(STAR, degraded=degraded_link("h1/nic0", "leaf0", 0.5)))))


@pytest.mark.parametrize("record", kept(), ids=leg_of)
def test_both_simulators_know_what_was_wrong(record: Measured) -> None:
    known = [limits for leg, limits in FAR.items() if leg_of(record).startswith(leg)]
    fluid, packets = known[0] if known else (CLOSE, CLOSE)
    assert predict(record, FLUID).time_s == pytest.approx(record.time_s, rel=fluid)
    assert predict_packets(record, PACKETS).time_s == pytest.approx(record.time_s, rel=packets)


@pytest.mark.parametrize("record", [r for r in kept() if lab_of(r).wrong != "nothing"], ids=leg_of)
def test_without_what_was_wrong_times_would_be_far_off(record: Measured) -> None:
    """So that the test above fails where a prediction forgets it; each of two kinds matters."""
    for told in told_of(lab_of(record)):
        if record.environment["emulated"][told]:
            forgot = in_lab(record, **{told: []})
            assert predict(forgot, FLUID).time_s < 0.9 * record.time_s
            assert predict_packets(forgot, PACKETS).time_s < 0.9 * record.time_s


def test_a_flow_on_the_link_of_a_rank_halves_it_in_the_fluid_model() -> None:
    """A ring on a star, of large messages: each step waits for the link that a flow shares."""
    leg = Leg(replace(STAR, background=((1, 5),)), "all-reduce", "ring", ((0, 1, 2, 3),))
    beside = in_lab(measured(0, 2**22, [leg]), **told_of(leg.fabric))
    alone = in_lab(beside, background=[])
    assert predict(beside, GLOO_TCP).time_s == pytest.approx(2 * predict(alone, GLOO_TCP).time_s, rel=0.02)
    assert predict(beside, GLOO_TCP).contended
    assert not predict(alone, GLOO_TCP).contended


def test_flows_last_a_little_longer_than_what_they_are_beside() -> None:
    """However large the messages are at first."""
    topology = lab_plan_of(STAR).topology
    cluster = replace(make_cluster(topology), router=LabRoutes(topology, "d-mod-k", {}))
    placed = np.array([0, 1, 2, 3, 0, 5, 1, 6])
    for first_bytes in (1, 10**9):

        def simulated(sizes: list[int]) -> Result:
            build = ProgramBuilder(8)
            build.communicate(Collective("all-reduce", np.arange(4)[None, :], 2**18, 4))
            return simulate(
                with_flows(build, sizes), replace(cluster, placed=placed), Ideal(algorithms={"all-reduce": "ring"})
            )

        ends = outlasting(simulated, 2, first_bytes).ends_ps()
        assert len(ends) == 3
        assert all(ends[0] <= end <= 1.3 * ends[0] for end in ends[1:])


def test_flows_that_never_last_are_an_error() -> None:
    class Short:
        def ends_ps(self) -> np.ndarray:
            return np.array([100, 10])

    with pytest.raises(RunError, match="do not last as long as what is measured"):
        outlasting(lambda sizes: Short(), 1, 1)  # type: ignore[arg-type, return-value]


def test_the_verdict_has_a_group_for_what_was_wrong() -> None:
    healthy = Leg(STAR, "all-reduce", NATIVE, ((0, 1, 2, 3),), sizes_bytes=FIT_SIZES)
    fit = [measured(0, size, [healthy]) for size in FIT_SIZES]
    with remembering():
        found = judge_labs([*fit, *kept()])
    assert found.packets is not None
    counts = {kind: group["points"] for kind, group in found.packets.summaries[True].groups["wrong"].items()}
    assert counts == {
        "nothing": 3, "background flows": 3, "degraded links": 3, "both": 1
    }  # fmt: skip
    labels = {point.compared.topology for point in found.points}
    assert "star-8 h2/nic0-leaf0 at 50%" in labels
