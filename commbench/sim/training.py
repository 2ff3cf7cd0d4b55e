# SPDX-License-Identifier: Apache-2.0
"""Run a program of compute and coupled calls on a fabric: patterns become flows, operations become tasks.

Links that all patterns load alike are one constraint to max-min sharing and kept once, which changes no rate.

Where compute is slowed beside a collective, the two share the rank's processor: a link of capacity C that compute takes
whole, and of which a collective at its full speed takes the share f = 1 - 1/slowdown (its kernels occupy processors and
memory). Compute beside it then runs at (1 - f) C, so it takes ``slowdown`` times as long; beside a collective that is
itself held back, accordingly less.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.engine.engines import Run, run
from commbench.engine.setting import Change, Paths, Setting, What
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.maxmin import whole_weight
from commbench.program.expand import expand
from commbench.program.flat import COMPUTE, COUPLED, FlatProgram
from commbench.program.ir import CoupledCall, Pattern, Program
from commbench.routing.routes import Routes
from commbench.sim.patterns import Flow, couple_groups, together
from commbench.sim.placing import processors_of
from commbench.sim.symmetry import kinds_of_links, positions
from commbench.topology.model import Topology
from commbench.topology.tree import Tree

__all__ = ["Fitted", "Ran", "fit", "run_fitted"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_PER_PS = 2**10
"""Units of processor capacity for a picosecond: a power of two, so that nothing is rounded, and so many that no
collective's rate in bytes/s comes near the rate of compute."""
_CAPACITY = _PER_PS * 1e12


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A program's patterns on a fabric.

    Attributes:
        program: whose patterns they are. router: of the fabric.
        patterns: in the order of their first use. flows: each as one flow. uses: how often each is called.
        positions: of each pattern, the class of every group; groups of several classes are not in symmetric positions,
            and for them one flow is an estimate.
    """

    program: Program
    router: Routes
    patterns: tuple[Pattern, ...]
    flows: tuple[Flow, ...]
    uses: tuple[int, ...]
    positions: tuple[IntArray, ...]

    @property
    def uneven(self) -> tuple[int, ...]:
        """Numbers of the patterns whose groups are not in symmetric positions."""
        return tuple(number for number, classes in enumerate(self.positions) if classes.max(initial=0))

    def link_bytes(self) -> FloatArray:
        """Bytes over every link of the fabric in the whole program."""
        total = np.zeros(len(self.router.fabric.bandwidths))
        for flow, uses in zip(self.flows, self.uses, strict=True):
            total[flow.link] += uses * flow.loads
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """What came out: the tasks, one per operation and in their order, and their spans."""

    flat: FlatProgram
    trace: Trace


def fit(program: Program, router: Routes, placed: IntArray, changing: Sequence[Change] = ()) -> Fitted:
    """Lay a program's patterns on a fabric.

    Args:
        program: compute and coupled calls.
        router: of the fabric.
        placed: endpoint of every rank of the patterns' groups.
        changing: what will happen to links; those it happens to are told from others.

    Raises:
        InputError: an operation of another kind.
    """
    uses: dict[Pattern, int] = {}
    for number, op in enumerate(program.operations):
        if isinstance(op, CoupledCall):
            uses[op.pattern] = uses.get(op.pattern, 0) + 1
        elif not hasattr(op, "duration_ps"):
            raise InputError(f"operation {number}: {type(op).__name__} is neither compute nor a coupled call")
    fabric = router.fabric
    assert isinstance(fabric, Topology | Tree)
    processors = processors_of(fabric, placed)
    groups = [couple_groups(pattern, router, placed, processors) for pattern in uses]
    marks = _marks(len(fabric.bandwidths), changing)
    classes = positions(groups, fabric.bandwidths, kinds=kinds_of_links(fabric), marks=marks)
    flows = tuple(together(one) for one in groups)
    return Fitted(program, router, tuple(uses), flows, tuple(uses.values()), tuple(classes))


def _marks(num_links: int, changes: Sequence[Change]) -> IntArray:
    """0 for links to which nothing happens; links with the same history have the same number."""
    history: dict[int, tuple[Change, ...]] = {}
    for change in changes:
        if change.what is What.BANDWIDTH:
            history[change.index] = (*history.get(change.index, ()), replace(change, index=0))
    marks = np.zeros(num_links, dtype=np.int64)
    kinds = sorted(set(history.values()))
    for link, events in history.items():
        marks[link] = 1 + kinds.index(events)
    return marks


def run_fitted(
    fitted: Fitted,
    *,
    engine: str = "compiled",
    slowdown: float = 1.0,
    slowing: Collection[int] = (),
    durations_ps: IntArray | None = None,
    changes: Sequence[Change] = (),
) -> Ran:
    """Run it.

    Args:
        fitted: see :func:`fit`.
        engine: "compiled" or "reference".
        slowdown: how many times as long compute takes beside a collective at its full speed.
        slowing: numbers of the operations that slow compute.
        durations_ps: of every operation instead of the program's own; not for calls.
        changes: bandwidths of the fabric's links, and slowness of the program's ranks, in ascending order of time.

    Raises:
        InputError: a slowdown below 1 or infinite, or an unknown engine.
    """
    if not 1 <= slowdown < np.inf:
        raise InputError(f"slowdown {slowdown:g} of compute beside a collective must be at least 1, and finite")
    flat = expand(fitted.program, reduction_ps_per_byte=0)
    if durations_ps is not None:
        flat = replace(flat, duration_ps=np.where(flat.kind == COMPUTE, durations_ps, 0))
    number = {pattern: i for i, pattern in enumerate(fitted.patterns)}
    calls = [(i, op) for i, op in enumerate(fitted.program.operations) if isinstance(op, CoupledCall)]
    tasks = np.array([i for i, _ in calls], dtype=np.int64)
    routes = np.array([number[op.pattern] for _, op in calls], dtype=np.int64)
    num_bytes, route_of = flat.num_bytes.copy(), np.full(flat.num_tasks, -1, dtype=np.int64)
    num_bytes[tasks] = np.array([flow.num_bytes for flow in fitted.flows], dtype=np.int64)[routes]
    route_of[tasks] = routes
    flat = replace(flat, num_bytes=num_bytes)
    share = 1 - 1 / slowdown
    slowed_by = {number[op.pattern]: op.ranks for i, op in calls if i in slowing} if share else {}
    if share:
        flat, route_of = _on_processors(flat, route_of, len(fitted.patterns))
    paths, changes = _paths(fitted, route_of, share, slowed_by, changes)
    done = run(flat, Setting(paths, changes=tuple(changes)), Run(engine=engine))
    return Ran(flat, done.trace)


def _on_processors(flat: FlatProgram, route_of: IntArray, first: int) -> tuple[FlatProgram, IntArray]:
    """Compute tasks as flows over the links of their processors, whose routes are numbered from ``first``."""
    works = (flat.kind == COMPUTE) & (flat.duration_ps > 0)
    flat = replace(
        flat,
        kind=np.where(works, COUPLED, flat.kind),
        num_bytes=np.where(works, flat.duration_ps * _PER_PS, flat.num_bytes),
        duration_ps=np.where(works, 0, flat.duration_ps),
    )
    return flat, np.where(works, first + flat.rank, route_of)


def _paths(
    fitted: Fitted, route_of: IntArray, share: float, slowed_by: dict[int, tuple[int, ...]], changes: Sequence[Change]
) -> tuple[Paths, list[Change]]:
    """Constraints, then every flow's own link, then the processors; and the changes in these numbers."""
    fabric, count = fitted.router.fabric, len(fitted.flows)
    new_number, kept = _constraints(fitted, changes)
    own, processor = len(kept), len(kept) + count
    rows: list[list[int]] = []
    weights: list[list[float]] = []
    for number, flow in enumerate(fitted.flows):
        mine = kept[new_number[flow.link]] == flow.link
        ranks = slowed_by.get(number, ())
        load = whole_weight(share * _CAPACITY / flow.own_bandwidth) if ranks else 0.0
        rows.append([*new_number[flow.link[mine]].tolist(), own + number, *(processor + rank for rank in ranks)])
        weights.append([*flow.weights[mine].tolist(), 1.0, *(load for _ in ranks)])
    num_ranks = fitted.program.num_ranks if share else 0
    rows += [[processor + rank] for rank in range(num_ranks)]
    weights += [[1.0]] * num_ranks
    bandwidths = [
        *fabric.bandwidths[kept].tolist(),
        *(flow.own_bandwidth for flow in fitted.flows),
        *([_CAPACITY] * num_ranks),
    ]
    latencies = [*(flow.chain_ps for flow in fitted.flows), *([0] * num_ranks)]
    paths = Paths.of_lists(bandwidths, rows, latencies, route_of.tolist(), weights)
    return paths, _renumbered(changes, new_number, processor if share else None)


