# SPDX-License-Identifier: Apache-2.0
"""Faults: what goes wrong and when, as the emulated and the simulated fabric both take it (fault_files has the format).

Times count from the first measured iteration. A factor is of the link's (the rank's) own, not of what it had before: 1
mends, 0 takes the link down. Ranks are those of the topology.
"""

from dataclasses import dataclass

from commbench.errors import TopologyError
from commbench.topology.fabric import Fabric
from commbench.units import format_time, seconds

__all__ = ["Background", "Fault", "FaultScript", "KilledRank", "LinkFault", "SlowRank", "require_fits"]


@dataclass(frozen=True, slots=True)
class LinkFault:
    """From ``at_ps`` on the link from node ``src`` to node ``dst`` has ``factor`` of its bandwidth; 0 is down."""

    at_ps: int
    src: str
    dst: str
    factor: float

    def __str__(self) -> str:
        return f"link {self.src} -> {self.dst} {_at(self.at_ps)}, factor {self.factor:g}"


@dataclass(frozen=True, slots=True)
class SlowRank:
    """From ``at_ps`` on the processor of a rank runs for ``factor`` of the time; 1 is all of it."""

    at_ps: int
    rank: int
    factor: float

    def __str__(self) -> str:
        return f"slow-rank {self.rank} {_at(self.at_ps)}, factor {self.factor:g}"


@dataclass(frozen=True, slots=True)
class KilledRank:
    """At ``at_ps`` a rank dies without a word."""

    at_ps: int
    rank: int

    def __str__(self) -> str:
        return f"killed-rank {self.rank} {_at(self.at_ps)}"


@dataclass(frozen=True, slots=True)
class Background:
    """At ``at_ps`` the host of rank ``src`` starts to send ``num_bytes`` of payload to that of rank ``dst``."""

    at_ps: int
    src: int
    dst: int
    num_bytes: int

    def __str__(self) -> str:
        return f"background {self.src} -> {self.dst} {_at(self.at_ps)}"


def _at(time_ps: int) -> str:
    """When, as files write it."""
    return f"at {format_time(seconds(time_ps))}"


Fault = LinkFault | SlowRank | KilledRank | Background


@dataclass(frozen=True, slots=True)
class FaultScript:
    """Faults in the order of their times, those of one time in the order of the file; ``origin`` is the file."""

    faults: tuple[Fault, ...]
    origin: str


def require_fits(script: FaultScript, topology: Fabric) -> None:
    """Refuse a script that speaks of links or ranks that the topology does not have.

    Raises:
        TopologyError: names the file, the fault and what is missing.
    """
    for fault in script.faults:
        if isinstance(fault, LinkFault):
            if not len(topology.links_between(fault.src, fault.dst)):
                raise TopologyError(f"{script.origin}: {fault}: {topology.name} has no link {fault.src} -> {fault.dst}")
            continue
        for rank in (fault.src, fault.dst) if isinstance(fault, Background) else (fault.rank,):
            if rank >= topology.num_ranks:
                raise TopologyError(
                    f"{script.origin}: {fault}: {topology.name} has the ranks 0..{topology.num_ranks - 1}"
                )
