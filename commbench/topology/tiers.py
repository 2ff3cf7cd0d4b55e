# SPDX-License-Identifier: Apache-2.0
"""The shape of a tree of switches in a few numbers, before any switch or link of it exists.

A star, a leaf-spine fabric and fat trees of three tiers are one family. From the leaves up, each tier says how many
of the subtrees below it one switch joins, and how many switches stand above each node of the tier below. Everything
else follows (:func:`commbench.topology.clos.clos`). Bandwidth above the leaves is never typed in: it follows from the
links below and the oversubscription, which is (bandwidth down) / (bandwidth up) of a switch.

Source: S. R. Öhring, M. Ibel, S. K. Das, M. J. Kumar, "On generalized fat trees", IPPS 1995: the extended generalized
fat tree XGFT(h; m1, .., mh; w1, .., wh); w1 are the planes.
"""

import math
from dataclasses import asdict, dataclass

from commbench.errors import TopologyError
from commbench.topology.model import NodeKind
from commbench.topology.parts import Wire

__all__ = [
    "Pods",
    "Tier",
    "check_pods",
    "check_positive",
    "check_units",
    "k_ary",
    "star",
    "three_tier",
    "two_tier",
]


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of switches.

    Attributes:
        kind: what its switches are.
        below: subtrees under one switch: hosts of a leaf, leaves of a pod, pods of the fabric (m in the source).
        above: switches of this tier over each node of the tier below: 1 leaf over a NIC, or one in each plane, the
            spines over a leaf, the cores over a spine (w in the source).
        wire: one direction of one link from below. cables: such links between two switches.
    """

    kind: NodeKind
    below: int
    above: int
    wire: Wire
    cables: int = 1


@dataclass(frozen=True, slots=True)
class Pods:
    """Three tiers in counts: ``cores`` are those of the whole fabric, the rest is one pod's."""

    hosts_per_leaf: int
    leaves_per_pod: int
    spines_per_pod: int
    cores: int

    @property
    def hosts(self) -> int:
        """Hosts of one pod."""
        return self.hosts_per_leaf * self.leaves_per_pod


def k_ary(k: int) -> Pods:
    """A pod of the k-ary fat tree, in which every switch has k ports. With its k pods it has k^3/4 hosts.

    Switches: k^2/2 leaves + k^2/2 spines + k^2/4 cores = 5 k^2/4.

    Raises:
        TopologyError: k is odd or below 2.

    Source: M. Al-Fares, A. Loukissas, A. Vahdat, "A Scalable, Commodity Data Center Network Architecture",
    SIGCOMM 2008, section 3.
    """
    if k < 2 or k % 2:
        raise TopologyError(f"fabric.k: {k} must be even and at least 2 (k/2 ports down, k/2 up)")
    half = k // 2
    return Pods(half, half, half, half * half)


def star(hosts: int, *, downlink: Wire) -> tuple[Tier, ...]:
    """All NICs of all hosts on one switch, ``leaf0``. Directed links, hosts apart: 2 x NICs."""
    return (Tier(NodeKind.LEAF, hosts, 1, downlink),)


def two_tier(
    hosts: int,
    nics: int,
    *,
    hosts_per_leaf: int,
    spines: int,
    oversubscription: float,
    downlink: Wire,
    uplink_latency_ps: int,
    rails: bool = False,
) -> tuple[Tier, ...]:
    """Two tiers: every leaf joins all NICs of its hosts and every spine.

    ::

        spine0    spine1          leaves L = hosts / hosts_per_leaf
          | \\ __ / |              directed links, hosts apart: 2 (hosts x nics + L x spines)
          | /    \\ |              uplink bandwidth = hosts_per_leaf x nics x downlink
        leaf0     leaf1                              / (oversubscription x spines)
        h0 h1     h2 h3

    With rails, NIC r of every host goes to the unit's leaf of rail r::

              spine0 .. spineS-1                 a unit = hosts_per_leaf hosts and one leaf per rail
             /   |   X   |   \\                   rail r of unit u is leaf (u x nics + r)
        leaf0 (rail 0)  leaf1 (rail 1)           uplink bandwidth = hosts_per_leaf x downlink
          |  \\          /  |                                       / (oversubscription x spines)
        h0/nic0 h1/nic0  h0/nic1 h1/nic1

    With U = hosts / hosts_per_leaf units: U x nics leaves; directed links, hosts apart:
    2 (hosts x nics + U x nics x spines).

    Args:
        hosts: number of hosts, a multiple of hosts_per_leaf.
        nics: NICs of every host.
        hosts_per_leaf: hosts on one leaf; with rails, of one unit.
        spines: spine switches.
        oversubscription: (bandwidth into a leaf from below) / (bandwidth out at its top); 1 never blocks.
        downlink: one direction of one NIC-leaf link.
        uplink_latency_ps: latency of one leaf-spine link, picoseconds.
        rails: whether each rail has leaves of its own.

    Raises:
        TopologyError: a parameter out of range, or hosts not a multiple of hosts_per_leaf.

    Source: folded Clos network; C. Clos, "A study of non-blocking switching networks", 1953. Rails: NVIDIA DGX SuperPOD
    reference architecture, compute fabric (rail-optimized, full fat tree).
    """
    check_units(hosts, hosts_per_leaf)
    check_positive(spines=spines, oversubscription=oversubscription)
    into_leaf, leaves = hosts_per_leaf * (1 if rails else nics), hosts // hosts_per_leaf * (nics if rails else 1)
    uplink = downlink.times(into_leaf / (oversubscription * spines))
    return (
        Tier(NodeKind.LEAF, hosts_per_leaf, 1, downlink),
        Tier(NodeKind.SPINE, leaves, spines, Wire(uplink.bandwidth, uplink_latency_ps)),
    )


