# SPDX-License-Identifier: Apache-2.0
"""What is connected: hosts, links and switches of one machine or a whole cluster, as immutable arrays."""

from commbench.topology.fabric import Fabric
from commbench.topology.load import find_topology, list_topologies, load_fabric
from commbench.topology.model import (
    EndpointCosts,
    Link,
    LinkKind,
    Node,
    NodeKind,
    Provenance,
    Quantity,
)

__all__ = [
    "EndpointCosts",
    "Fabric",
    "Link",
    "LinkKind",
    "Node",
    "NodeKind",
    "Provenance",
    "Quantity",
    "find_topology",
    "list_topologies",
    "load_fabric",
]
