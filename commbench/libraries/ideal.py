# SPDX-License-Identifier: Apache-2.0
"""The library that does what its user says, at wire speed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.errors import InputError
from commbench.libraries.base import Choice, Layout, Wanted
from commbench.network.transport import Connections

__all__ = ["Ideal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ideal:
    """Algorithms by name.

    Attributes:
        algorithms: collective -> algorithm, by name or as such, or a schedule that was verified.
        slices: pieces to pipeline in; None takes the algorithm's own.
        channels: pieces that run side by side; None: rings over several hosts get as many as the fullest host has ranks
            of the group, which leave the hosts by different ranks, as NCCL's do; others one.
        group: ranks per host that the user names, whatever the layout says. ranks_per_host: the same for hierarchical
            algorithms alone, others go by the layout; None takes its fullest host.
    """

    algorithms: Mapping[str, str | Algorithm | Schedule] = field(default_factory=dict)
    slices: int | None = None
    channels: int | None = 1
    group: int | None = None
    ranks_per_host: int | None = None
    name: str = "ideal"
    connections: Connections | None = None
    has_model: ClassVar[bool] = False

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """See :class:`commbench.libraries.base.Library`."""
        if wanted.kind not in self.algorithms:
            raise InputError(f"library {self.name}: no algorithm is named for {wanted.kind}")
        named = self.algorithms[wanted.kind]
        algorithm = get_algorithm(wanted.kind, named) if isinstance(named, str) else named
        if isinstance(algorithm, Schedule):
            return self._as_it_is(algorithm, wanted, layout)
        rings = algorithm.name == "ring" and layout.num_hosts > 1
        own = layout.ranks_per_host if rings else 1
        request = Request(
            num_ranks=len(layout.hosts),
            slices=algorithm.default_slices if self.slices is None else self.slices,
            channels=own if self.channels is None else self.channels,
            root=wanted.root,
            group=self.group or self.ranks_per_host or layout.ranks_per_host,
            hosts=layout.hosts if self.group is None else None,
            ways=layout.ways if self.group is None else (),
            num_elements=wanted.num_elements,
            element_bytes=wanted.element_bytes,
        )
        return Choice(algorithm=algorithm, request=request)

    def _as_it_is(self, schedule: Schedule, wanted: Wanted, layout: Layout) -> Choice:
        if self.slices is not None or self.channels not in (None, 1):
            raise InputError(
                f"schedule {schedule.algorithm} has its own steps and channels: give no --slices and no --channels"
            )
        request = Request(
            num_ranks=len(layout.hosts),
            root=wanted.root,
            num_elements=wanted.num_elements,
            element_bytes=wanted.element_bytes,
        )
        return Choice(algorithm=schedule, request=request)
