# SPDX-License-Identifier: Apache-2.0
"""How much emulated traffic this machine carries, measured before a testbed is made that would measure the machine.

Two hosts and a switch between them, shaped so high that only the processors limit, and one TCP flow for each processor.
What crosses the links per second then is all that this machine can do while nothing else runs.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from commbench.emulate.kernel import PortShaping
from commbench.emulate.plan import TestbedPlan, plan_testbed, scaled
from commbench.emulate.tables import equal_cost
from commbench.emulate.testbed import Testbed
from commbench.errors import InputError
from commbench.live.processors import IDLE, processor_ticks
from commbench.results.environment import cores_usable
from commbench.topology.cabling import Cabling, copies
from commbench.topology.clos import clos
from commbench.topology.fabric import Fabric
from commbench.topology.hosts import plain_host
from commbench.topology.parts import Wire
from commbench.topology.tiers import star

__all__ = ["LADDER", "LARGEST_SHARE", "Capacity", "Idleness", "fitting", "measure_capacity", "require_carried"]

LARGEST_SHARE = 0.5
"""Of the measured capacity, that a testbed's links may add up to: ranks need the processors too (docs/emulate.md)."""

LADDER = tuple(mbit * 125e3 for mbit in (50, 40, 30, 20, 10, 5, 2, 1))
"""Host rates, bytes/s, fastest first. Above 50 Mbit/s the ranks of a few hosts fill a processor (docs/emulate.md)."""

_NO_LIMIT = Wire(4e9, 0)  # 32 Gbit/s of packets of 1500 bytes are more than the processors of one machine route
_WARM_S, _MEASURE_S = 0.3, 0.7
_MOST_FLOWS = 8


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was measured.

    Attributes:
        bytes_per_s: over all links together. flows: that made it. cores: they had. mtu: of their packets.
    """

    bytes_per_s: float
    flows: int
    cores: int
    mtu: int

    @property
    def allowed(self) -> float:
        """Bytes/s that the links of a testbed may add up to."""
        return LARGEST_SHARE * self.bytes_per_s


def measure_capacity(mtu: int = 1500, *, folder: Path | None = None) -> Capacity:
    """Measure for about a second, in a testbed of its own.

    Raises:
        RunError: the testbed cannot be made, or a flow ended early.
    """
    flows = min(cores_usable(), _MOST_FLOWS)
    topology = _two_hosts()
    plan = plan_testbed(topology, equal_cost(topology), routing="ecmp", mtu=mtu, num_background=flows)
    with Testbed(plan, shaping=PortShaping(burst_packets=64), folder=folder) as testbed:
        for number in range(flows):
            testbed.start_flow(number % 2, (number + 1) % 2, 0, plane=number + 1)
        time.sleep(_WARM_S)
        start, before = time.monotonic(), _sum(testbed)
        time.sleep(_MEASURE_S)
        rate = (_sum(testbed) - before) / (time.monotonic() - start)
        testbed.require_flows()
    return Capacity(rate, flows, cores_usable(), mtu)


def require_carried(plan: TestbedPlan, capacity: Capacity) -> None:
    """Refuse a testbed whose links add up to more than the processors can be trusted with.

    Raises:
        InputError: names what the testbed asks, what the machine carries, and a rate that would do.
    """
    if plan.total_rate <= capacity.allowed:
        return
    fits = plan.host_rate * capacity.allowed / plan.total_rate
    raise InputError(
        f"topology {plan.topology.name}: the {len(plan.ports)} link directions of the testbed add up to "
        f"{_mbit(plan.total_rate)}; this machine ({capacity.cores} cores) carries {_mbit(capacity.bytes_per_s)} over "
        f"all links, and {LARGEST_SHARE:.0%} of that is allowed, {_mbit(capacity.allowed)}: the processors would be "
        f"measured, not the links; give --rate {_mbit(fits, down=True).replace(' ', '')} or less"
    )


def fitting(plan: TestbedPlan, capacity: Capacity) -> TestbedPlan:
    """The plan itself if the machine carries it, else with the first host rate of ``LADDER`` that it does carry.

    Raises:
        InputError: it carries none of them.
    """
    slower = (scaled(plan, rate) for rate in LADDER if rate < plan.host_rate)
    for candidate in (plan, *slower):
        if candidate.total_rate <= capacity.allowed:
            return candidate
    require_carried(candidate, capacity)
    return candidate


class Idleness:
    """How much of the processors' time nobody used since this was made; with none left they are what is measured."""

    def __init__(self) -> None:
        self._before = processor_ticks()

    def share(self) -> float:
        """From 0 to 1, over all processors and all that ran on them."""
        spent = [now - then for now, then in zip(processor_ticks(), self._before, strict=True)]
        return spent[IDLE] / max(1, sum(spent))


def _two_hosts() -> Fabric:
    net = Cabling([copies(plain_host(0, nics=1, bus=_NO_LIMIT), 2)])
    stages = clos(net, star(2, downlink=_NO_LIMIT))
    return net.fabric(name="preflight", routing="ecmp", stages=stages)


def _sum(testbed: Testbed) -> int:
    return sum(part.num_bytes for part in testbed.link_counters())


def _mbit(bytes_per_s: float, *, down: bool = False) -> str:
    """In whole Mbit/s; ``down`` rounds to what is no more."""
    value = bytes_per_s * 8e-6
    return f"{int(value) if down and value >= 1 else round(value, 3 if value < 1 else 0):g} Mbit/s"
