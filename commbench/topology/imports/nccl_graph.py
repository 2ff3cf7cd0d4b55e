# SPDX-License-Identifier: Apache-2.0
"""NCCL's graph XML (NCCL_GRAPH_DUMP_FILE): the channels that its search found for rings, trees and NVLS."""

from collections import Counter
from dataclasses import dataclass
from math import isfinite
from xml.etree.ElementTree import Element

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported, listed

__all__ = ["FoundGraph", "graphs_in", "import_nccl_graph"]

_TOLD = ("nchannels", "speedintra", "speedinter", "typeintra", "typeinter")
_NAMES = {"0": "ring", "1": "tree", "2": "CollNet chain", "3": "NVLS", "4": "CollNet direct"}
_NVLINK = ("LOC", "NVL")
"""Types of path inside a host that are NVLinks, or none at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGraph:
    """A graph of the file.

    Attributes:
        name: "ring", "tree", "NVLS" and so on. pattern: NCCL's number of its form.
        channels: how many. intra, inter: GB/s of one, in and between hosts. latency_us: that a network adds.
        nvlink: whether all hops inside a host are NVLinks.
        gpus: of a host, in each channel. to_network: whether channels leave the host.
    """

    name: str
    pattern: int
    channels: int
    intra: float
    inter: float
    latency_us: float
    nvlink: bool
    gpus: int
    to_network: bool


def graphs_in(root: Element, place: str) -> tuple[FoundGraph, ...]:
    """The graphs with channels.

    Raises:
        TopologyError: a graph lacks a number, or has one that makes no sense.
    """
    return tuple(found for one in root if one.tag == "graph" and (found := _graph(one, place)) is not None)


def _graph(graph: Element, place: str) -> FoundGraph | None:
    name = _NAMES.get(graph.get("id", ""), f"graph {graph.get('id', '?')}")[:40]

    def number(key: str, default: str | None = None) -> float:
        text = graph.get(key, default)
        try:
            value = float("nan" if text is None else text)
        except ValueError:
            value = float("nan")
        if not (isfinite(value) and 0 <= value <= 1e6):
            raise TopologyError(f"{place}: graph {name}: {key} must be a number of at least 0, not {text!r:.40}")
        return value

    channels = [channel for channel in graph if channel.tag == "channel"]
    count = int(number("nchannels"))
    if not count or not channels:
        return None
    if not (number("speedintra") and number("speedinter")):
        raise TopologyError(f"{place}: graph {name}: speedintra and speedinter must be above 0")
    return FoundGraph(
        name=name,
        pattern=int(number("pattern")),
        channels=count,
        intra=number("speedintra"),
        inter=number("speedinter"),
        latency_us=number("latencyinter", "0"),
        nvlink=graph.get("typeintra") in _NVLINK,
        gpus=sum(one.tag == "gpu" for one in channels[0]),
        to_network=any(one.tag == "net" for one in channels[0]),
    )


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
