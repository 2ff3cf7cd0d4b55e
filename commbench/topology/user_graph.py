# SPDX-License-Identifier: Apache-2.0
"""``kind: graph``: switches and cables as the user lists them, in the file itself or as networkx writes a graph."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from commbench.errors import TopologyError
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.kinds import FabricKind, register
from commbench.topology.model import NodeKind
from commbench.topology.sections import Hosts, Links, LinkSection, Section, Text

__all__ = ["GraphFabric"]

_NIC = re.compile(r"h([0-9]{1,7})/nic([0-9]{1,3})")
_TIERS = {kind.value: kind for kind in (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)}


class GraphCable(LinkSection):
    """One entry of ``cables``: full-duplex links between two nodes; the bandwidth is that of one."""

    a: Text
    b: Text
    links: Links = 1


class GraphSwitch(Section):
    """One entry of ``switches``."""

    name: Text
    tier: Literal["leaf", "spine", "core"]


@register
class GraphFabric(FabricKind):
    """Any switches and cables; NICs are called h0/nic0 and so on, and every cable ends on one switch at least."""

    kind: Literal["graph"]
    hosts: Hosts
    switches: list[GraphSwitch] = Field(default_factory=list)
    cables: list[GraphCable] = Field(default_factory=list)
    node_link: Text | None = None

    @field_validator("node_link")
    @classmethod
    def _beside_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value and str((info.context or Path()) / value)

    def check(self) -> None:
        """Switches and cables stand in one place."""
        if bool(self.node_link) == bool(self.switches or self.cables):
            raise TopologyError("fabric.switches: give switches and cables, or the file of both: `node_link: my.json`")

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """All as listed."""
        switches, cables = _read(Path(self.node_link)) if self.node_link else (self.switches, self.cables)
        number: dict[str, int] = {}
        for switch in switches:
            if switch.name in number or _NIC.fullmatch(switch.name):
                raise TopologyError(f"fabric.switches: name {switch.name!r} is used twice, or is that of a NIC")
            number[switch.name] = net.switches(_TIERS[switch.tier], 1, names=(switch.name,))
        places = zip(net.hosts.node_hosts[net.nics].tolist(), net.hosts.node_indices[net.nics].tolist(), strict=True)
        nics = {f"h{host}/nic{index}": node for (host, index), node in zip(places, net.nics.tolist(), strict=True)}
        for i, cable in enumerate(cables):
            for end in (cable.a, cable.b):
                if end not in number and end not in nics:
                    raise TopologyError(f"fabric.cables.{i}: {end!r} is no listed switch and no NIC such as h0/nic0")
            if cable.a == cable.b or (cable.a in nics and cable.b in nics):
                raise TopologyError(f"fabric.cables.{i}: {cable.a} - {cable.b} must join a switch to something else")
            a, b = (np.full(cable.links, number.get(end, nics.get(end))) for end in (cable.a, cable.b))
            net.join(a, b, cable.wire)
        for nic in sorted(nics.keys() - {end for cable in cables for end in (cable.a, cable.b)}):
            raise TopologyError(f"fabric.cables: {nic} has no cable")
        return ()


def _read(path: Path) -> tuple[Sequence[GraphSwitch], Sequence[GraphCable]]:
    """Switches and cables of a node-link file, as ``networkx.node_link_data`` gives it: nodes with ``tier`` (a leaf
    where it is left out), edges with ``bandwidth``, ``latency`` and, if you like, ``links`` and ``efficiency``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        nodes, edges = data["nodes"], data["edges" if "edges" in data else "links"]
        if data.get("directed"):
            raise TopologyError(f"fabric.node_link: {path} is a directed graph; write an undirected one")
        switches = [
            GraphSwitch(name=str(node["id"]), tier=node.get("tier", "leaf"))
            for node in nodes
            if not _NIC.fullmatch(str(node["id"]))
        ]
        return switches, [GraphCable.model_validate(_cable(edge)) for edge in edges]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TopologyError(f"fabric.node_link: {path} is no node-link JSON of networkx: {why}") from None


def _cable(edge: dict[str, Any]) -> dict[str, Any]:
    known = ("bandwidth", "latency", "efficiency", "links")
    return {key: edge[key] for key in known if key in edge} | {"a": str(edge["source"]), "b": str(edge["target"])}
