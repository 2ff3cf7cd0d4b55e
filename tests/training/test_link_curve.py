# SPDX-License-Identifier: Apache-2.0
"""Who says how long the collectives of a step take: the constants of links in steps, NCCL's model, or the wire."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from commbench.cluster import make_cluster
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_library import ideal_of_steps, library_of_step
from commbench.libraries.base import Layout, Wanted
from commbench.libraries.nccl.library import NcclLibrary, machine_of
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.training.link_curve import LinkCurve, hosts_of, kinds_of
from commbench.training.nccl_in_step import NcclHosts, NcclInStep
from commbench.training.simulate import StepSimulation
from commbench.workload.step_costs import read_step_costs
from tests.training.plans import plan, simulate

MIB = 2**20
TOPOLOGIES = Path(__file__).parents[2] / "topologies"


def curve(topology: str) -> LinkCurve:
    return LinkCurve(ideal=ideal_of_steps(), hosts=hosts_of(load_fabric(topology), read_step_costs()))


def fabric_with(folder: Path, host: str, nics: int) -> Fabric:
    """Four hosts like this one on InfiniBand, with so many NICs."""
    document = yaml.safe_load((TOPOLOGIES / f"{host}-x4.yaml").read_text(encoding="utf-8"))
    document["host"] = yaml.safe_load((TOPOLOGIES / f"{host}.yaml").read_text(encoding="utf-8"))["host"]
    document["host"]["nics"] = nics
    path = folder / f"{host}-{nics}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_fabric(path)


def slowest_s(found: StepSimulation, kind: str) -> float:
    """Of the communications of a kind that stand alone."""
    program, trace = found.step.program, found.ran.trace
    which = [i for i in range(program.num_operations) if program.purposes[program.purpose[i]] == kind]
    return max(float(trace.end_ps[i] - trace.start_ps[i]) for i in which) / 1e12


def test_links_in_steps_take_latency_and_the_share_of_their_rate() -> None:
    """64 MiB over 8 GPUs of a host (450 GB/s), and over one GPU of each of 4 hosts (50 GB/s), by hand."""
    costs = read_step_costs()
    inside, between = costs.links("nvlink4"), costs.links("infiniband")
    found = curve("dgx-h100-x4")
    all_reduce = Wanted("all-reduce", 64 * MIB, 1)
    for layout, links, rate, ranks in (
        (Layout((0,) * 8), inside, 450e9, 8), (Layout((0, 1, 2, 3)), between, 50e9, 4)
    ):  # fmt: skip
        timing = found.choose(all_reduce, layout).timing
        assert timing is not None
        moved = 64 * MIB * 2 * (ranks - 1) / ranks
        by_hand = links.latency_s * (ranks - 1).bit_length() + (moved + links.half_bytes) / (links.share * rate)
        assert timing.delay_s + timing.wire_s == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("host", "nics", "shared"), [("dgx-a100", 8, 0), ("dgx-a100", 4, 4), ("dgx-h100", 4, 0)]
)
def test_groups_beside_different_shared_nics_meet_at_one(tmp_path: Path, host: str, nics: int, shared: int) -> None:
    """One, two, four or eight GPUs of each of 4 hosts: with two or four no two are beside one of 4 NICs for 8 GPUs; a
    NIC for each GPU loses nothing, and Hopper nothing (of ``closed_form.shared_nics``).
    """
    links = read_step_costs().links("infiniband")
    found = LinkCurve(ideal=ideal_of_steps(), hosts=hosts_of(fabric_with(tmp_path, host, nics), read_step_costs()))
    assert found.hosts.shared_nics == shared
    for here in (1, 2, 4, 8):
        timing = found.choose(Wanted("all-reduce", 64 * MIB, 1), Layout(tuple(range(4)) * here)).timing
        assert timing is not None
        moved = 64 * MIB * 2 * (4 * here - 1) / (4 * here)
        share = links.far_nics if shared and here in (2, 4) else links.share
        assert timing.wire_s == pytest.approx(moved / (share * found.hosts.between * here / 8))
    assert 0 < links.far_nics < links.share / 2


def test_shared_nics_slow_a_step_and_are_named(tmp_path: Path) -> None:
    """Data groups of two GPUs in each host send their gradients at what one NIC carries, and the words say so."""
    costs, stack = read_step_costs(), read_step_costs().stack("megatron-deepspeed")
    step = plan(tp=4, dp=8, stack=stack, bucket_bytes=2**40)
    fabric = fabric_with(tmp_path, "dgx-a100", 4)
    options = StepOptions(topology=fabric.name, stack="megatron-deepspeed")
    library, words = library_of_step(options, step, make_cluster(fabric), costs)
    far = costs.words("links", "infiniband", ("far_nics",))
    assert words.endswith(f"; infiniband where a host's GPUs are beside different NICs: {far}")
    size = max(one.size_bytes for one in step.traffic(0) if one.kind == "data")
    timing = library.choose(Wanted("all-reduce", size, 1), Layout((0, 1, 2, 3) * 2)).timing
    assert timing is not None
    assert slowest_s(simulate(step, fabric, library=library), "data") == pytest.approx(timing.delay_s + timing.wire_s)


def test_a_transfer_takes_what_the_links_say() -> None:
    links = read_step_costs().links("infiniband")
    timing = curve("dgx-h100-x4").transfer(10**8, Layout((0, 1)))
    assert timing is not None
    assert timing.wire_s == pytest.approx(1e8 / (50e9 * links.transfer))


def test_links_without_constants_take_as_long_as_on_the_wire() -> None:
    """PCIe inside, EFA between: no training step was published of either."""
    assert kinds_of(load_fabric("pcie-4090")) == ("", "")
    assert kinds_of(load_fabric("p5-x2")) == ("nvlink4", "")
    assert curve("p5-x2").choose(Wanted("all-reduce", MIB, 1), Layout((0, 1))).timing is None
    assert curve("p5-x2").transfer(MIB, Layout((0, 1))) is None
    assert curve("p5-x2").choose(Wanted("all-reduce", MIB, 1), Layout((0, 0))).timing is not None


def test_a_step_asks_nccl_as_single_collectives_do() -> None:
    """Its tensor all-reduces last as long as NCCL's model says of one, and the record says who priced them."""
    fabric = load_fabric("dgx-h100")
    step = plan(tp=8)
    library = NcclLibrary(machine=machine_of(make_cluster(fabric, num_ranks=8), version="2.27"), dtype="bfloat16")
    found = simulate(step, fabric, library=library)
    size = max(one.num_bytes for one in found.step.program.communications)
    assert slowest_s(found, "tensor") == pytest.approx(
        library.prediction(Wanted("all-reduce", size, 1), Layout((0,) * 8)).time_s, rel=1e-6
    )
    record = found.record
    assert (record.library, record.settings["version"]) == ("nccl", "2.27")
    assert list(record.settings["algorithms"]) == ["all-reduce"]
    assert record.settings["algorithms"]["all-reduce"].split()[0] in ("NVLS", "Ring", "Tree")


