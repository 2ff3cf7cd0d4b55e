# SPDX-License-Identifier: Apache-2.0
"""NCCL as a library of the simulator: the model's time where the fabric is in health, a longer one where it is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from commbench.cluster import make_cluster
from commbench.errors import InputError, RunError
from commbench.libraries.nccl import NcclLibrary, machine_of, predict
from commbench.lowering.scenario import Scenario
from commbench.program.flat import TRANSFER
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

K, M, G = 2**10, 2**20, 2**30


def simulated(name: str, size: int, kind: str = "all-reduce", **other: object):  # type: ignore[no-untyped-def]
    fabric = load_fabric(name)
    placement = str(other.get("placement", "linear"))
    cluster = make_cluster(fabric, num_ranks=other.pop("ranks", None), placement=placement)  # type: ignore[arg-type]
    library = NcclLibrary(machine=machine_of(cluster, version="2.21"))
    detail = str(other.pop("detail", "collective"))
    done = simulate_collective(
        fabric, kind, "ring", size, detail=detail, library=library, cluster=cluster, **other
    )  # type: ignore[arg-type]
    return done.record, library.machine


@pytest.mark.parametrize(
    "name", ["dgx-h100", "dgx-a100", "dgx-v100", "oam-mesh", "dgx-h100-x2", "dgx-h100-x4", "dgx-a100-x4"]
)
@pytest.mark.parametrize("kind", ["all-reduce", "all-gather"])
@pytest.mark.parametrize("size", [K, 256 * K, 16 * M, G])
def test_a_fabric_in_health_gives_what_the_model_says(name: str, kind: str, size: int) -> None:
    record, machine = simulated(name, size, kind)
    expected = predict(machine, kind, record.size_bytes)
    assert record.time_s == pytest.approx(expected.time_s, rel=0.01)
    assert (record.algorithm, record.protocol) == (expected.algorithm, expected.protocol)
    assert (record.library, record.library_version) == (machine.library, "2.21")
    assert sum(record.terms.values()) == pytest.approx(record.time_s)
    by_message = simulated(name, size, kind, detail="transfer")[0]
    assert by_message.transfers > 1
    assert by_message.time_s == pytest.approx(expected.time_s, rel=0.001)
    assert by_message.terms == record.terms


def test_an_oversubscribed_fabric_takes_longer(tmp_path: Path) -> None:
    text = Path("topologies/dgx-h100-x4.yaml").read_text()
    thin = text.replace("hosts_per_leaf: 4", "hosts_per_leaf: 2").replace("oversubscription: 1", "oversubscription: 4")
    file = tmp_path / "thin.yaml"
    file.write_text(thin.replace("name: dgx-h100-x4", "name: thin"))
    slow, machine = simulated(str(file), G)
    assert slow.time_s > 1.5 * predict(machine, "all-reduce", G).time_s
    assert slow.terms["contention"] > 0.3 * slow.time_s
    assert simulated(str(file), 8)[0].time_s == pytest.approx(predict(machine, "all-reduce", 8).time_s, rel=0.01)


def test_a_sick_link_takes_longer(tmp_path: Path) -> None:
    file = tmp_path / "sick.yaml"
    file.write_text("faults:\n  - {kind: link, src: h0/nic3, dst: leaf3, direction: both, at: 0 us, factor: 0.5}\n")
    whole = simulated("dgx-h100-x4", G)[0]
    sick = simulated("dgx-h100-x4", G, scenario=Scenario.load(str(file)))[0]
    assert sick.time_s == pytest.approx(2 * whole.time_s, rel=0.15)
    by_message = simulated("dgx-h100-x4", G, scenario=Scenario.load(str(file)), detail="transfer")[0]
    assert by_message.time_s == pytest.approx(sick.time_s, rel=0.1)


def scenario(tmp_path: Path, fault: str) -> Scenario:
    file = tmp_path / "scenario.yaml"
    file.write_text(f"faults:\n  - {{{fault}}}\n")
    return Scenario.load(str(file))


def test_single_messages_meet_what_goes_wrong(tmp_path: Path) -> None:
    """A slow rank is slow at what is no wire; jitter makes all wait for the largest message; a rank that was killed
    ends the run; a link that is down moves its messages to another NIC, which carries both."""
    whole = {size: simulated("dgx-h100-x4", size, detail="transfer")[0].time_s for size in (K, G)}

    def disturbed(size: int, what: Scenario) -> float:
        return float(simulated("dgx-h100-x4", size, detail="transfer", scenario=what)[0].time_s)

    slow = scenario(tmp_path, "kind: slow-rank, rank: 3, at: 0 us, factor: 0.5")
    assert disturbed(K, slow) > 1.5 * whole[K]
    assert disturbed(G, slow) < 1.2 * whole[G]
    assert disturbed(G, Scenario(jitter=0.2, seed=1)) > 1.05 * whole[G]
    down = scenario(tmp_path, "kind: link, src: h0/nic3, dst: leaf3, direction: both, at: 0 us, factor: 0")
    assert disturbed(G, down) == pytest.approx(2 * whole[G], rel=0.2)
    other = scenario(tmp_path, "kind: background, at: 0 us, src: 0, dst: 8, size: 8G")
    assert disturbed(G, other) > 1.2 * whole[G]
    with pytest.raises(RunError, match="rank 3 was killed"):
        disturbed(G, scenario(tmp_path, "kind: killed-rank, rank: 3, at: 1 us"))


def test_messages_begin_after_the_launch_and_are_no_faster_on_a_way_round(tmp_path: Path) -> None:
    fabric = load_fabric("dgx-h100-x2")
    cluster = make_cluster(fabric, ranks_per_host=1)
    library = NcclLibrary(machine=machine_of(cluster))

    def done(size: int, what: Scenario | None = None):  # type: ignore[no-untyped-def]
        return simulate_collective(
            fabric, "all-reduce", "ring", size, detail="transfer", library=library, cluster=cluster, scenario=what
        )

    first = min(done(K).trace.start_ps[done(K).program.kind == TRANSFER])
    assert first == pytest.approx(done(K).record.terms["launch"] * 1e12, abs=1)
    down = scenario(tmp_path, "kind: link, src: h0/nic0, dst: leaf0, direction: both, at: 0 us, factor: 0")
    assert done(G, down).record.time_s == pytest.approx(done(G).record.time_s, rel=1e-3)


def test_both_engines_keep_the_pace(tmp_path: Path) -> None:
    sick = scenario(tmp_path, "kind: link, src: h0/nic3, dst: leaf3, direction: both, at: 20 us, factor: 0.3")
    found = {
        engine: simulated("dgx-h100-x2", 4 * M, detail="transfer", scenario=sick, engine=engine)[0].time_s
        for engine in ("compiled", "reference")
    }
    assert found["compiled"] == found["reference"]


def test_two_jobs_on_one_fabric_take_longer_than_one(tmp_path: Path) -> None:
    text = Path("topologies/dgx-h100-x4.yaml").read_text()
    thin = text.replace("hosts_per_leaf: 4", "hosts_per_leaf: 2").replace("oversubscription: 1", "oversubscription: 2")
    thin = thin.replace("spines: 4", "spines: 1")
    file = tmp_path / "thin.yaml"
    file.write_text(thin.replace("name: dgx-h100-x4", "name: thin"))
    hosts = [",".join(str(8 * host + gpu) for gpu in range(8)) for host in range(4)]
    alone = simulated(str(file), G, jobs=f"{hosts[0]},{hosts[2]}")[0]
    both = simulated(str(file), G, jobs=f"{hosts[0]},{hosts[2]}/{hosts[1]},{hosts[3]}")[0]
    assert both.time_s > 1.2 * alone.time_s


def test_machines_are_read_from_topologies() -> None:
    def machine(name: str):  # type: ignore[no-untyped-def]
        return machine_of(make_cluster(load_fabric(name)))

    h100 = machine("dgx-h100-x4")
    assert (h100.gpu, h100.gpus_per_node, h100.nodes, h100.link) == ("h100-sxm5-80gb", 8, 4, "nvswitch")
    assert (h100.link_GBps, h100.nics, h100.nic_Gbps, h100.network) == (450, 8, 400, "ib")
    v100, mesh = machine("dgx-v100"), machine("oam-mesh")
    assert (v100.link, v100.link_GBps) == ("cube-mesh", 150)
    assert (mesh.link, mesh.link_GBps, mesh.library) == ("xgmi", 448, "rccl")
    assert machine("pcie-4090").link == "pcie"


def test_a_topology_without_gpus_is_refused() -> None:
    with pytest.raises(InputError, match="names no GPU: add `device`"):
        machine_of(make_cluster(load_fabric("fat-tree-16")))


def test_folded_detail_is_refused() -> None:
    fabric = load_fabric("dgx-h100")
    cluster = make_cluster(fabric)
    library = NcclLibrary(machine=machine_of(cluster))
    with pytest.raises(InputError, match="give --detail collective"):
        simulate_collective(fabric, "all-reduce", "ring", M, detail="folded", library=library, cluster=cluster)


def test_what_the_library_has_not_is_refused() -> None:
    with pytest.raises(InputError, match="has no barrier"):
        simulated("dgx-h100", 4, "barrier")


def test_collective_detail_has_no_jitter() -> None:
    with pytest.raises(InputError, match="it takes slower links alone; give --detail transfer"):
        simulated("dgx-h100", M, scenario=Scenario(jitter=0.1, seed=1))


def test_groups_of_part_of_a_host_are_machines_of_their_own() -> None:
    record, machine = simulated("dgx-h100", 64 * M, jobs="0,1/2,3")
    expected = predict(replace(machine, gpus_per_node=2), "all-reduce", 64 * M)
    assert record.time_s == pytest.approx(expected.time_s, rel=0.01)


@pytest.mark.parametrize("kind", ["broadcast", "reduce"])
def test_a_thousand_ranks_are_served_from_a_root(kind: str) -> None:
    record, machine = simulated("dgx-h100-x128", G, kind)
    assert record.time_s == pytest.approx(predict(machine, kind, G).time_s, rel=0.01)


@pytest.mark.parametrize(
    ("name", "ranks", "line"), [("mi300x", 2, 64), ("mi300x", 4, 192), ("gh200-quad", 2, 150), ("dgx-h100", 2, 450)]
)
def test_links_to_gpus_that_take_no_part_do_not_count(name: str, ranks: int, line: float) -> None:
    record, machine = simulated(name, G, ranks=ranks)
    assert machine.link_GBps == pytest.approx(line)
    assert record.busbw_GBps < line


def test_groups_have_the_links_among_them_alone() -> None:
    groups, _ = simulated("mi300x", G, jobs="0,1,2,3/4,5,6,7")
    assert groups.busbw_GBps < 3 * 64
    assert groups.time_s == pytest.approx(simulated("mi300x", G, ranks=4)[0].time_s, rel=0.01)


@pytest.mark.parametrize("kind", ["all-reduce", "all-gather", "broadcast"])
def test_rings_go_host_by_host_wherever_ranks_are_placed(kind: str) -> None:
    linear = simulated("dgx-h100-x16", G, kind)[0]
    assert simulated("dgx-h100-x16", G, kind, placement="random")[0].time_s == pytest.approx(linear.time_s, rel=0.01)


def test_all_to_all_v_is_sized_as_one_rank_sends() -> None:
    even, uneven = (simulated("dgx-h100", G, kind)[0] for kind in ("all-to-all", "all-to-all-v"))
    assert uneven.size_bytes == even.size_bytes
    assert uneven.time_s == pytest.approx(even.time_s, rel=0.01)