def _renumbered(changes: Sequence[Change], new_number: IntArray, processor: int | None) -> list[Change]:
    """Changes of the fabric's links as changes of constraints; a slow rank's processor has less capacity."""
    found = []
    for change in changes:
        if change.what is What.BANDWIDTH:
            if new_number[change.index] >= 0:
                found.append(replace(change, index=int(new_number[change.index])))
            continue
        found.append(change)
        if processor is not None and change.what is What.SLOWDOWN:
            found.append(Change(change.time_ps, What.BANDWIDTH, processor + change.index, _CAPACITY / change.value))
    return found


def _constraints(fitted: Fitted, changes: Sequence[Change]) -> tuple[IntArray, IntArray]:
    """Links that all patterns load alike, kept once: new number of every loaded link (-1: not loaded), links kept."""
    bandwidths = fitted.router.fabric.bandwidths
    marks = _marks(len(bandwidths), changes)
    loaded: dict[int, list[tuple[int, float]]] = {}
    for number, flow in enumerate(fitted.flows):
        for link, weight in zip(flow.link.tolist(), flow.weights.tolist(), strict=True):
            loaded.setdefault(link, []).append((number, weight))
    new_number = np.full(len(bandwidths), -1, dtype=np.int64)
    kept: list[int] = []
    seen: dict[tuple[object, ...], int] = {}
    for link, load in sorted(loaded.items()):
        key = (float(bandwidths[link]), int(marks[link]), *load)
        if key not in seen:
            seen[key] = len(kept)
            kept.append(link)
        new_number[link] = seen[key]
    return new_number, np.array(kept, dtype=np.int64)
