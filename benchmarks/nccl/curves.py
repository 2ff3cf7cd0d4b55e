# SPDX-License-Identifier: Apache-2.0
"""Folders of measured curves as machines and points, for fitting and judging the model of NCCL.

Two forms: ``index.csv`` beside one file a curve, and files by GPU of collectives inside one node.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.libraries.nccl.machine import NcclMachine

__all__ = ["KINDS", "NETWORKS", "Curve", "clusters_in", "curve_of", "nodes_in", "rows_of"]

FloatArray = npt.NDArray[np.float64]

KINDS = {
    "allreduce": "all-reduce",
    "allgather": "all-gather",
    "reducescatter": "reduce-scatter",
    "alltoall": "all-to-all",
}
NETWORKS = (  # words of the columns nic and fabric, and the network that they mean
    ("tcpxo", "tcpxo"),
    ("a3 mega", "tcpxo"),
    ("a3 high", "tcpx"),
    ("tcpx", "tcpx"),
    ("efa v2", "efa2"),
    ("efa", "efa"),
    ("slingshot", "slingshot"),
    ("infiniband", "ib"),
    ("ib ndr", "ib"),
    ("ib/roce", "roce"),
    ("roce", "roce"),
    ("200g switch", "roce"),
    ("ethernet", "roce"),
)
_NVL72 = ("gb200", "gb300")
_THIN = 3  # a curve that steps by 1 MiB is thinned to 2^k and 3 x 2^k MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One measured curve.

    Attributes:
        name: of its file. cluster: curves of one are left out together.
        machine: kind: dtype: what was run where. sizes: bytes. times: seconds.
        health: "yes", "no" or "unknown". inferred: the NIC's rate comes from the curve itself.
        apart: reported apart ("vtrain", "other" library, or "").
    """

    name: str
    cluster: str
    machine: NcclMachine
    kind: str
    dtype: str
    sizes: FloatArray
    times: FloatArray
    health: str = "yes"
    inferred: bool = False
    apart: str = ""


