# SPDX-License-Identifier: Apache-2.0
"""What the commands behind ``commbench emulate TOPOLOGY run`` share: the lab's options, its plan, and its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.errors import InputError
from commbench.terminal import tell

if TYPE_CHECKING:
    from pathlib import Path

    from commbench.emulate.plan import TestbedPlan
    from commbench.emulate.preflight import Capacity
    from commbench.emulate.testbed import Testbed
    from commbench.topology.fabric import Fabric

__all__ = ["AUTO", "Jobs", "Mtu", "Nproc", "Preflight", "Rate", "Routing", "Seed", "in_lab", "laid_out"]

AUTO, _OWN = "auto", "own"
_SLOWEST, _FASTEST = 125.0, 125e9  # bytes/s that a queue of the kernel can let out (tc's times are of 32 bits)
_LEAST_IDLE = 0.1  # of the processors' time in a run, start of the ranks included

Nproc = Annotated[int | None, typer.Option("--nproc", "-g", help="Ranks, on the first hosts [all hosts].")]
Jobs = Annotated[str, typer.Option(help="Jobs at once: a number, or ranks such as 0,1,4,5/2,3,6,7.")]
Rate = Annotated[
    str, typer.Option(help="Of the hosts' links, the others in proportion; own: as in the file; auto: own or lower.")
]
Routing = Annotated[str | None, typer.Option(help="d-mod-k or ecmp [the topology's own].")]
Mtu = Annotated[int, typer.Option(help="Bytes of an IP packet.")]
Seed = Annotated[int, typer.Option(min=1, max=2**32 - 1, help="Of the hash of ECMP.")]
Preflight = Annotated[bool, typer.Option("--preflight/--no-preflight", help="Measure the machine first.")]


def laid_out(
    topology: "Fabric", rate: str, routing: str | None, mtu: int, preflight: bool, num_flows: int = 0
) -> "tuple[TestbedPlan, Capacity | None]":
    """The plan of the lab at a rate that this machine carries, and what it carries.

    Raises:
        InputError: it does not carry the rate that was asked for.
    """
    from commbench.emulate.plan import plan_testbed, require_plain, scaled
    from commbench.emulate.preflight import fitting, measure_capacity, require_carried
    from commbench.emulate.tables import equal_cost, single_path
    from commbench.routing.policies import get_policy
    from commbench.routing.router import Router
    from commbench.units import parse_bandwidth

    require_plain(topology)
    chosen = get_policy(routing or topology.routing)
    policy = chosen.name
    tables = equal_cost(topology) if chosen.hashed else single_path(topology, partial(Router, policy=policy))
    own = plan_testbed(topology, tables, routing=policy, mtu=mtu, num_background=num_flows)
    asked = own if rate in (AUTO, _OWN) else scaled(own, parse_bandwidth(rate))
    _require_shapeable(asked, rate)
    if not preflight:
        if rate == AUTO:
            raise InputError("--rate auto needs the preflight; give a rate with --no-preflight")
        return asked, None
    capacity = measure_capacity(mtu)
    plan = fitting(own, capacity) if rate == AUTO else asked
    require_carried(plan, capacity)
    rates = [rate * 8e-6 for rate in (plan.host_rate, plan.total_rate, capacity.bytes_per_s)]
    tell(
        f"hosts' links at {rates[0]:g} Mbit/s, {plan.scale:.4g} of {topology.name}'s own; all links add up to "
        f"{rates[1]:.0f} Mbit/s, this machine carries {rates[2]:.0f} Mbit/s"
    )
    return plan, capacity


def _require_shapeable(plan: "TestbedPlan", rate: str) -> None:
    """Refuse links that the kernel's queues have no numbers for.

    Raises:
        InputError: names the rate that was asked for and the link.
    """
    for port in plan.ports:
        if not _SLOWEST <= port.rate <= _FASTEST:
            raise InputError(
                f"--rate {rate}: link {port.node} -> {port.peer} would have {port.rate * 8:g} bit/s; an emulated one "
                f"can have {_SLOWEST * 8e-3:g} kbit/s to {_FASTEST * 8e-12:g} Tbit/s"
            )


@contextmanager
def in_lab(lab: "Testbed", journal: "Path") -> Iterator[None]:
    """Make the lab for a block and take it away however the block ends; warn of what spoils a measurement.

    The end is said on stderr, with where the records are.
    """
    from commbench.emulate.preflight import Idleness

    try:
        with lab:
            idleness = Idleness()
            yield
            if idleness.share() < _LEAST_IDLE:
                tell(f"warning: processors idle for {idleness.share():.0%} of the run: they may be what it measured")
            for (src, dst), count in lab.dropped().items():
                tell(f"warning: {count} packets were lost on {src} -> {dst} for want of room")
    except KeyboardInterrupt:
        tell("interrupted: the ranks were ended, the lab is gone, complete records are kept")
        raise SystemExit(130) from None
    finally:
        if journal.exists():
            tell(f"records: {journal}")
