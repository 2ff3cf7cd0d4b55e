# SPDX-License-Identifier: Apache-2.0
"""How hosts are joined: pure functions from host parts to the parts of a whole fabric.

Every fabric keeps two promises that routing relies on. Host h hangs on leaf ``h // hosts_per_leaf`` (or, with
rails, on the leaves of unit ``h // hosts_per_leaf``), and every switch lists its upward neighbours in index
order, so "neighbour number d % n" means the same switch each time. Bandwidth above the leaves is never typed
in: it follows from the links below and the oversubscription, which is (bandwidth down) / (bandwidth up) of a
switch.
"""

import math
from collections.abc import Sequence

from commbench.errors import TopologyError
from commbench.topology.model import LinkKind, Node, NodeKind
from commbench.topology.parts import Parts, Wire, join, pairs

__all__ = ["fat_tree", "leaf_spine", "rail_only", "rail_optimized", "single", "star"]


def single(hosts: Sequence[Parts]) -> Parts:
    """One host and no network. No endpoint has a NIC to reach others by, so ``nic_of`` is empty.

    Raises:
        TopologyError: not exactly one host.
    """
    if len(hosts) != 1:
        raise TopologyError(f"fabric.kind: 'none' joins nothing, so it takes one host, not {len(hosts)}")
    return Parts(hosts[0].nodes, hosts[0].cables, hosts[0].ranks)


def star(hosts: Sequence[Parts], *, downlink: Wire) -> Parts:
    """All NICs of all hosts on one switch, ``leaf0``.

    Nodes: 1 + those of the hosts. Directed links: 2 x NICs + those of the hosts.

    Args:
        hosts: the hosts, 1 or more.
        downlink: one direction of one NIC-leaf link.

    Raises:
        TopologyError: no host, or a host without a NIC.
    """
    nics = _nics(hosts)
    leaf = _switches(NodeKind.LEAF, 1)
    ends = ((nic, leaf[0].name) for ports in nics for nic in ports)
    return join(*hosts, Parts(leaf, pairs(ends, LinkKind.NETWORK, downlink)))


