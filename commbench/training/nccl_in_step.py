# SPDX-License-Identifier: Apache-2.0
"""NCCL's model in a training step, and what its collectives lose there.

The model is made from nccl-tests, where nothing but one collective runs and all ranks come at once. In a step ranks
come late and kernels, NICs and hosts have other work, by how much the constants of links say (``nccl_share``,
``nccl_wait`` in ``workload/tables/steps.yaml``, fitted to published steps by ``python -m benchmarks.published --fit``).
Here alone they are put on top of the model: for the simulator, for ``plan`` and for the closed form.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from commbench.libraries.base import Choice, Layout, Timing, Wanted
from commbench.libraries.nccl.library import NcclLibrary
from commbench.training.link_curve import timing_of_transfer
from commbench.training.link_time import LinkTime
from commbench.training.step_hosts import StepHosts
from commbench.workload.step_plan import StepPlan

if TYPE_CHECKING:
    from commbench.network.transport import Connections

__all__ = ["NcclHosts", "NcclInStep"]


def _in_step(hosts: StepHosts, alone: LinkTime, ranks: int, here: int, share: float) -> LinkTime:
    """A collective over ``ranks`` ranks, ``here`` on a host, as a step has it.

    Args:
        alone: by NCCL's model. share: that it reaches of what others do (``StackCosts.sharded_share``).
    """
    several = -(-ranks // here)
    links = hosts.links_between if several > 1 else hosts.links_inside
    wait = hosts.links_inside.nccl_wait_s * (here - 1).bit_length()
    if several > 1:
        wait = max(wait, hosts.links_between.nccl_wait_s * (several - 1).bit_length())
    return LinkTime(alone.latency_s + wait, alone.wire_s / (links.nccl_share * share))


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclInStep:
    """NCCL's or RCCL's choices, lasting as long as in a step; over links without constants, as long as alone.

    Attributes:
        model: chooses, and says what a collective takes alone. hosts: with the constants of their links.
        sharded_share: what all-gathers and reduce-scatters reach of it, as a stack's under ZeRO 3.
        connections: none; what messages cost is in the model.
    """

    model: NcclLibrary
    hosts: StepHosts
    sharded_share: float = 1.0
    connections: "Connections | None" = None
    has_model: ClassVar[bool] = True

    @classmethod
    def of_plan(cls, plan: StepPlan, hosts: StepHosts, model: NcclLibrary) -> "NcclInStep":
        """For a step, whose stack may reach less under ZeRO 3."""
        sharded = plan.stack.sharded_share if plan.stack is not None and plan.zero == 3 else 1.0
        return cls(model=model, hosts=hosts, sharded_share=sharded)

    @property
    def name(self) -> str:
        """Of the library."""
        return self.model.name

    @property
    def version(self) -> str:
        """Of the library."""
        return self.model.version

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """See :class:`commbench.libraries.base.Library`."""
        choice = self.model.choose(wanted, layout)
        timing = choice.timing
        assert timing is not None
        share = self.sharded_share if wanted.kind in ("all-gather", "reduce-scatter") else 1.0
        alone = LinkTime(timing.delay_s, timing.wire_s)
        found = _in_step(self.hosts, alone, len(layout.hosts), layout.ranks_per_host, share)
        lost = {"in step": found.total_s - alone.total_s}
        return replace(
            choice,
            timing=replace(timing, delay_s=found.latency_s, wire_s=found.wire_s, terms={**timing.terms, **lost}),
        )

    def transfer(self, num_bytes: int, layout: Layout) -> Timing | None:
        """See :class:`commbench.libraries.base.TransferTimes`: as links reach in steps."""
        return timing_of_transfer(self.hosts, num_bytes, layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclHosts:
    """``step_hosts.StepPrices`` by NCCL's model in a step.

    Attributes:
        model: of the whole cluster. hosts: with the constants of their links.
        known: what the model said of (collective, bytes, ranks, ranks on a host).
    """

    model: NcclLibrary
    hosts: StepHosts
    known: dict[tuple[str, int, int, int], LinkTime] = field(default_factory=dict)

    def of_group(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> LinkTime:
        """See :class:`commbench.training.step_hosts.StepPrices`."""
        if ranks == 1 or size_bytes == 0:
            return LinkTime(0.0, 0.0)
        here = self.hosts.here(ranks, stride)
        key = (name, size_bytes, ranks, here)
        if key not in self.known:
            layout = Layout(tuple(rank // here for rank in range(ranks)))
            timing = self.model.choose(Wanted(name, size_bytes, 1), layout).timing
            assert timing is not None
            self.known[key] = LinkTime(timing.delay_s, timing.wire_s)
        return _in_step(self.hosts, self.known[key], ranks, here, share)

    def of_boundary(self, size_bytes: int, src: int, dst: int, width: int) -> LinkTime:
        """See :class:`commbench.training.step_hosts.StepPrices`."""
        return self.hosts.of_boundary(size_bytes, src, dst, width)
