# SPDX-License-Identifier: Apache-2.0
"""NCCL's graph XML (NCCL_GRAPH_DUMP_FILE): the channels that its search found for rings, trees and NVLS."""

from collections import Counter
from xml.etree.ElementTree import Element

from commbench.topology.imports.base import Imported, listed

__all__ = ["import_nccl_graph"]

_TOLD = ("nchannels", "speedintra", "speedinter", "typeintra", "typeinter")
_NAMES = {"0": "ring", "1": "tree", "2": "CollNet chain", "3": "NVLS", "4": "CollNet direct"}


def import_nccl_graph(root: Element) -> Imported:
    """What the search found; it is no topology."""
    facts, odd, unknown = list[tuple[str, str]](), list[str](), Counter[str]()
    for graph in root:
        if graph.tag != "graph":
            unknown[str(graph.tag)[:40]] += 1
            continue
        channels = [channel for channel in graph if channel.tag == "channel"]
        name = _NAMES.get(graph.get("id", ""), f"graph {graph.get('id', '?')}")[:40]
        hosts = sum(one.tag == "net" for one in channels[0]) if channels else 0
        told = {key: graph.get(key, "?")[:12] for key in _TOLD}
        between = f", {told['speedinter']} GB/s by {told['typeinter']} between hosts" if hosts else ""
        rate = f"{told['speedintra']} GB/s by {told['typeintra']}{between}"
        facts.append((name, f"{told['nchannels']} channels of {rate}"))
        if told["nchannels"] != str(len(channels)):
            odd.append(f"{name}: says {told['nchannels']} channels, lists {len(channels)}")
        gpus = [[one.get("dev", one.get("rank", "?")) for one in each if one.tag == "gpu"] for each in channels]
        if any(len(set(order)) < len(order) for order in gpus):
            odd.append(f"{name}: a GPU stands twice in a channel")
        if len({frozenset(order) for order in gpus}) > 1:
            odd.append(f"{name}: channels do not have the same GPUs")
    if unknown:
        odd.append(f"unknown tags, left out: {listed(unknown)}")
    why = "a graph says which channels NCCL took, not what is connected: import the topology XML (NCCL_TOPO_DUMP_FILE)"
    return Imported("NCCL graph", tuple(facts), tuple(odd), "", why)
