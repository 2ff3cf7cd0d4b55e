# SPDX-License-Identifier: Apache-2.0
"""The kinds of fabric that are trees of switches (:mod:`commbench.topology.clos`), and that of one host alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from commbench.errors import TopologyError
from commbench.topology import tiers
from commbench.topology.cabling import Cabling
from commbench.topology.clos import clos
from commbench.topology.fabric import Stage
from commbench.topology.kinds import FabricKind, register
from commbench.topology.sections import (
    DerivedLinkSection,
    Hosts,
    LinkSection,
    Planes,
    Ports,
    Ratio,
    Section,
    Switches,
)

__all__ = ["NoFabric"]


@register
class NoFabric(FabricKind):
    """``kind: none``: one host."""

    kind: Literal["none"]

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """Nothing is added."""
        return ()

    def check_hosts(self, nics: int, routing: str) -> None:
        """Any host will do."""


class TreeKind(FabricKind):
    """A tree of switches: ``tiers`` says which, and ``links`` which sections its links are given in, from below."""

    downlink: LinkSection
    planes: Planes = 1
    rails: ClassVar[bool] = False
    with_rails: ClassVar[str] = "rail-optimized"  # the kind that has them

    def tiers(self, nics: int) -> tuple[tiers.Tier, ...]:
        """The switches over hosts of so many NICs, at line rate and with one cable for each link."""
        raise NotImplementedError

    def links(self) -> Sequence[LinkSection | DerivedLinkSection]:
        """Sections of the links below each tier."""
        return (self.downlink,)

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """The tree, with what flows get of each line rate."""
        made = self.tiers(net.nics_per_host)
        bundles = [getattr(link, "links", 1) for link in self.links()]
        shaped = [
            replace(tier, wire=tier.wire.times(link.share / cables), cables=cables)
            for tier, link, cables in zip(made, self.links(), bundles, strict=True)
        ]
        return clos(net, [replace(shaped[0], above=self.planes), *shaped[1:]], rails=self.rails)

    def check_hosts(self, nics: int, routing: str) -> None:
        """Routing by rails needs rails."""
        super().check_hosts(nics, routing)
        if routing == "rail-aware" and nics > 1 and not self.rails and len(self.links()) > 1:
            raise TopologyError(
                f"fabric.kind: {self.kind!r} has all {nics} NICs of a host on one leaf, so routing rail-aware "
                f"finds no rails; type `kind: {self.with_rails}`, or `routing: d-mod-k`"
            )


@register
class StarFabric(TreeKind):
    """``kind: star``: all NICs on one switch."""

    kind: Literal["star"]
    hosts: Hosts

    def tiers(self, nics: int) -> tuple[tiers.Tier, ...]:
        """One leaf."""
        return tiers.star(self.hosts, downlink=self.downlink.line)


class TwoTierFabric(TreeKind):
    """Two tiers, of whichever kind."""

    hosts: Hosts
    hosts_per_leaf: Hosts
    spines: Switches
    oversubscription: Ratio
    uplink: DerivedLinkSection

    def check(self) -> None:
        """Hosts fill whole leaves."""
        tiers.check_units(self.hosts, self.hosts_per_leaf)

    def tiers(self, nics: int) -> tuple[tiers.Tier, ...]:
        """Leaves and spines."""
        return tiers.two_tier(
            self.hosts,
            nics,
            hosts_per_leaf=self.hosts_per_leaf,
            spines=self.spines,
            oversubscription=self.oversubscription,
            downlink=self.downlink.line,
            uplink_latency_ps=self.uplink.latency.picoseconds,
            rails=self.rails,
        )

    def links(self) -> Sequence[LinkSection | DerivedLinkSection]:
        """Those below and above the leaves."""
        return (self.downlink, self.uplink)


@register
class LeafSpineFabric(TwoTierFabric):
    """``kind: leaf-spine``: all NICs of a host on one leaf."""

    kind: Literal["leaf-spine"]


class TierRatios(Section):
    """Oversubscription of the leaves and of the spines, in three tiers."""

    leaf: Ratio
    spine: Ratio


class ThreeTiers(TreeKind):
    """Three tiers, of whichever kind; ``pods`` are the counts of one."""

    oversubscription: TierRatios
    uplink: DerivedLinkSection
    core_link: DerivedLinkSection
    with_rails: ClassVar[str] = "rail-three-tier"

    @property
    def pods(self) -> tiers.Pods:
        """The counts together."""
        raise NotImplementedError

    def tiers(self, nics: int) -> tuple[tiers.Tier, ...]:
        """Leaves, spines and cores."""
        return tiers.three_tier(
            self.num_hosts,
            nics,
            pods=self.pods,
            leaf_oversubscription=self.oversubscription.leaf,
            spine_oversubscription=self.oversubscription.spine,
            downlink=self.downlink.line,
            uplink_latency_ps=self.uplink.latency.picoseconds,
            core_latency_ps=self.core_link.latency.picoseconds,
            rails=self.rails,
        )

    def links(self) -> Sequence[LinkSection | DerivedLinkSection]:
        """Those below each tier."""
        return (self.downlink, self.uplink, self.core_link)


@register
class FatTreeFabric(ThreeTiers):
    """``kind: fat-tree``: k-ary, three tiers, k^3/4 hosts."""

    kind: Literal["fat-tree"]
    k: Ports

    @property
    def pods(self) -> tiers.Pods:
        """The counts that follow from k."""
        return tiers.k_ary(self.k)

    @property
    def num_hosts(self) -> int:
        """Those of all k pods."""
        return self.k * self.pods.hosts

    def check(self) -> None:
        """Switches have as many ports up as down."""
        tiers.k_ary(self.k)


@register
class ThreeTierFabric(ThreeTiers):
    """``kind: three-tier``: pods of leaves and spines, under cores in one plane for each spine of a pod."""

    kind: Literal["three-tier"]
    hosts: Hosts
    hosts_per_leaf: Hosts
    leaves_per_pod: Switches
    spines_per_pod: Switches
    cores: Hosts

    @property
    def pods(self) -> tiers.Pods:
        """The counts together."""
        return tiers.Pods(self.hosts_per_leaf, self.leaves_per_pod, self.spines_per_pod, self.cores)

    def check(self) -> None:
        """Hosts fill whole pods, and cores whole planes."""
        if not self.rails:
            tiers.check_pods(self.hosts, self.pods)


@register
class RailOptimizedFabric(TwoTierFabric):
    """``kind: rail-optimized``: one leaf per rail and unit, under common spines."""

    kind: Literal["rail-optimized"]
    rails: ClassVar[bool] = True


@register
class RailThreeTierFabric(ThreeTierFabric):
    """``kind: rail-three-tier``: the same with a leaf for each rail; ``leaves_per_pod`` counts those of all rails."""

    kind: Literal["rail-three-tier"]  # type: ignore[assignment]
    rails: ClassVar[bool] = True

    def check_hosts(self, nics: int, routing: str) -> None:
        """Leaves share out to rails, and hosts fill whole pods."""
        super().check_hosts(nics, routing)
        tiers.check_pods(self.hosts, self.pods, rails=nics)


@register
class RailOnlyFabric(StarFabric):
    """``kind: rail-only``: one leaf per rail, no spines: rails meet only inside a host.

    Source: W. Wang et al., "Rail-only: A Low-Cost High-Performance Network for Training LLMs with Trillion Parameters",
    HotI 2024.
    """

    kind: Literal["rail-only"]  # type: ignore[assignment]
    rails: ClassVar[bool] = True
