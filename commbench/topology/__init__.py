# SPDX-License-Identifier: Apache-2.0
"""What is connected: hosts, links and switches of one machine or a whole cluster, as an immutable graph."""

from commbench.topology.load import find_topology, list_topologies, load_fabric, load_topology
from commbench.topology.model import (
    ENDPOINT_KINDS,
    EndpointCosts,
    Link,
    LinkKind,
    Node,
    NodeKind,
    Provenance,
    Quantity,
    Topology,
)
from commbench.topology.tree import Tree

__all__ = [
    "ENDPOINT_KINDS",
    "EndpointCosts",
    "Link",
    "LinkKind",
    "Node",
    "NodeKind",
    "Provenance",
    "Quantity",
    "Topology",
    "Tree",
    "find_topology",
    "list_topologies",
    "load_fabric",
    "load_topology",
]
