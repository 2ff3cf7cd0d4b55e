# SPDX-License-Identifier: Apache-2.0
"""Trials of a diagnosis: a fabric with faults drawn by a seed, measured by the simulator with noise, and judged.

``python -m tests.diagnose.trials 2000`` prints how many were right, by fabric and kind of fault.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np

from commbench.diagnose.expect import Simulator
from commbench.diagnose.judge import diagnose
from commbench.diagnose.measurement import Groups, Measurement, measurements_of
from commbench.diagnose.parts import FabricPart, parts_of
from commbench.lowering.scenario import Scenario
from commbench.results.diagnoses import Diagnosed
from commbench.results.records import Measured
from commbench.topology.fabric import Fabric
from commbench.topology.faults import LinkFault
from commbench.topology.load import load_fabric

MIB = 2**20
NOISE = 0.02
ITERATIONS = 5
VISIBLE = 1.05  # of a fault, at the measurement that it slows most; less is nothing that a diagnosis calls slow


def record(
    members: Sequence[tuple[str, int]],
    time_s: float | Sequence[float],
    *,
    beside: Sequence[Sequence[tuple[str, int]]] = (),
    size: int = 64 * MIB,
    collective: str = "send-recv",
    algorithm: str = "direct",
    channels: int = 1,
    run: str = "made-up",
    **environment: object,
) -> Measured:
    """A measured record of ranks at these places; ``time_s`` is each iteration's, or that of five."""
    times = (time_s,) * ITERATIONS if isinstance(time_s, float) else tuple(time_s)
    return Measured(
        run=run,
        collective=collective,
        algorithm=algorithm,
        backend="gloo" if algorithm == "native" else "nccl",
        ranks=len(members),
        size_bytes=size,
        num_elements=size // 4,
        dtype="float32",
        op="none",
        samples_s=(times,) * len(members),
        busbw_factor=1.0,
        timing="isolated",
        launcher="commbench",
        started_at="2026-01-01T00:00:00+00:00",
        channels=channels,
        environment={"members": list(members), "beside": [list(each) for each in beside], **environment},
    )


@dataclass(frozen=True)
class World:
    """A fabric and what is measured on it: groups of endpoints at once, over so many channels."""

    name: str
    rounds: tuple[tuple[Groups, int], ...]


