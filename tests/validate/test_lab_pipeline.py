# SPDX-License-Identifier: Apache-2.0
"""A pipeline's twin on the links of a made-up lab, exactly: bytes, both directions, sharing, one connection."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from commbench.cluster import Cluster
from commbench.emulate.plan import TestbedPlan
from commbench.emulate.testbed import Testbed
from commbench.libraries.gloo import GLOO_TCP, GlooLibrary
from commbench.network.transport import Connections, Transport
from commbench.units import PS_PER_S
from commbench.validate.lab_pipeline import PipelineNetwork, facts_of, pipeline_network
from commbench.validate.lab_predict import LabRoutes
from commbench.validate.pipeline import FREE, compare_pipeline, simulate_pipeline, twin
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import PipelineSchedule
from commbench.workload.pipeline.text import from_csv
from tests.emulate.fabrics import leaf_spine, plan_of
from tests.validate.made_up import measured, unit_times

STAR = {"kind": "star", "hosts": 4}
BYTES = 12_500  # 5 ms on the links of these labs, which have 20 Mbit/s
US, MS = 10**6, 10**9  # picoseconds
BARE = Transport(
    name="bare", segment_bytes=1000, packet_bytes=0, segments_per_ack=2, message_bytes=0, notice_bytes=0,
    buffer_bytes=10**9,
)  # fmt: skip


def over(plan: TestbedPlan, hosts: Sequence[int], transport: Transport = BARE, burst_bytes: int = 0) -> PipelineNetwork:
    routes = LabRoutes(plan.topology, "d-mod-k", {})
    library = GlooLibrary(connections=Connections(transport, burst_bytes=burst_bytes))
    cluster = Cluster(fabric=routes.fabric, router=routes, placed=np.array(hosts, dtype=np.int64))
    return PipelineNetwork(cluster, library, {})


def run(schedule: PipelineSchedule, network: PipelineNetwork) -> list[dict[str, int]]:
    """Begin of every pass of every rank in picoseconds, by names like "1F0". F takes 10 ms and B 20."""
    spans = simulate_pipeline(schedule, unit_times, network, BYTES)
    return [{f"{s}{kind}{k}": round(begin * PS_PER_S) for s, kind, k, begin, _ in rank} for rank in spans]


def test_a_message_takes_its_bytes_and_a_latency_at_either_end() -> None:
    """10 ms of F, in which the receiver's notice comes, 5 for 12.5 kB at 2.5 MB/s, 0.1 until the receiver goes on."""
    transport = replace(BARE, latency_ps=MS // 10)
    found = run(build_pipeline("gpipe", 2, 1), over(plan_of(STAR), (0, 1), transport))
    assert found == [{"0F0": 0, "0B0": 50_200 * US}, {"1F0": 15_100 * US, "1B0": 25_100 * US}]


def test_headers_and_the_bucket_of_an_idle_link_count() -> None:
    """12,548 bytes with gloo's header, in 9 packets; a notice of 114, with which the last packet is taken to have 1144.
    What a bucket saved in the 10 ms and the last packet need not be waited for. Back go 4.3 acknowledgements of 66 and
    a notice, which in the whole step take their part of the links that data of the other direction uses."""
    transport = replace(GLOO_TCP, post_ps=0)
    found = run(build_pipeline("gpipe", 2, 1), over(plan_of(STAR), (0, 1), transport, burst_bytes=3028))
    wire, back = 12_548 + 9 * 66 + 114, 114 + 12_548 / 1448 / 2 * 66
    assert found[1]["1F0"] == pytest.approx(10 * MS + (wire - 3028 - 1144) / (2.5e6 * wire / (wire + back)) * PS_PER_S)


def test_a_rank_does_not_wait_for_what_it_sends_and_messages_queue_up() -> None:
    """F every 10 ms, messages of 50: they leave one behind the other."""
    found = run(build_pipeline("gpipe", 2, 3), over(plan_of(STAR, host="2 Mbit/s"), (0, 1)))
    assert [found[0][f"0F{k}"] for k in range(3)] == [0, 10 * MS, 20 * MS]
    assert [found[1][f"1F{k}"] for k in range(3)] == [60 * MS, 110 * MS, 160 * MS]


def test_both_directions_of_a_link_have_its_full_rate() -> None:
    """1F1B on 2 ranks, 50 ms for a message: 0F0 0-10 over 60, 0F1 10-20 over 110, 1F0 60-70, 1B0 70-90 over 140, so
    from 90 to 110 both ways; 1F1 110-120, 1B1 120-140 over 190."""
    found = run(build_pipeline("1f1b", 2, 2), over(plan_of(STAR, host="2 Mbit/s"), (0, 1)))
    assert found == [
        {"0F0": 0, "0F1": 10 * MS, "0B0": 140 * MS, "0B1": 190 * MS},
        {"1F0": 60 * MS, "1B0": 70 * MS, "1F1": 110 * MS, "1B1": 120 * MS},
    ]


def test_transfers_that_share_a_link_share_its_rate() -> None:
    """Stages 0 and 2 under one leaf, 1 and 3 under the other, a trunk of a host's rate between. Outputs of 0F3 and 2F0
    leave at 40 ms: each gets half of the trunk and is there at 50; under one switch at 45."""
    schedule = build_pipeline("gpipe", 4, 4)
    shared = run(schedule, over(plan_of(leaf_spine(4, oversubscription=2.0)), (0, 2, 1, 3)))
    alone = run(schedule, over(plan_of(STAR), (0, 1, 2, 3)))
    assert (shared[0]["0F3"], shared[2]["2F0"]) == (alone[0]["0F3"], alone[2]["2F0"]) == (30 * MS, 30 * MS)
    assert (shared[1]["1F3"], shared[3]["3F0"]) == (50 * MS, 50 * MS)
    assert (alone[1]["1F3"], alone[3]["3F0"]) == (45 * MS, 45 * MS)


def test_all_that_a_rank_sends_to_another_goes_over_one_connection() -> None:
    """Stages 0 and 3 on rank 0, 1 and 2 on rank 1, 50 ms for a message: 0F0 0-10 over 60, 1F0 and 2F0 60-80 over 130,
    3F0 130-140, 3B0 140-160 over 210, 0F1 160-170: its output waits until 210, then is there at 260."""
    rows = "0F0,3F0,3B0,0F1,3F1,3B1,0B0,0B1\n1F0,2F0,2B0,1F1,2F1,1B0,2B1,1B1\n"
    found = run(from_csv(rows, "vee"), over(plan_of(STAR, host="2 Mbit/s"), (0, 1)))
    assert (found[0]["3B0"], found[0]["0F1"]) == (140 * MS, 160 * MS)
    assert (found[1]["2B0"], found[1]["1F1"]) == (210 * MS, 260 * MS)


def test_a_lab_charges_a_message_at_its_sender_and_at_its_receiver() -> None:
    """10 ms of F, 1 ms to send, 1 ms to receive. Of 12,500 bytes the bucket has saved 3,028 (two packets of 1,514), and
    the last 500 go on credit: 8,972 at 2.5 MB/s are 3.5888 ms."""
    plan, schedule = plan_of(STAR), build_pipeline("gpipe", 2, 1)
    record = replace(
        measured(schedule, simulate_pipeline(schedule, unit_times, FREE)),
        environment={"cores_usable": 2, "emulated": facts_of(Testbed(plan), (0, 1), None)},
    )
    for overhead_ps, received in ((0, 13_588_800_000), (MS, 15_588_800_000)):
        network = pipeline_network(record, replace(BARE, overhead_ps=overhead_ps), plan.topology)
        assert run(schedule, network)[1]["1F0"] == received


def test_a_measured_pipeline_is_compared_on_its_lab() -> None:
    """What a made-up lab would give is predicted exactly; with another rate it is not, and the bar says so."""
    plan, schedule = plan_of(STAR), build_pipeline("1f1b", 4, 8)
    transport = replace(GLOO_TCP, latency_ps=10**8, overhead_ps=10**7)
    facts = facts_of(Testbed(plan), (0, 1, 2, 3), None)
    record = replace(
        measured(schedule, simulate_pipeline(schedule, unit_times, FREE)),
        activation_bytes=BYTES,
        environment={"cores_usable": 2, "emulated": facts},
    )
    network = pipeline_network(record, transport, plan.topology)
    record = replace(record, spans=(simulate_pipeline(schedule, unit_times, network, BYTES),))
    compared = compare_pipeline(record, network, max_error=0.05)
    assert compared.error == pytest.approx(0, abs=1e-9)
    assert compared.ok
    assert compared.fabric == "small-star d-mod-k at 20 Mbit/s"
    assert compared.idle_s["transfer"] > 0.02
    assert compared.idle_s["host"] == pytest.approx(0, abs=1e-9)
    told = twin(record, network).network
    assert (told["kind"], told["latency_s"], told["overhead_s"]) == ("lab", 1e-4, 1e-5)
    slower = pipeline_network(record, transport, plan_of(STAR, host="5 Mbit/s").topology)
    late = compare_pipeline(record, slower, max_points=100, max_error=0.05)
    assert late.error > 0.05
    assert late.points_ok
    assert not late.time_ok
    assert not late.ok
    assert compare_pipeline(record, slower, max_points=100).ok  # where only bubbles are judged
