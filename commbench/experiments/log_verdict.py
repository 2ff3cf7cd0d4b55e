# SPDX-License-Identifier: Apache-2.0
"""A log held against a machine: the ranks of the log on a topology, and what a library would do there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.cluster import Cluster, make_cluster
from commbench.collectives.registry import DEFAULTS
from commbench.errors import InputError, unknown
from commbench.libraries.base import LIBRARIES
from commbench.results.reported import Reported
from commbench.topology import LinkKind, NodeKind, load_fabric
from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, Fabric
from commbench.validate.verdict import Answer, Line, Predictor, judge_log

if TYPE_CHECKING:
    from commbench.libraries.nccl.machine import Gpu
    from commbench.results.judged import Health, Judged

__all__ = ["judged_runs"]

_VERSION = "2.27"  # of NCCL, where a log does not say


def judged_runs(
    records: Sequence[Reported], topology: str, library: str | None, ranks_per_host: int | None = None
) -> "tuple[list[Judged], list[Health]]":
    """Every run of the records, each with its verdicts.

    Args:
        records: rows of logs. topology: a name or a path. library: one of ``libraries.base.LIBRARIES``; None takes what
            such ranks would use: nccl (rccl on AMD's GPUs) where the topology names its GPUs, else ideal.
        ranks_per_host: None takes it from the hosts that the log names, else fills hosts.

    Raises:
        InputError: an unknown library, or ranks that the topology does not hold.
    """
    fabric = load_fabric(topology)
    library = _library(fabric, library)
    judged, health = list["Judged"](), list["Health"]()
    curves = list(dict.fromkeys(map(_curve, records)))
    shared = Counter(curve[:2] for curve in curves)
    for curve in curves:
        name = str(curve[0]) if shared[curve[:2]] == 1 else " ".join(str(part) for part in curve if part is not None)
        rows = [replace(record, run=name) for record in records if _curve(record) == curve]
        cluster = _cluster(fabric, rows[0], ranks_per_host)
        predict = (_ideal if library == "ideal" else _nccl)(cluster, rows[0])
        found, verdict = judge_log(rows, predict, _line(cluster), topology=fabric.name, library=library)
        judged += found
        health.append(_of_this_machine(verdict, rows[0].device, fabric))
    return judged, health


def _library(fabric: Fabric, asked: str | None) -> str:
    """That was asked for, else what such ranks would use."""
    from commbench.libraries.nccl.library import library_of

    if asked is not None and asked not in LIBRARIES:
        raise InputError(f"--library {asked!r} {unknown(asked, LIBRARIES)}")
    own = library_of(fabric.device) if fabric.device else "ideal"
    if asked not in (None, "ideal", own) and fabric.device:
        raise InputError(f"--library {asked} on topology {fabric.name}: its GPUs take {own}")
    return asked or own


def _of_this_machine(verdict: "Health", devices: str, fabric: Fabric) -> "Health":
    """The verdict; unknown where the log's GPUs are of another kind than the topology's."""
    from commbench.results.judged import CORRUPT, UNKNOWN

    if not devices or not fabric.device:
        return verdict
    told = [_kind(name) for name in devices.split(", ")]
    expected = _kind(fabric.device)
    if expected is None or all(kind is None for kind in told):
        return replace(verdict, reason=f"{verdict.reason}; whether its GPUs ({devices}) are those of {fabric.name} "
                       f"({fabric.device}) is not known")  # fmt: skip
    if verdict.verdict == CORRUPT or all(kind in (None, expected) for kind in told):
        return verdict
    reason = f"the log is of {devices}, but topology {fabric.name} has {fabric.device}: give the machine it was run on"
    return replace(verdict, verdict=UNKNOWN, reason=reason)


def _kind(name: str) -> "Gpu | None":
    """The GPU as NCCL sees it; None where its model does not know it."""
    from commbench.libraries.nccl.machine import gpu_named

    try:
        return gpu_named(name)
    except InputError:
        return None


def _curve(record: Reported) -> tuple[object, ...]:
    """What the rows of one curve have in common."""
    return record.run, record.collective, record.dtype, record.op, record.root


def _cluster(fabric: Fabric, row: Reported, ranks_per_host: int | None) -> Cluster:
    """The ranks of a log, on as many hosts as it names."""
    hosts = min(row.hosts or fabric.num_hosts, fabric.num_hosts)
    if ranks_per_host is None and row.hosts and row.ranks % hosts == 0:
        ranks_per_host = row.ranks // hosts
    if row.ranks > fabric.num_ranks:
        raise InputError(
            f"{Path(row.source).name}: {row.ranks} ranks, but topology {fabric.name} has {fabric.num_ranks}; give one "
            "that is as large"
        )
    return make_cluster(fabric, num_ranks=row.ranks, ranks_per_host=ranks_per_host)


def _nccl(cluster: Cluster, row: Reported) -> Predictor:
    """What NCCL of the log's version takes, launched as the log says."""
    from commbench.libraries.nccl.library import machine_of
    from commbench.libraries.nccl.predictor import predict_sizes

    machine = machine_of(
        cluster,
        version=row.version or _VERSION,
        launch="threads" if (row.gpus_per_process or 1) > 1 else "process",
    )

    def all_of(sizes: Sequence[int]) -> list[Answer]:
        found = predict_sizes(machine, row.collective, sizes, row.dtype or "float32", redop=row.op or "sum")
        return [
            Answer(None if one.status == "unknown" else one.time_s, one.algorithm, one.protocol, one.reason)
            for one in found
        ]

    return all_of


def _ideal(cluster: Cluster, row: Reported) -> Predictor:
    """What rings at wire speed would take: no library's overheads, so small sizes look slow."""
    from commbench.engine.engines import Run
    from commbench.libraries.ideal import Ideal
    from commbench.sim.collective import simulate_collective

    element = max(1, row.size_bytes // row.num_elements) if row.num_elements else 4
    several = len(set(cluster.hosts.tolist())) > 1
    channels = cluster.ranks_per_host if several and DEFAULTS[row.collective] == "ring" else 1
    library = Ideal(
        algorithms={row.collective: DEFAULTS[row.collective]}, channels=channels, ranks_per_host=cluster.ranks_per_host
    )
    how = Run(detail="collective", keep_trace=False)

    def one(size_bytes: int) -> Answer:
        try:
            done = simulate_collective(
                row.collective, size_bytes, cluster, library, how, element_bytes=element, root=row.root or 0
            )
        except InputError as error:
            return Answer(None, reason=str(error))
        return Answer(done.record.time_s or None, done.record.algorithm)

    return lambda sizes: [one(size) for size in sizes]


def _line(cluster: Cluster) -> Line:
    """The rate that bounds a ring: out of a GPU, and out of a host if there are several."""
    from commbench.libraries.nccl.machine import switches_add

    fabric, first = cluster.fabric, int(cluster.placed[0])
    rank = fabric.endpoints[first]
    kinds = [LINK_KINDS[kind] for kind in fabric.link_kinds[fabric.src == rank].tolist()]
    rates = fabric.bandwidths[fabric.src == rank].tolist()
    direct = sum(rate for rate, kind in zip(rates, kinds, strict=True) if kind is LinkKind.NVLINK) or max(rates)
    hosts = len(set(cluster.hosts.tolist()))
    ends = {NODE_KINDS[fabric.node_kinds[node]] for node in fabric.dst[fabric.src == rank].tolist()}
    nvls = NodeKind.NVSWITCH in ends and switches_add(fabric.device) is True
    if hosts > 1:
        host = fabric.node_hosts[rank]
        nics = sum(fabric.bandwidths[link] for link in fabric.to_network.tolist()
                   if fabric.node_hosts[fabric.src[link]] == host)  # fmt: skip
        direct = min(direct, float(nics) * _share(cluster)) if nics else direct
    return Line(direct / 1e9, hosts, nvls)


def _share(cluster: Cluster) -> float:
    """The part of a host's GPUs that takes part, and so of its NICs: a GPU has those that are its own."""
    hosts = cluster.fabric.host_of
    return min(1.0, int((cluster.hosts == cluster.hosts[0]).sum()) / int((hosts == cluster.hosts[0]).sum()))