def in_step(topology: str, **more: Any) -> NcclInStep:
    fabric = load_fabric(topology)
    model = NcclLibrary(machine=machine_of(make_cluster(fabric), version="2.27"), dtype="bfloat16")
    return NcclInStep(model=model, hosts=hosts_of(fabric, read_step_costs()), **more)


def test_in_a_step_nccl_s_collectives_take_what_links_lose_there_longer() -> None:
    """8 GPUs of a host, one of each of 4 hosts, and 16 of two hosts, who wait as long as their slower links say."""
    inside, between = read_step_costs().links("nvlink4"), read_step_costs().links("infiniband")
    found, sharded = in_step("dgx-h100-x4"), in_step("dgx-h100-x4", sharded_share=0.5)
    for hosts, links, wait_s in (
        ((0,) * 8, inside, 3 * inside.nccl_wait_s), ((0, 1, 2, 3), between, 2 * between.nccl_wait_s),
        ((0,) * 8 + (1,) * 8, between, max(3 * inside.nccl_wait_s, between.nccl_wait_s)),
    ):  # fmt: skip
        for kind, share in (("all-reduce", 1.0), ("all-gather", 0.5)):
            wanted, layout = Wanted(kind, 64 * MIB, 1), Layout(hosts)
            alone, one, less = (library.choose(wanted, layout).timing for library in (found.model, found, sharded))
            assert alone is not None
            assert one is not None
            assert less is not None
            assert one.delay_s == pytest.approx(alone.delay_s + wait_s)
            assert one.wire_s == pytest.approx(alone.wire_s / links.nccl_share)
            assert less.wire_s == pytest.approx(one.wire_s / share)
            assert sum(one.terms.values()) == pytest.approx(one.delay_s + one.wire_s)
    assert found.transfer(MIB, Layout((0, 1))) == curve("dgx-h100-x4").transfer(MIB, Layout((0, 1)))


def test_the_closed_form_asks_nccl_as_the_simulator_does() -> None:
    library = in_step("dgx-h100-x4")
    prices = NcclHosts(model=library.model, hosts=library.hosts)
    for ranks, stride, hosts in ((8, 1, (0,) * 8), (4, 8, (0, 1, 2, 3)), (4, 4, (0, 0, 1, 1))):
        timing = library.choose(Wanted("all-reduce", MIB, 1), Layout(hosts)).timing
        assert timing is not None
        found = prices.of_group("all-reduce", MIB, ranks, stride)
        assert (found.latency_s, found.wire_s) == (timing.delay_s, timing.wire_s)


@pytest.mark.parametrize("how", [{"tp": 2, "dp": 8}, {"dp": 16, "zero": 3}, {"pp": 2, "dp": 8, "zero": 1}], ids=str)
def test_collectives_on_a_slower_network_make_the_step_longer(how: dict[str, Any]) -> None:
    """What two hosts' NICs reach in steps is less than their line rate."""
    library = curve("dgx-h100-x2")
    wire, links = (simulate(plan(**how), "dgx-h100-x2", **more).record for more in ({}, {"library": library}))
    assert links.iteration_s > wire.iteration_s


def test_nvlink_of_hopper_and_later_has_constants_of_its_own() -> None:
    wanted = {"dgx-a100": "nvlink", "hgx-a800": "nvlink", "hgx-h800": "nvlink"}  # the last is cut to 200 GB/s a GPU
    wanted |= {"dgx-h100": "nvlink4", "dgx-b200": "nvlink4"}
    assert {name: kinds_of(load_fabric(name))[0] for name in wanted} == wanted