def clusters_in(folder: Path) -> list[Curve]:
    """The curves of a folder with an ``index.csv``; those of unknown machines and of other libraries are left out."""
    found = []
    for row in rows_of(folder / "index.csv"):
        with suppress(InputError):
            found.append(curve_of(row["file"][:-4], row, rows_of(folder / row["file"])))
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    """A file of comma-separated values, a mapping for each row."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def curve_of(name: str, row: Mapping[str, str], points: Sequence[Mapping[str, str]]) -> Curve:
    """A curve from its row of an index.

    Args:
        name: of the curve. points: its rows.

    Raises:
        InputError: of another library, or a machine that the model of NCCL does not know.
    """
    kind, library = KINDS.get(row["collective"], row["collective"]), row["library"].split(" ")[0].lower()
    if library not in ("nccl", "rccl"):
        raise InputError(f"{name}: library {row['library']!r} is neither NCCL nor RCCL")
    machine = _machine(row, library)
    sizes, times = _times(points, kind, machine.ranks)
    vtrain = "vtrain" in name
    if vtrain:
        mebibytes = sizes / 2**20
        odd = mebibytes / 2.0 ** np.floor(np.log2(np.maximum(mebibytes, 1)))
        keep = (odd == 1) | (odd == _THIN / 2)
        sizes, times = sizes[keep], times[keep]
    stem = re.sub(r"_(\d+x\d+\w*)_(allreduce|allgather|alltoall|reducescatter|reduce|broadcast)", "", name)
    return Curve(
        name=name,
        cluster="vtrain" if vtrain else f"{row['gpu'].split('-')[0].lower()} {row['source'][:40]}" if stem else "",
        machine=machine,
        kind=kind,
        dtype="float32",
        sizes=sizes,
        times=times,
        health=row["healthy"],
        inferred="inferred" in row["notes"].lower(),
        apart="vtrain" if vtrain else "",
    )


def _machine(row: Mapping[str, str], library: str) -> NcclMachine:
    gpu, env, wires = row["gpu"], row["env"], f"{row['nic']} {row['fabric']}".lower()
    local, nodes = int(row["gpus_per_node"]), int(row["nodes"])
    nics = int(float(row["nics_per_node"] or 0))
    rate = float(row["nic_Gbps"] or 0)
    if gpu.lower().startswith(_NVL72) and "nvl72" in row["intra_link"].lower():
        racks = 2 if re.search(r"\b2 (NVL72 )?racks|\b2 NVL72", row["fabric"]) else 1
        local, nodes, nics = local * nodes // racks, racks, (nics or 4) * nodes // racks
        rate = rate or 800.0  # ConnectX-8
    text = row["intra_link"].lower()
    kinds = (
        *(("cube", "cube-mesh"), ("nvlink2", "cube-mesh"), ("nvswitch", "nvswitch"), ("nvl72", "nvswitch")),
        *(("xgmi", "xgmi"), ("nvlink", "nvlink"), ("pcie", "pcie")),
    )
    link = next(
        (found for word, found in kinds if word in text),
        "nvlink" if float(row["intra_link_GBps_per_gpu"] or 0) > 100 else "pcie",
    )
    if nodes > 1 and not nics * rate:
        raise InputError("no rate of NICs")
    algorithm, protocol = re.search(r"NCCL_ALGO=(\w+)", env), re.search(r"NCCL_PROTO=(\w+)", env)
    version = re.match(r"\d+\.\d+(\.\d+)?", row["library_version"])
    return NcclMachine(
        gpu=gpu,
        gpus_per_node=local,
        nodes=nodes,
        link=link,
        link_GBps=float(row["intra_link_GBps_per_gpu"] or 64),
        nics=nics if nodes > 1 else 0,
        nic_Gbps=rate if nodes > 1 else 0.0,
        network=next((found for word, found in NETWORKS if word in wires), "ib"),
        cpu=row.get("cpu") or "intel",
        version=version.group() if version else "2.27",
        launch="threads" if re.search(r"-g [2-9]", env) else "process",
        library=library,
        algorithms=(algorithm.group(1).capitalize(),) if algorithm else (),
        protocols=(protocol.group(1).capitalize(),) if protocol else (),
    )


def _times(rows: Sequence[Mapping[str, str]], kind: str, ranks: int) -> tuple[FloatArray, FloatArray]:
    """Out-of-place times in seconds; in-place where they exceed it by a quarter, or where there are no others."""
    factor = (
        2 * (ranks - 1) / ranks
        if kind == "all-reduce"
        else (ranks - 1) / ranks
        if kind.startswith("all-to") or kind in ("all-gather", "reduce-scatter")
        else 1.0
    )
    found = []
    for row in rows:
        out, inside = _number(row, "oop_time_us"), _number(row, "ip_time_us")
        if out and inside and out > 1.25 * inside:
            out = inside
        time = out or inside
        bus = _number(row, "oop_busbw_GBps")
        if not time and bus and bus >= 1:  # printed to one decimal
            time = float(row["size_bytes"]) * factor / (bus * 1000)
        if time:
            found.append((float(row["size_bytes"]), time * 1e-6))
    points = np.array(sorted(found)).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _number(row: Mapping[str, str], key: str) -> float:
    try:
        return float(row.get(key) or 0)
    except ValueError:
        return 0.0


_NODES = {  # file: GPU, link, GB/s of one GPU
    "a100_sxm": ("a100", "nvswitch", 300.0),
    "h100_sxm": ("h100", "nvswitch", 450.0),
    "b200_sxm": ("b200", "nvswitch", 900.0),
    "gb200": ("gb200", "nvswitch", 900.0),
    "l40s": ("l40s", "pcie", 32.0),
}


def nodes_in(folder: Path) -> Iterator[Curve]:
    """The curves of a folder of collectives inside one node. Their one process (-g) shows no host time, so a process
    each is assumed."""
    for path in sorted(folder.glob("*.csv")):
        gpu, link, rate = _NODES[path.stem]
        found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row["folder_version"], row["recorded_version"], row["collective"], row["dtype"], row["gpus"])
                found.setdefault(key, []).append((float(row["size_bytes"]), float(row["time_us"]) * 1e-6))
        for (filed, recorded, collective, dtype, gpus), rows in found.items():
            points = np.array(sorted(rows))
            version = filed if recorded == "?" else recorded
            yield Curve(
                name=f"{path.stem} {filed} {collective} {dtype} {gpus}",
                cluster=f"{path.stem} {filed}",
                machine=NcclMachine(gpu=gpu, gpus_per_node=int(gpus), link=link, link_GBps=rate, version=version),
                kind=KINDS[collective.replace("_", "")],
                dtype={"half": "float16"}.get(dtype, dtype),
                sizes=points[:, 0],
                times=points[:, 1],
            )
