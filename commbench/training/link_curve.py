# SPDX-License-Identifier: Apache-2.0
"""What communication of a step reaches on a fabric's links: the curve of ``workload.step_costs`` as a library.

The messages are those of the ideal library, so links are loaded and shared as with it; how long they take alone is the
curve's, in which synchronisation of the ranks of a step is contained.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, ClassVar

from commbench.libraries.base import Choice, Layout, Timing, Wanted
from commbench.libraries.ideal import Ideal
from commbench.libraries.nccl.library import host_nics, links_inside
from commbench.training.link_time import LinkTime
from commbench.training.step_hosts import StepHosts, shared_nics
from commbench.workload.step_costs import LinkCosts, StepCosts, nvlink_kind
from commbench.workload.step_plan import StepPlan

if TYPE_CHECKING:
    from commbench.network.transport import Connections
    from commbench.topology.fabric import Fabric

__all__ = ["LinkCurve", "hosts_of", "kinds_of", "timing_of_transfer"]

_INSIDE = ("nvswitch", "nvlink", "cube-mesh")
_BETWEEN = {"ib": "infiniband", "roce": "roce"}
_UNKNOWN = LinkCosts(
    share=1.0, half_bytes=0.0, latency_s=0.0, far_nics=1.0, transfer=1.0, nccl_share=1.0, nccl_wait_s=0.0
)


def kinds_of(fabric: "Fabric") -> tuple[str, str]:
    """Names in ``StepCosts`` of a fabric's links inside hosts and between them; "" where there are no constants."""
    kind, gigabytes = links_inside(fabric)
    inside = nvlink_kind(gigabytes * 1e9) if kind in _INSIDE else ""
    return inside, _BETWEEN.get(fabric.network, "")


def hosts_of(fabric: "Fabric", costs: StepCosts) -> StepHosts:
    """A fabric's hosts as steps see them; the rate of links without constants is endless."""
    inside, between = kinds_of(fabric)
    (nics, gbps), gpus = host_nics(fabric), int((fabric.host_of == 0).sum())
    rate = links_inside(fabric)[1] * 1e9 if inside else inf
    return StepHosts(
        gpus=gpus,
        inside=rate,
        between=nics * gbps * 1e9 / 8 if between else inf,
        links_inside=costs.links(inside) if inside else _UNKNOWN,
        links_between=costs.links(between) if between else _UNKNOWN,
        shared_nics=shared_nics(nics, gpus, rate),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCurve:
    """The ideal library's choices, lasting as long as the curve says; over links without constants, as on the wire.

    Attributes:
        ideal: chooses. hosts: with the constants of their links.
        sharded_share: what all-gathers and reduce-scatters reach of it, as a stack's under ZeRO 3.
    """

    ideal: Ideal
    hosts: StepHosts
    sharded_share: float = 1.0
    name: str = "ideal"
    connections: "Connections | None" = None
    has_model: ClassVar[bool] = True

    @classmethod
    def of_plan(cls, plan: StepPlan, hosts: StepHosts, ideal: Ideal) -> "LinkCurve":
        """For a step, whose stack may reach less under ZeRO 3."""
        sharded = plan.stack.sharded_share if plan.stack is not None and plan.zero == 3 else 1.0
        return cls(ideal=ideal, hosts=hosts, sharded_share=sharded)

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """See :class:`commbench.libraries.base.Library`."""
        choice = self.ideal.choose(wanted, layout)
        share = self.sharded_share if wanted.kind in ("all-gather", "reduce-scatter") else 1.0
        size = wanted.num_elements * wanted.element_bytes
        found = self.hosts.collective(wanted.kind, size, len(layout.hosts), layout.ranks_per_host, share)
        return replace(choice, timing=_timing(self.hosts, layout, choice.name, choice.request.channels, found))

    def transfer(self, num_bytes: int, layout: Layout) -> Timing | None:
        """See :class:`commbench.libraries.base.TransferTimes`."""
        return timing_of_transfer(self.hosts, num_bytes, layout)


def timing_of_transfer(hosts: StepHosts, num_bytes: int, layout: Layout) -> Timing | None:
    """Of a transfer between stages; None over links without constants: as long as on the wire."""
    return _timing(hosts, layout, "transfer", 1, hosts.transfer(num_bytes, near=layout.num_hosts == 1))


def _timing(hosts: StepHosts, layout: Layout, called: str, channels: int, found: LinkTime) -> Timing | None:
    if (hosts.inside if layout.num_hosts == 1 else hosts.between) == inf:
        return None
    terms = {"latency": found.latency_s, "wire": found.wire_s}
    return Timing(called=called, channels=channels, delay_s=found.latency_s, wire_s=found.wire_s, terms=terms)