def leaf_spine(
    hosts: Sequence[Parts],
    *,
    hosts_per_leaf: int,
    spines: int,
    oversubscription: float,
    downlink: Wire,
    uplink_latency_ps: int,
) -> Parts:
    """Two tiers: every leaf joins ``hosts_per_leaf`` hosts (all their NICs) and every spine.

    ::

        spine0    spine1          leaves L = hosts / hosts_per_leaf
          | \\ __ / |              directed links, hosts apart: 2 (hosts x nics + L x spines)
          | /    \\ |              uplink bandwidth = hosts_per_leaf x nics x downlink
        leaf0     leaf1                              / (oversubscription x spines)
        h0 h1     h2 h3

    Args:
        hosts: the hosts; their number is a multiple of hosts_per_leaf, all have the same number of NICs.
        hosts_per_leaf: hosts on one leaf.
        spines: spine switches.
        oversubscription: (bandwidth into a leaf from below) / (bandwidth out at its top); 1 never blocks.
        downlink: one direction of one NIC-leaf link.
        uplink_latency_ps: latency of one leaf-spine link, picoseconds.

    Raises:
        TopologyError: a parameter out of range, or hosts not a multiple of hosts_per_leaf.

    Source: folded Clos network; C. Clos, "A study of non-blocking switching networks", 1953.
    """
    nics = _nics(hosts)
    _check_units(len(hosts), hosts_per_leaf)
    _positive(spines=spines, oversubscription=oversubscription)
    leaves = _switches(NodeKind.LEAF, len(hosts) // hosts_per_leaf)
    tops = _switches(NodeKind.SPINE, spines)
    down = ((nic, leaves[h // hosts_per_leaf].name) for h, ports in enumerate(nics) for nic in ports)
    ratio = hosts_per_leaf * len(nics[0]) / (oversubscription * spines)
    uplink = Wire(downlink.bandwidth * ratio, uplink_latency_ps)
    cables = pairs(down, LinkKind.NETWORK, downlink) + pairs(_all(leaves, tops), LinkKind.NETWORK, uplink)
    return join(*hosts, Parts(leaves + tops, cables))


def fat_tree(
    hosts: Sequence[Parts],
    *,
    k: int,
    leaf_oversubscription: float,
    spine_oversubscription: float,
    downlink: Wire,
    uplink_latency_ps: int,
    core_latency_ps: int,
) -> Parts:
    """The k-ary fat tree of three tiers: k pods, each of k/2 leaves and k/2 spines, under (k/2)^2 cores.

    ::

                 core0 core1 | core2 core3        k = 4; spine j of every pod joins
        pod 0      '--.--'       '--.--'          cores j k/2 .. j k/2 + k/2 - 1
                    spine0        spine1
                      | \\_______/ |
                    leaf0         leaf1
                    h0 h1         h2 h3

    Hosts: k^3/4. Switches: k^2/2 leaves + k^2/2 spines + k^2/4 cores = 5 k^2/4.
    Directed links, hosts apart: 2 (nics k^3/4 + k^3/4 + k^3/4).
    Leaf-spine bandwidth = nics x downlink / leaf_oversubscription; spine-core, that / spine_oversubscription.

    Args:
        hosts: k^3/4 hosts; all have the same number of NICs.
        k: ports of a switch, even.
        leaf_oversubscription: bandwidth below / above a leaf.
        spine_oversubscription: bandwidth below / above a spine.
        downlink: one direction of one NIC-leaf link.
        uplink_latency_ps: latency of one leaf-spine link, picoseconds.
        core_latency_ps: latency of one spine-core link, picoseconds.

    Raises:
        TopologyError: k is odd or below 2, a ratio that is not above zero, or another number of hosts.

    Source: M. Al-Fares, A. Loukissas, A. Vahdat, "A Scalable, Commodity Data Center Network Architecture",
    SIGCOMM 2008, section 3.
    """
    half = check_arity(k)
    if len(hosts) != k * half * half:
        raise TopologyError(f"fabric.k: {k} makes a tree of k^3/4 = {k * half**2} hosts, not {len(hosts)}")
    ratios = {"leaf": leaf_oversubscription, "spine": spine_oversubscription}
    _positive(**{f"oversubscription.{tier}": ratio for tier, ratio in ratios.items()})
    nics = _nics(hosts)
    leaves, spines = _switches(NodeKind.LEAF, k * half), _switches(NodeKind.SPINE, k * half)
    cores = _switches(NodeKind.CORE, half * half)
    uplink = Wire(downlink.bandwidth * len(nics[0]) / leaf_oversubscription, uplink_latency_ps)
    core_link = Wire(uplink.bandwidth / spine_oversubscription, core_latency_ps)
    down = ((nic, leaves[h // half].name) for h, ports in enumerate(nics) for nic in ports)
    up = (end for p in range(0, k * half, half) for end in _all(leaves[p : p + half], spines[p : p + half]))
    top = (end for i, spine in enumerate(spines) for end in _all([spine], cores[i % half * half :][:half]))
    cables = pairs(down, LinkKind.NETWORK, downlink) + pairs(up, LinkKind.NETWORK, uplink)
    return join(*hosts, Parts(leaves + spines + cores, cables + pairs(top, LinkKind.NETWORK, core_link)))


def rail_optimized(
    hosts: Sequence[Parts],
    *,
    hosts_per_leaf: int,
    spines: int,
    oversubscription: float,
    downlink: Wire,
    uplink_latency_ps: int,
) -> Parts:
    """NIC r of every host goes to the unit's leaf of rail r; every leaf joins every spine.

    ::

              spine0 .. spineS-1                 a unit = hosts_per_leaf hosts and one leaf per rail
             /   |   X   |   \\                   rail r of unit u is leaf (u x nics + r)
        leaf0 (rail 0)  leaf1 (rail 1)           uplink bandwidth = hosts_per_leaf x downlink
          |  \\          /  |                                       / (oversubscription x spines)
        h0/nic0 h1/nic0  h0/nic1 h1/nic1

    With U = hosts / hosts_per_leaf units: U x nics leaves; directed links, hosts apart:
    2 (hosts x nics + U x nics x spines).

    Args:
        hosts: the hosts; their number is a multiple of hosts_per_leaf, all have the same number of NICs.
        hosts_per_leaf: hosts of one unit.
        spines: spine switches.
        oversubscription: (bandwidth into a leaf from below) / (bandwidth out at its top).
        downlink: one direction of one NIC-leaf link.
        uplink_latency_ps: latency of one leaf-spine link, picoseconds.

    Raises:
        TopologyError: a parameter out of range, or hosts not a multiple of hosts_per_leaf.

    Source: NVIDIA DGX SuperPOD reference architecture, compute fabric (rail-optimized, full fat tree).
    """
    nics = _nics(hosts)
    _check_units(len(hosts), hosts_per_leaf)
    _positive(spines=spines, oversubscription=oversubscription)
    rails = len(nics[0])
    leaves = _rail_leaves(len(hosts) // hosts_per_leaf, rails)
    tops = _switches(NodeKind.SPINE, spines)
    first = [h // hosts_per_leaf * rails for h in range(len(hosts))]
    down = ((nic, leaves[first[h] + r].name) for h, ports in enumerate(nics) for r, nic in enumerate(ports))
    uplink = Wire(downlink.bandwidth * hosts_per_leaf / (oversubscription * spines), uplink_latency_ps)
    cables = pairs(down, LinkKind.NETWORK, downlink) + pairs(_all(leaves, tops), LinkKind.NETWORK, uplink)
    return join(*hosts, Parts(leaves + tops, cables))


def rail_only(hosts: Sequence[Parts], *, downlink: Wire) -> Parts:
    """NIC r of every host goes to leaf r, and nothing joins the leaves: rails meet only inside a host.

    ::

        leaf0 (rail 0)   leaf1 (rail 1)    leaves = nics
          |  \\            |  \\             directed links, hosts apart: 2 x hosts x nics
        h0    h1         h0    h1          traffic between rails crosses NVLink first (PXN)

    Args:
        hosts: the hosts; all have the same number of NICs.
        downlink: one direction of one NIC-leaf link.

    Raises:
        TopologyError: no host, or hosts that differ in their number of NICs.

    Source: W. Wang et al., "Rail-only: A Low-Cost High-Performance Network for Training LLMs with Trillion
    Parameters", HotI 2024.
    """
    nics = _nics(hosts)
    leaves = _rail_leaves(1, len(nics[0]))
    down = ((nic, leaves[r].name) for ports in nics for r, nic in enumerate(ports))
    return join(*hosts, Parts(leaves, pairs(down, LinkKind.NETWORK, downlink)))


def check_arity(k: int) -> int:
    """Half of a fat tree's k.

    Raises:
        TopologyError: k is odd or below 2.
    """
    if k < 2 or k % 2:
        raise TopologyError(f"fabric.k: {k} must be even and at least 2 (k/2 ports down, k/2 up)")
    return k // 2


def _switches(kind: NodeKind, count: int) -> tuple[Node, ...]:
    return tuple(Node(f"{kind.value}{i}", kind, None, i) for i in range(count))


def _rail_leaves(units: int, rails: int) -> tuple[Node, ...]:
    return tuple(Node(f"leaf{i}", NodeKind.LEAF, None, i, i % rails) for i in range(units * rails))


def _all(below: Sequence[Node], above: Sequence[Node]) -> list[tuple[str, str]]:
    """Every pair, the upper switches in index order for each lower one."""
    return [(a.name, b.name) for a in below for b in above]


def _nics(hosts: Sequence[Parts]) -> list[list[str]]:
    """NIC names of each host; all hosts have the same number, one or more."""
    nics = [[node.name for node in host.nodes if node.kind is NodeKind.NIC] for host in hosts]
    counts = {len(ports) for ports in nics}
    if not nics or counts == {0}:
        raise TopologyError("host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more")
    if len(counts) > 1:
        raise TopologyError(f"host.nics: {sorted(counts)} differ; a fabric needs as many NICs in every host")
    return nics


def _check_units(hosts: int, hosts_per_leaf: int) -> None:
    _positive(hosts_per_leaf=hosts_per_leaf)
    if hosts % hosts_per_leaf:
        raise TopologyError(f"fabric.hosts: {hosts} is not a multiple of hosts_per_leaf {hosts_per_leaf}")


def _positive(**values: float) -> None:
    for key, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise TopologyError(f"fabric.{key}: {value} must be above zero")
