# SPDX-License-Identifier: Apache-2.0
"""From parts to the columns of a fabric: hosts are copied as often as they stand; switches and cables come behind."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.errors import TopologyError
from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, Fabric, Graph, Stage
from commbench.topology.model import LinkKind, NodeKind
from commbench.topology.parts import Parts, Wire

__all__ = ["MOST_LINKS", "Cabling", "copies"]

Ints = npt.NDArray[np.int64]

MOST_LINKS = 2**24
"""Directed links of a fabric: some 0.5 GB of arrays."""


def copies(host: Parts, count: int, first: int = 0, wiring: int = 0) -> Graph:
    """Hosts number ``first`` to ``first + count - 1``, all as ``host``, which is number 0.

    Raises:
        TopologyError: more than MOST_LINKS links.
    """
    _bounded(len(host.cables) * count)
    number = {node.name: i for i, node in enumerate(host.nodes)}
    near = [[number[nic] for nic in host.nics_of.get(rank, ())] for rank in host.ranks]
    at = np.arange(count, dtype=np.int32)

    def own(values: Sequence[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.tile(np.array(values, dtype), count)

    def nodes(values: Sequence[int]) -> npt.NDArray[np.int32]:
        return (at[:, None] * np.int32(len(host.nodes)) + np.array(values, np.int32)).ravel()

    return Graph(
        node_kinds=own([NODE_KINDS.index(node.kind) for node in host.nodes], np.int8),
        node_hosts=np.repeat(first + at, len(host.nodes)),
        node_indices=own([node.index for node in host.nodes], np.int32),
        node_rails=own([-1 if node.rail is None else node.rail for node in host.nodes], np.int32),
        src=nodes([number[cable.src] for cable in host.cables]),
        dst=nodes([number[cable.dst] for cable in host.cables]),
        link_kinds=own([LINK_KINDS.index(cable.kind) for cable in host.cables], np.int8),
        bandwidths=own([cable.wire.bandwidth for cable in host.cables], np.float64),
        latencies_ps=own([cable.wire.latency_ps for cable in host.cables], np.int64),
        endpoints=nodes([number[rank] for rank in host.ranks]),
        nics_first=np.concatenate([[0], np.cumsum(own([len(each) for each in near], np.int64))]),
        nics=nodes([nic for each in near for nic in each]),
        wirings=np.full(count, wiring, np.int32),
    )


def _bounded(num_links: int) -> None:
    if num_links > MOST_LINKS:
        raise TopologyError(
            f"fabric: {num_links:,} links, counted in both directions: must be at most {MOST_LINKS:,}, the most of a "
            "fabric; type fewer hosts or switches"
        )


class Cabling:
    """Hosts to which a kind of fabric adds its switches and cables."""

    def __init__(self, hosts: Sequence[Graph]) -> None:
        """``hosts`` in order; their nodes come first."""
        self.hosts = reduce(_beside, hosts)
        self.nics = self.hosts.of_kinds(NodeKind.NIC)
        self._switches: list[tuple[NodeKind, Ints, Ints]] = []
        self._cables: list[tuple[Ints, Ints, Wire]] = []
        self._names: tuple[str, ...] = ()
        self._num_nodes, self._num_links = self.hosts.num_nodes, self.hosts.num_links

    @property
    def num_hosts(self) -> int:
        """Hosts to be joined."""
        return self.hosts.num_hosts

    @property
    def nics_per_host(self) -> int:
        """NICs of every host.

        Raises:
            TopologyError: hosts without NICs, or hosts that differ in their number.
        """
        counts = np.unique(np.bincount(self.hosts.node_hosts[self.nics], minlength=self.num_hosts)).tolist()
        if counts == [0]:
            raise TopologyError("host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more")
        if len(counts) > 1:
            raise TopologyError(f"host.nics: {counts} differ; a fabric needs as many NICs in every host")
        return int(counts[0])

    def require_room(self, num_links: int) -> None:
        """Refuse so many more directed links where that is too many; before they are made.

        Raises:
            TopologyError: more than MOST_LINKS links.
        """
        _bounded(self._num_links + num_links)

    def switches(self, kind: NodeKind, count: int, rails: Ints | None = None, *, names: tuple[str, ...] = ()) -> int:
        """Add switches that are numbered on from those of the kind, with names of their own where they are given; the
        number of the first node.
        """
        begun = sum(len(indices) for other, indices, _ in self._switches if other is kind)
        self._switches.append((kind, begun + np.arange(count), np.full(count, -1) if rails is None else rails))
        self._num_nodes += count
        self._names += names
        return self._num_nodes - count

    def join(self, lower: Ints, upper: Ints, wire: Wire) -> int:
        """Add full-duplex links between nodes ``lower[i]`` and ``upper[i]``, a link there and then one back each; the
        number of the first link.
        """
        self.require_room(2 * len(lower))
        self._cables.append((lower, upper, wire))
        self._num_links += 2 * len(lower)
        return self._num_links - 2 * len(lower)

    def fabric(self, *, stages: tuple[Stage, ...] = (), **about: Any) -> Fabric:
        """Hosts, switches and cables as one.

        Args:
            stages: of a tree. about: what else a fabric has: name, routing, ...
        """
        hosts, none = self.hosts, np.zeros(0, np.int64)
        kinds = [np.full(len(indices), NODE_KINDS.index(kind)) for kind, indices, _ in self._switches]
        pairs = [np.stack([a, b, b, a], axis=1).reshape(-1, 2) for a, b, _ in self._cables]
        ends = np.concatenate([none.reshape(0, 2), *pairs])
        counts = [len(pair) for pair in pairs]
        made = {
            "node_kinds": np.concatenate([none, *kinds]),
            "node_hosts": np.full(self._num_nodes - hosts.num_nodes, -1),
            "node_indices": np.concatenate([none, *(indices for _, indices, _ in self._switches)]),
            "node_rails": np.concatenate([none, *(rails for _, _, rails in self._switches)]),
            "src": ends[:, 0],
            "dst": ends[:, 1],
            "link_kinds": np.full(len(ends), LINK_KINDS.index(LinkKind.NETWORK)),
            "bandwidths": np.repeat(np.array([wire.bandwidth for *_, wire in self._cables], np.float64), counts),
            "latencies_ps": np.repeat(np.array([wire.latency_ps for *_, wire in self._cables], np.int64), counts),
        }
        columns: dict[str, Any] = {each.name: getattr(hosts, each.name) for each in fields(hosts)}
        columns |= {key: _behind(columns[key], value) for key, value in made.items()}
        if self._names:
            columns["labels"] = hosts.names + self._names
        if not self._cables:  # no endpoint has a NIC to reach others by
            columns |= {"nics_first": np.zeros(hosts.num_ranks + 1, np.int64), "nics": none.astype(np.int32)}
        return Fabric(**columns, stages=stages, **about)


def _behind(first: npt.NDArray[Any], more: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([first, more.astype(first.dtype)])


def _beside(a: Graph, b: Graph) -> Graph:
    """Two sets of hosts as one; ``b`` numbers its hosts on from those of ``a``."""
    moved = {"src": a.num_nodes, "dst": a.num_nodes, "endpoints": a.num_nodes, "nics": a.num_nodes}
    rest = ("node_kinds", "node_hosts", "node_indices", "node_rails", "link_kinds", "bandwidths", "latencies_ps")
    joined: dict[str, Any] = {key: _behind(getattr(a, key), getattr(b, key) + step) for key, step in moved.items()}
    joined |= {key: _behind(getattr(a, key), getattr(b, key)) for key in (*rest, "wirings")}
    return replace(a, **joined, nics_first=_behind(a.nics_first, b.nics_first[1:] + a.nics_first[-1]))
