# SPDX-License-Identifier: Apache-2.0
"""A published step by the simulator, or by NCCL's model: on hosts like its row's, on a network without bottlenecks."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from commbench.cluster import Cluster, make_cluster
from commbench.errors import InputError
from commbench.experiments.step_library import ideal_of_steps
from commbench.experiments.step_rows import StepRow, hosts_of, predict, with_costs
from commbench.libraries.base import Library
from commbench.libraries.nccl.library import NcclLibrary, machine_of
from commbench.libraries.nccl.machine import VERSIONS
from commbench.results.steps import SimulatedStep
from commbench.topology.build import build_fabric
from commbench.topology.fabric import Fabric
from commbench.topology.schema import TopologyFile
from commbench.training.closed_form import Estimate, closed_form
from commbench.training.link_curve import LinkCurve
from commbench.training.link_time import LinkTime
from commbench.training.nccl_in_step import NcclHosts, NcclInStep
from commbench.training.simulate import simulate_step
from commbench.workload.step_costs import StepCosts

__all__ = ["cluster_of_row", "predict_by", "simulate_row", "simulate_rows", "smallest_of_cells"]

_NETWORKS = {"infiniband": "ib", "roce": "roce", "omni-path": "ib"}


def simulate_row(row: StepRow, costs: StepCosts, library: str = "ideal") -> SimulatedStep:
    """The step by the simulator, with these constants.

    Args:
        row: measured. costs: of its device, stack and links.
        library: "ideal", whose collectives take what the links' constants say, or "nccl".

    Raises:
        InputError: no constants of the device, stack or links, or a collective that NCCL's model does not know.
    """
    plan, cluster = with_costs(row, costs), cluster_of_row(row)
    assert plan.stack is not None
    found: Library
    if library == "ideal":
        found = LinkCurve.of_plan(plan, hosts_of(row, costs), ideal_of_steps())
    else:
        found = NcclInStep.of_plan(plan, hosts_of(row, costs), _nccl(cluster))
    return simulate_step(plan, cluster, found).record


def predict_by(row: StepRow, costs: StepCosts, library: str = "ideal") -> Estimate:
    """The step by the closed form, with these constants.

    Args:
        row, costs, library: as :func:`simulate_row` has them.

    Raises:
        InputError: as :func:`simulate_row`.
    """
    if library == "ideal":
        return predict(row, costs)
    model, known = _nccl_of(row.plan.degrees.num_ranks, *_host_of(row))
    prices = NcclHosts(model=model, hosts=hosts_of(row, costs), known=known)
    return closed_form(with_costs(row, costs), costs.stack(row.stack), prices, shapes=row.shapes)


def _nccl(cluster: Cluster) -> NcclLibrary:
    return NcclLibrary(machine=machine_of(cluster, version=VERSIONS[-1]), dtype="float16")


@lru_cache(maxsize=256)
def _nccl_of(ranks: int, *host: Any) -> tuple[NcclLibrary, dict[tuple[str, int, int, int], LinkTime]]:
    """NCCL on so many ranks, and what it said before."""
    return _nccl(_cluster(ranks, *host)), {}


def smallest_of_cells(rows: Iterable[StepRow]) -> list[StepRow]:
    """Of every cell the row with the smallest batch; a cell's rows are linear in their microbatches."""
    found: dict[str, StepRow] = {}
    for row in sorted(rows, key=lambda row: row.plan.global_batch):
        found.setdefault(row.cell, row)
    return list(found.values())


def simulate_rows(
    rows: Iterable[StepRow], costs: StepCosts, library: str = "ideal"
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of every row's step, and why others have none, by name."""
    times, left = dict[str, float](), dict[str, str]()
    for row in rows:
        try:
            times[row.name] = simulate_row(row, costs, library).iteration_s
        except InputError as error:
            left[row.name] = str(error)
    return times, left


def cluster_of_row(row: StepRow) -> Cluster:
    """As many hosts as the row's ranks fill; each GPU has a NIC with its share of what the host sends."""
    return _cluster(row.plan.degrees.num_ranks, *_host_of(row))


def _host_of(row: StepRow) -> tuple[int, float, float, str, str]:
    """GPUs of a host, bytes/s inside and between, what its NICs speak, its device."""
    return row.gpus, row.inside, row.between, _NETWORKS[row.fabric], row.plan.device.name


def _cluster(ranks: int, gpus: int, inside: float, between: float, network: str, device: str) -> Cluster:
    fabric = _fabric(-(-ranks // gpus), gpus, inside, between, network, device)
    return make_cluster(fabric, num_ranks=ranks)


@lru_cache(maxsize=64)
def _fabric(hosts: int, gpus: int, inside: float, between: float, network: str, device: str) -> Fabric:
    def link(rate: float, **more: Any) -> dict[str, Any]:
        return {"bandwidth": f"{rate:.0f} B/s", "latency": "0.25 us", **more}

    free = link(1e12)
    host = {
        "wiring": "nvswitch", "device": device, "gpus": gpus, "nics": gpus, "pcie_switches": gpus, "sockets": 1,
        "nvlink": link(inside, links=1), "pcie": free, "socket": free,
    }  # fmt: skip
    network_of = {
        "kind": "rail-optimized", "hosts": hosts, "hosts_per_leaf": hosts, "spines": 1, "oversubscription": 1,
        "downlink": link(between / gpus), "uplink": {"latency": "0.25 us"},
    }  # fmt: skip
    document = {
        "name": f"{hosts} x {gpus} {device}", "description": "hosts of a published step", "routing": "rail-aware",
        "host": host, "fabric": network_of if hosts > 1 else {"kind": "none"}, "network": network,
        "costs": {"message_overhead": "0 us", "reduction": "line-rate"},
    }  # fmt: skip
    return build_fabric(TopologyFile.model_validate(document), "a published step")
