# SPDX-License-Identifier: Apache-2.0
"""What the emulated campaign measures, as data: fabrics, collectives, algorithms, placements, sizes.

The calibration sees gloo's own all-reduce on the star alone, at :data:`FIT_SIZES`: at a low rate too, where even small
messages leave the processors idle. All else is predicted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from commbench.errors import InputError
from commbench.topology.faults import LinkFault

__all__ = [
    "CAMPAIGN",
    "DEMO",
    "FIT_LEGS",
    "FIT_SIZES",
    "NATIVE",
    "SIZES",
    "SMOKE",
    "STAR",
    "EmulatedFabric",
    "Leg",
    "by_fabric",
    "fabric_of",
    "legs_on",
    "told_of",
]

NATIVE = "native"
SIZES = tuple(2**16 * 4**i for i in range(5))
"""64 KiB to 16 MiB."""

FIT_SIZES = SIZES[:3]


@dataclass(frozen=True, slots=True)
class EmulatedFabric:
    """A lab.

    Attributes:
        topology: by name. routing: of it. rate_mbit: of the hosts' links, the others in proportion.
        fair: whether its ports have a queue for every pair of hosts (``emulate.kernel.PortShaping``) or one for all.
        degraded: links that have a part of their rate all the time, a direction each.
        background: ranks (sender, receiver) between whose hosts somebody else's flow goes on all the time.
    """

    topology: str
    routing: str
    rate_mbit: float
    fair: bool = True
    degraded: tuple[LinkFault, ...] = ()
    background: tuple[tuple[int, int], ...] = ()

    @property
    def label(self) -> str:
        """As figures call it: routing and queues are named where they are not those that avoid collisions."""
        words = [self.topology]
        words += ["ecmp"] if self.routing == "ecmp" else []
        words += [] if self.fair else ["one queue"]
        words += _slower(self.degraded)
        words += [f"background {src}:{dst}" for src, dst in self.background]
        return " ".join(words)

    @property
    def wrong(self) -> str:
        """What is wrong in it all the time, of the two, in words."""
        if self.degraded and self.background:
            return "both"
        return "degraded links" if self.degraded else "background flows" if self.background else "nothing"


def _slower(faults: tuple[LinkFault, ...]) -> list[str]:
    """Degraded links in words, both directions of a link once."""
    words = []
    for number, fault in enumerate(faults):
        back = replace(fault, src=fault.dst, dst=fault.src)
        if back not in faults[:number]:
            words.append(f"{fault.src}{'-' if back in faults else '->'}{fault.dst} at {fault.factor:.0%}")
    return words


def told_of(fabric: EmulatedFabric) -> dict[str, Any]:
    """What a record tells of what is wrong in a lab, in JSON values; as ``commbench emulate run`` does."""
    return {
        "faults": [{"fault": LinkFault.__name__, **asdict(fault)} for fault in fabric.degraded],
        "background": [list(flow) for flow in fabric.background],
    }


def fabric_of(lab: Mapping[str, Any]) -> EmulatedFabric:
    """The lab of a record, by its ``environment.emulated``; in older ones nothing was wrong.

    Raises:
        InputError: a fault that is not there from the start, or of something else than a link.
    """
    faults = lab.get("faults", ())
    for fault in faults:
        if fault.get("fault") != LinkFault.__name__ or fault["at_ps"] or not 0 < fault["factor"] <= 1:
            raise InputError(
                f"emulated.faults: {fault}: a campaign predicts links that have a part of their rate (0 < factor <= 1) "
                "from the start (at_ps 0), and no other faults"
            )
    return EmulatedFabric(
        topology=lab["topology"],
        routing=lab["routing"],
        rate_mbit=lab["rate_mbit"],
        fair=bool(lab.get("shaping", {}).get("fair", True)),
        degraded=tuple(LinkFault(0, fault["src"], fault["dst"], fault["factor"]) for fault in faults),
        background=tuple((src, dst) for src, dst in lab.get("background", ())),
    )


@dataclass(frozen=True, slots=True)
class Leg:
    """One collective by one algorithm somewhere, over some sizes.

    Attributes:
        fabric: where. collective, algorithm: what; "native" is gloo's own.
        jobs: the hosts of each job, in the order of its ranks; jobs run at the same time.
        channels: pieces that run side by side. group: ranks per leaf, for hierarchical algorithms.
        sizes_bytes: of the full buffer.
    """

    fabric: EmulatedFabric
    collective: str
    algorithm: str
    jobs: tuple[tuple[int, ...], ...]
    channels: int = 1
    group: int = 1
    sizes_bytes: tuple[int, ...] = SIZES

    @property
    def name(self) -> str:
        """Unique in the campaign, and the same in every run of it."""
        hosts = "/".join(",".join(map(str, job)) for job in self.jobs)
        extra = (f" {self.channels} channels" if self.channels > 1 else "") + (
            f" groups of {self.group}" if self.group > 1 else ""
        )
        return f"{self.fabric.label} {self.fabric.rate_mbit:g} {self.collective} {self.algorithm}{extra} on {hosts}"


def _up_to(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def _striped(count: int, leaves: int) -> tuple[int, ...]:
    """Neighbours in the ring are under different leaves: the order that nobody should choose."""
    width = count // leaves
    return tuple(i * width + j for j in range(width) for i in range(leaves))


STAR = EmulatedFabric("star-8", "d-mod-k", 50)
_SLOW_STAR = EmulatedFabric("star-8", "d-mod-k", 10)
_FULL = EmulatedFabric("fat-tree-16", "d-mod-k", 20)
_LEAN = EmulatedFabric("leaf-spine-16-4to1", "d-mod-k", 40)
_TREE = EmulatedFabric("fat-tree-k4", "d-mod-k", 20)
_FULL_ECMP = EmulatedFabric("fat-tree-16", "ecmp", 20)
_TREE_ECMP = EmulatedFabric("fat-tree-k4", "ecmp", 20)
_RAILS = EmulatedFabric("two-rail-8", "rail-aware", 25)
_ONE_QUEUE = (
    EmulatedFabric("star-8", "d-mod-k", 10, fair=False),
    EmulatedFabric("leaf-spine-16-4to1", "d-mod-k", 20, fair=False),
    EmulatedFabric("fat-tree-k4", "d-mod-k", 10, fair=False),
)

_REDUCES = ("ring", "double-binary-tree", "halving-doubling")
_NATIVES = ("all-reduce", "all-gather", "broadcast", "all-to-all")


def _natives(fabric: EmulatedFabric, hosts: tuple[int, ...]) -> Iterable[Leg]:
    return (Leg(fabric, collective, NATIVE, (hosts,)) for collective in _NATIVES)


def _schedules(fabric: EmulatedFabric, hosts: tuple[int, ...], group: int) -> Iterable[Leg]:
    yield from (Leg(fabric, "all-reduce", name, (hosts,)) for name in _REDUCES)
    yield Leg(fabric, "all-to-all", "pairwise", (hosts,))
    if group > 1:
        yield Leg(fabric, "all-reduce", "hierarchical", (hosts,), group=group)


def _fit(*counts: int) -> Iterable[Leg]:
    """What the calibration is for, where no processor is short of time."""
    return (Leg(_SLOW_STAR, "all-reduce", NATIVE, (_up_to(n),), sizes_bytes=FIT_SIZES) for n in counts)


def _star() -> Iterable[Leg]:
    yield from _natives(STAR, _up_to(8))
    yield from _schedules(STAR, _up_to(8), 1)
    yield from (Leg(STAR, "all-reduce", NATIVE, (_up_to(n),)) for n in (2, 4))
    yield Leg(STAR, "all-reduce", "ring", (_up_to(5),))
    yield Leg(STAR, "gather", NATIVE, (_up_to(8),))  # incast: all to one


def _clos(fabric: EmulatedFabric, group: int) -> Iterable[Leg]:
    yield from _natives(fabric, _up_to(16))
    yield from _schedules(fabric, _up_to(16), group)


def _unlucky(fabric: EmulatedFabric, leaves: int) -> Iterable[Leg]:
    """Where ECMP collides: all flows cross the fabric."""
    hosts = _striped(16, leaves)
    yield Leg(fabric, "all-reduce", "ring", (hosts,))
    yield Leg(fabric, "all-reduce", NATIVE, (hosts,))
    yield Leg(fabric, "all-reduce", "halving-doubling", (_up_to(16),))
    yield Leg(fabric, "all-to-all", "pairwise", (_up_to(16),))


def _rails() -> Iterable[Leg]:
    yield from (Leg(_RAILS, collective, NATIVE, (_up_to(8),)) for collective in ("all-reduce", "all-gather"))
    yield from (Leg(_RAILS, "all-reduce", name, (_up_to(8),), channels=2) for name in _REDUCES)
    yield Leg(_RAILS, "all-to-all", "pairwise", (_up_to(8),), channels=2)


def _one_queue() -> Iterable[Leg]:
    """Where all that leaves a port waits in one queue: 20 legs, 60 points. Orders of ranks collide above the leaves."""
    for fabric in _ONE_QUEUE:
        hosts = _up_to(8) if fabric.topology == STAR.topology else _up_to(16)
        for leg in (*_natives(fabric, hosts), *_schedules(fabric, hosts, 1)):
            yield replace(leg, sizes_bytes=FIT_SIZES)
    yield Leg(_ONE_QUEUE[1], "all-reduce", "ring", (_striped(16, 4),), sizes_bytes=FIT_SIZES)


def _pairs_of_jobs() -> Iterable[Leg]:
    four = ((0, 1, 4, 5), (2, 3, 6, 7))
    eight = (tuple(range(0, 16, 2)), tuple(range(1, 16, 2)))
    yield Leg(_LEAN, "all-reduce", "ring", four)
    yield Leg(_LEAN, "all-reduce", NATIVE, eight)
    yield Leg(_LEAN, "all-reduce", "halving-doubling", eight)
    yield Leg(_TREE, "all-reduce", "ring", eight)
    yield Leg(_FULL_ECMP, "all-to-all", "pairwise", eight)


FIT_LEGS: tuple[Leg, ...] = tuple(_fit(2, 4, 8))
"""What every part of the campaign has at least."""

MOST_RANKS = 16
"""Of a leg: more leave no processor idle on two cores."""


def legs_on(topology: str, num_hosts: int) -> tuple[Leg, ...]:
    """What is measured on a fabric of a user's own, on its first hosts; of schedules those that take any number.

    Args:
        topology: name or path, which records keep. num_hosts: that it has.
    """
    fabric, hosts = EmulatedFabric(topology, "d-mod-k", 10), _up_to(min(num_hosts, MOST_RANKS))
    legs = (*_natives(fabric, hosts), *_schedules(fabric, hosts, 1))
    return tuple(replace(leg, sizes_bytes=FIT_SIZES) for leg in legs)


CAMPAIGN: tuple[Leg, ...] = tuple(
    chain(
        FIT_LEGS,
        _star(),
        _clos(_FULL, 4),
        _clos(_LEAN, 4),
        [Leg(_LEAN, "all-reduce", "ring", (_striped(16, 4),))],
        _clos(_TREE, 2),
        _rails(),
        _unlucky(_FULL_ECMP, 4),
        _unlucky(_TREE_ECMP, 8),
        _pairs_of_jobs(),
        _one_queue(),
    )
)

_SMALL = (SIZES[1], SIZES[2])
SMOKE: tuple[Leg, ...] = (
    *_fit(8),
    Leg(STAR, "all-reduce", NATIVE, (_up_to(8),), sizes_bytes=FIT_SIZES),
    Leg(STAR, "all-reduce", "halving-doubling", (_up_to(8),), sizes_bytes=_SMALL),
    Leg(STAR, "all-to-all", NATIVE, (_up_to(8),), sizes_bytes=_SMALL),
    Leg(STAR, "broadcast", NATIVE, (_up_to(8),), sizes_bytes=_SMALL),
    Leg(_LEAN, "all-reduce", "ring", (_up_to(8),), sizes_bytes=_SMALL),
    Leg(_LEAN, "all-to-all", "pairwise", (_up_to(8),), sizes_bytes=_SMALL),
    Leg(_LEAN, "all-reduce", "ring", ((0, 1, 4, 5), (2, 3, 6, 7)), sizes_bytes=_SMALL),
)
"""The part of the campaign that fits into a test: two fabrics, alone and two jobs at once, the fit among it."""


DEMO: tuple[Leg, ...] = (
    Leg(STAR, "all-reduce", NATIVE, (_up_to(4),), sizes_bytes=FIT_SIZES),
    Leg(STAR, "all-reduce", "ring", (_up_to(4),), sizes_bytes=_SMALL),
    Leg(STAR, "all-gather", NATIVE, (_up_to(4),), sizes_bytes=_SMALL),
)
"""What takes seconds: the fit, another algorithm and another collective, on four hosts of the star."""


def by_fabric(legs: Iterable[Leg]) -> dict[EmulatedFabric, list[Leg]]:
    """The legs of each lab, in the order of first appearance."""
    found: dict[EmulatedFabric, list[Leg]] = {}
    for leg in legs:
        found.setdefault(leg.fabric, []).append(leg)
    return found