def three_tier(
    hosts: int,
    nics: int,
    *,
    pods: Pods,
    leaf_oversubscription: float,
    spine_oversubscription: float,
    downlink: Wire,
    uplink_latency_ps: int,
    core_latency_ps: int,
    rails: bool = False,
) -> tuple[Tier, ...]:
    """Three tiers: pods of leaves and spines, under cores in planes.

    ::

                 core0 core1 | core2 core3        2 spines in a pod and 4 cores make 2 planes of 2 cores; spine j
        pod 0      '--.--'       '--.--'          of every pod joins all cores of plane j and no other:
                    spine0        spine1          cores j P .. j P + P - 1, with P = cores / spines_per_pod
                      | \\_______/ |
                    leaf0         leaf1           inside a pod every leaf joins every spine
                    h0 h1         h2 h3

    With L leaves and S spines in all: directed links, hosts apart: 2 (hosts x nics + L x spines_per_pod + S x P).
    Leaf-spine bandwidth = downlink x hosts_per_leaf x nics / (spines_per_pod x leaf_oversubscription); spine-core
    bandwidth = leaf-spine x leaves_per_pod / (P x spine_oversubscription).

    Args:
        hosts: number of hosts, a multiple of a pod's.
        nics: NICs of every host.
        pods: what a pod holds, and the cores, a multiple of its spines.
        leaf_oversubscription: bandwidth below / above a leaf; 1 never blocks.
        spine_oversubscription: bandwidth below / above a spine.
        downlink: one direction of one NIC-leaf link.
        uplink_latency_ps: latency of one leaf-spine link, picoseconds.
        core_latency_ps: latency of one spine-core link, picoseconds.
        rails: NIC r of every host goes to a leaf of rail r, of which a pod has leaves_per_pod / nics; inside a pod
            every leaf of every rail joins every spine.

    Raises:
        TopologyError: a parameter out of range, hosts that do not fill whole pods, or cores that do not fill planes.
    """
    ratios = {"leaf": leaf_oversubscription, "spine": spine_oversubscription}
    check_positive(**{f"oversubscription.{tier}": ratio for tier, ratio in ratios.items()})
    check_pods(hosts, pods, rails=nics if rails else 1)
    plane = pods.cores // pods.spines_per_pod
    into_leaf = pods.hosts_per_leaf * (1 if rails else nics)
    uplink = downlink.bandwidth * (into_leaf / pods.spines_per_pod) / leaf_oversubscription
    core_link = uplink * (pods.leaves_per_pod / plane) / spine_oversubscription
    return (
        Tier(NodeKind.LEAF, pods.hosts_per_leaf, 1, downlink),
        Tier(NodeKind.SPINE, pods.leaves_per_pod, pods.spines_per_pod, Wire(uplink, uplink_latency_ps)),
        Tier(NodeKind.CORE, hosts * (nics if rails else 1) // pods.hosts, plane, Wire(core_link, core_latency_ps)),
    )


def check_pods(hosts: int, pods: Pods, *, rails: int = 1) -> None:
    """Refuse hosts that do not fill whole pods, or cores that do not fill whole planes.

    Raises:
        TopologyError: they do not, or the leaves of a pod are no multiple of its rails.
    """
    check_positive(**asdict(pods))
    if pods.leaves_per_pod % rails:
        raise TopologyError(f"fabric.leaves_per_pod: {pods.leaves_per_pod} is not a multiple of host.nics {rails}")
    if hosts * rails % pods.hosts:
        rule = f"hosts_per_leaf {pods.hosts_per_leaf} x leaves_per_pod {pods.leaves_per_pod}"
        rule += f" / host.nics {rails}" if rails > 1 else ""
        raise TopologyError(f"fabric.hosts: {hosts} is not a multiple of {rule} = {pods.hosts // rails}")
    if pods.cores % pods.spines_per_pod:
        raise TopologyError(f"fabric.cores: {pods.cores} is not a multiple of spines_per_pod {pods.spines_per_pod}")


def check_units(hosts: int, hosts_per_leaf: int) -> None:
    """Refuse hosts that do not fill whole leaves.

    Raises:
        TopologyError: hosts_per_leaf is not above zero, or hosts no multiple of it.
    """
    check_positive(hosts_per_leaf=hosts_per_leaf)
    if hosts % hosts_per_leaf:
        raise TopologyError(f"fabric.hosts: {hosts} is not a multiple of hosts_per_leaf {hosts_per_leaf}")


def check_positive(**values: float) -> None:
    """Refuse keys of the fabric section that must be above zero.

    Raises:
        TopologyError: zero, negative or not finite.
    """
    for key, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise TopologyError(f"fabric.{key}: {value} must be above zero")