def rounds_of_pairs(count: int) -> list[Groups]:
    """All pairs of so many (an even number) in rounds of disjoint ones: the circle method."""
    others = list(range(1, count))
    found = []
    for _ in others:
        circle = [0, *others]
        found.append(tuple((circle[i], circle[-1 - i]) for i in range(count // 2)))
        others = others[1:] + others[:1]
    return found


@cache
def worlds() -> tuple[World, ...]:
    alone = [((pair,), 1) for pair in combinations(range(16), 2)]
    at_once = [(groups, 1) for groups in rounds_of_pairs(16)]
    two_rails = [((pair,), n) for pair in combinations(range(8), 2) for n in (1, 2)]
    one = [((pair,), 1) for pair in combinations(range(8), 2)]
    return (
        World("fat-tree-16", (*alone,)),
        World("leaf-spine-16-4to1", (*alone, *at_once)),
        World("two-rail-8", (*two_rails,)),
        World("star-8", (*one,)),
        World("dgx-h100-x4", tuple((((8 * a + g, 8 * b + g),), 1) for a, b in combinations(range(4), 2)
                                   for g in range(8))),
        World("dgx-h100-x8-rail-only", tuple((((8 * a + g, 8 * b + g),), 1) for a, b in combinations(range(8), 2)
                                             for g in range(8))),
    )  # fmt: skip


class Lab:
    """A world ready for trials: its measurements in health, and their simulated values."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fabric: Fabric = load_fabric(world.name)
        self.simulator = Simulator(self.fabric)
        self.healthy = [self._measurement(groups, own, channels, 1.0)
                        for groups, channels in world.rounds for own in range(len(groups))]  # fmt: skip
        self.expected = [self.simulator.expect(each) for each in self.healthy]
        links = np.unique(np.concatenate([each.links for each in self.expected]))
        every = parts_of(self.fabric, links)
        self.cables = [part for part in every if part.kind == "link"]
        self.hosts = [part for part in every if part.kind == "host"]

    def _measurement(
        self, groups: Groups, own: int, channels: int, time_s: float | Sequence[float]
    ) -> Measurement:
        places = [[self._member(rank) for rank in group] for group in groups]
        beside = [place for i, place in enumerate(places) if i != own]
        made = record(places[own], time_s, beside=beside, channels=channels)
        [found] = measurements_of([made], self.fabric, None)
        return found

    def _member(self, rank: int) -> tuple[str, int]:
        host = int(self.fabric.host_of[rank])
        return f"h{host}", int((self.fabric.host_of[:rank] == host).sum())

    def scenario(self, faults: Sequence[tuple[FabricPart, float]]) -> Scenario:
        factors: dict[tuple[str, str], float] = {}
        for part, factor in faults:
            for link in part.links.tolist():
                ends = self.fabric.name_of(self.fabric.src[link]), self.fabric.name_of(self.fabric.dst[link])
                factors[ends] = min(factor, factors.get(ends, 1.0))
        return Scenario(tuple(LinkFault(0, *ends, factor) for ends, factor in factors.items()))

    def true_times(self, faults: Sequence[tuple[FabricPart, float]]) -> list[float]:
        """Seconds of every measurement with these faults, by the door."""
        times = [each.time_s for each in self.expected]
        if not faults:
            return times
        slow = np.unique(np.concatenate([part.links for part, _ in faults]))
        scenario, known = self.scenario(faults), dict[tuple[object, ...], list[float]]()
        for i, each in enumerate(self.healthy):
            if np.isin(slow, self.expected[i].links).any():
                first = min(each.groups), each.record.channels, len(each.groups)
                key = (frozenset(each.groups), first)
                if key not in known:
                    ordered = Measurement(each.record, tuple(sorted(each.groups)), 0)
                    known[key] = self.simulator.slowed(ordered, scenario)
                times[i] = known[key][sorted(each.groups).index(each.ranks)]
        return times

    def diagnosed(self, times: Sequence[float], draw: np.random.Generator) -> Diagnosed:
        """Measured with noise: of the measurement as a whole, and of each of its iterations."""
        measured = []
        for each, time_s in zip(self.healthy, times, strict=True):
            own = time_s * np.exp(NOISE * draw.standard_normal() + NOISE * draw.standard_normal(ITERATIONS))
            samples = (tuple(own.tolist()),) * each.record.ranks
            measured.append(Measurement(replace(each.record, samples_s=samples), each.groups, each.own))
        return diagnose(measured, self.simulator, "trial")


@cache
def lab(name: str) -> Lab:
    return Lab(next(world for world in worlds() if world.name == name))


@dataclass(frozen=True)
class Trial:
    """What was at fault and what was said."""

    world: str
    faults: tuple[tuple[FabricPart, float], ...]
    visible: bool
    first: bool  # the guilty part is among the first suspect's, and it is blamed
    found: int  # of the faults
    innocent: tuple[str, ...]  # blamed without being at fault
    said: Diagnosed


def trial(seed: int, num_faults: int) -> Trial:
    """One trial; everything follows from the seed."""
    draw = np.random.default_rng([seed, num_faults])
    every = worlds()
    place = lab(every[seed % len(every)].name)
    faults: list[tuple[FabricPart, float]] = []
    while len(faults) < num_faults:
        pool = place.cables if draw.random() < 0.5 else place.hosts
        part = pool[int(draw.integers(len(pool)))]
        if not any(np.isin(part.links, other.links).any() for other, _ in faults):
            faults.append((part, float(draw.uniform(0.2, 0.8))))
    times = place.true_times(faults)
    worst = max(t / e.time_s for t, e in zip(times, place.expected, strict=True))
    said = place.diagnosed(times, draw)
    blamed = [one for one in said.suspects if one.blamed]
    guilty = [{part.name for part, _ in faults if part.name in one.parts} for one in blamed]
    return Trial(
        world=place.world.name,
        faults=tuple(faults),
        visible=worst > VISIBLE,
        first=bool(blamed) and bool(guilty[0]),
        found=len(set().union(*guilty)) if guilty else 0,
        innocent=tuple(one.parts[0] for one, names in zip(blamed, guilty, strict=True) if not names),
        said=said,
    )


def trials(count: int, first_seed: int = 0) -> Iterator[Trial]:
    """Half of one fault, a quarter of two, a quarter of none."""
    for seed in range(first_seed, first_seed + count):
        yield trial(seed, (1, 2, 1, 0)[(seed // len(worlds())) % 4])


def summary(done: Sequence[Trial]) -> str:
    lines = []
    for count in (1, 2, 0):
        mine = [one for one in done if len(one.faults) == count]
        seen = [one for one in mine if one.visible]
        lines.append(
            f"{count} faults: {len(mine)} trials, {len(seen)} visible; first right {sum(o.first for o in mine)}, "
            f"of the visible {sum(o.first for o in seen)}; faults found {sum(o.found for o in mine)} of "
            f"{count * len(mine)}; innocent blamed in {sum(bool(o.innocent) for o in mine)}"
        )
    missed = Counter((o.world, o.faults[0][0].kind) for o in done if len(o.faults) == 1 and o.visible and not o.first)
    lines.append(f"visible single faults missed: {dict(missed)}")
    lines.append(f"invisible: {dict(Counter(o.world for o in done if o.faults and not o.visible))}")
    return "\n".join(lines)


def main(count: int, first: int = 0) -> None:
    """Trials with what was wrong, and every so often how many were right so far."""
    done = []
    for number, one in enumerate(trials(count, first), 1):
        done.append(one)
        if one.found < len(one.faults) or one.innocent:
            faults = ", ".join(f"{part.name} {factor:.2f}" for part, factor in one.faults) or "none"
            said = ", ".join(f"{s.parts[0]} {s.factor:.2f}{'' if s.blamed else ' (not blamed)'}"
                             for s in one.said.suspects) or one.said.verdict  # fmt: skip
            print(f"{first + number - 1} {one.world}: {faults} -> {said}", flush=True)
        if number % 50 == 0 or number == count:
            print(f"after {number}:\n{summary(done)}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
