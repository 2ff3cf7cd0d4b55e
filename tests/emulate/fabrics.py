# SPDX-License-Identifier: Apache-2.0
"""Small fabrics that a test can make in a moment, as documents and as topologies; and what a lab may leave behind."""

import os
import socket
from pathlib import Path
from typing import Any

import yaml

from commbench.emulate.plan import TestbedPlan, plan_testbed
from commbench.emulate.tables import equal_cost, single_path
from commbench.routing.router import Router
from commbench.topology.build import build_fabric
from commbench.topology.fabric import Fabric
from commbench.topology.schema import TopologyFile

MBIT = 125e3  # bytes/s


def quantity(value: str) -> dict[str, str]:
    return {"value": value, "provenance": "assumed", "source": "a test"}


def document(
    fabric: dict[str, Any], *, host: str = "20 Mbit/s", nics: int = 1, bus: str = "1 Gbit/s"
) -> dict[str, Any]:
    """A topology file of plain hosts whose links have the rate ``host``."""
    hop = {"latency": quantity("1 us")}
    links = {"downlink": {"bandwidth": quantity(host), **hop}}
    links |= {"leaf-spine": {"uplink": hop}, "fat-tree": {"uplink": hop, "core_link": hop}}.get(fabric["kind"], {})
    return {
        "name": f"small-{fabric['kind']}",
        "description": "small enough for a test",
        "routing": "d-mod-k",
        "host": {"wiring": "plain", "nics": nics, "bus": {"bandwidth": quantity(bus), "latency": quantity("0 us")}},
        "fabric": fabric | links,
        "costs": {"message_overhead": quantity("0 us"), "reduction": "line-rate"},
    }


def leaf_spine(hosts: int = 4, spines: int = 1, oversubscription: float = 1.0) -> dict[str, Any]:
    """Two leaves; with one spine the way between them is a trunk."""
    shape = {"hosts": hosts, "hosts_per_leaf": hosts // 2, "spines": spines, "oversubscription": oversubscription}
    return {"kind": "leaf-spine", **shape}


FAT_TREE = {"kind": "fat-tree", "k": 4, "oversubscription": {"leaf": 1.0, "spine": 1.0}}


def topology_of(fabric: dict[str, Any], **given: Any) -> Fabric:
    return build_fabric(TopologyFile.model_validate(document(fabric, **given)), "a test")


def plan_of(fabric: dict[str, Any], *, ecmp: bool = False, num_background: int = 0, **given: Any) -> TestbedPlan:
    topology = topology_of(fabric, **given)
    tables = equal_cost(topology) if ecmp else single_path(topology, Router)
    return plan_testbed(topology, tables, routing="ecmp" if ecmp else "d-mod-k", num_background=num_background)


def written(folder: Path, fabric: dict[str, Any], **given: Any) -> Path:
    """The topology as a file."""
    path = folder / "fabric.yaml"
    path.write_text(yaml.safe_dump(document(fabric, **given)), encoding="utf-8")
    return path


def leftovers(folder: Path, before: frozenset[str]) -> list[str]:
    """Namespaces that were not there before, records of labs, interfaces of veth pairs here, and ranks of labs."""
    found = sorted(namespaces() - before)
    found += [str(path) for path in folder.glob("*.json")]
    found += [name for _, name in socket.if_nameindex() if name.startswith(("nic", "leaf", "spine", "h0-", "veth"))]
    return found + [line for line in map(_command, _pids()) if str(folder) in line and "live.child" in line]


def namespaces() -> frozenset[str]:
    folder = Path("/run/netns")
    return frozenset(os.listdir(folder)) if folder.exists() else frozenset()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
