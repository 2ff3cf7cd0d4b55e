# SPDX-License-Identifier: Apache-2.0
"""A program bound to a cluster, in collective detail: communications become aggregate flows, operations become tasks.

Links that all flows load alike are one constraint to max-min sharing and kept once, which changes no rate.

Where compute is slowed beside a collective, the two share the rank's processor: a link of capacity C that compute takes
whole, and of which a collective at its full speed takes the share f = 1 - 1/slowdown (its kernels occupy processors and
memory). Compute beside it then runs at (1 - f) C, so it takes ``slowdown`` times as long; beside a collective that is
itself held back, accordingly less. Work of HOST_STREAM and COPY_STREAM takes none of the processor.

Where the collective is slowed too (s times, compute c times), its flow is counted in the processor's units, s/c of C at
its full speed, and takes c - 1 for each of them. Max-min sharing raises both alike, to C/c, where the processor is
full: c times slower the one, s times the other. On a stream of compute such a collective is what the unit is busy with,
and takes the processor whole. Links are then counted in units as fine, so that flows still share them by bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.arrays import FloatArray, IntArray
from commbench.cluster import Cluster
from commbench.engine.setting import Change, Paths, Setting, What
from commbench.errors import InputError
from commbench.lowering.aggregate import AggregateFlow, aggregate, together, weights_below
from commbench.lowering.choose import Choices
from commbench.lowering.placing import processors_of
from commbench.lowering.symmetry import kinds_of_links, positions
from commbench.network.maxmin import whole_weight
from commbench.program.flat import COMPUTE, COUPLED, FlatProgram, compress
from commbench.program.operations import COMPUTE_STREAM, COPY_STREAM, HOST_STREAM, NOTHING, Program

__all__ = ["Bound", "Slowing", "bind", "tasks_of"]

_PER_PS = 2**10
"""Units of processor capacity for a picosecond: a power of two, so that nothing is rounded, and so many that no
collective's rate in bytes/s comes near the rate of compute."""
_CAPACITY = _PER_PS * 1e12
_FINE = 2.0**15
"""Units of a byte where collectives are counted in the processor's: 31 GB/s, the rate of a usual flow, are C."""


@dataclass(frozen=True, slots=True)
class Slowing:
    """How many times as long compute takes beside a collective at its full speed, and the collective beside compute.

    Raises:
        InputError: below 1 or infinite, or both together slower than one after the other.
    """

    compute: float
    collective: float = 1.0

    def __post_init__(self) -> None:
        for value, words in ((self.compute, "compute beside a collective"), (self.collective, "a collective")):
            if not 1 <= value < np.inf:
                raise InputError(f"slowdown {value:g} of {words} must be at least 1, and finite")
        if 1 / self.compute + 1 / self.collective < 1 - 1e-9:
            raise InputError(
                f"slowdown {self.compute:g} of compute and {self.collective:g} of a collective beside each other is "
                "worse than one after the other"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A program's communications on a cluster.

    Attributes:
        program: whose they are. cluster: where.
        flows: each communication as one flow.
        positions: of each, the class of every group; groups of several classes are not in symmetric positions, and for
            them one flow is an estimate.
    """

    program: Program
    cluster: Cluster
    flows: tuple[AggregateFlow, ...]
    positions: tuple[IntArray, ...]

    @property
    def uneven(self) -> tuple[int, ...]:
        """Numbers of the communications whose groups are not in symmetric positions."""
        return tuple(number for number, classes in enumerate(self.positions) if classes.max(initial=0))

    @property
    def uses(self) -> IntArray:
        """How often each communication happens."""
        called = self.program.communication[self.program.communication != NOTHING]
        return np.bincount(called, minlength=len(self.flows))

    def link_bytes(self) -> FloatArray:
        """Bytes over every link of the fabric in the whole program."""
        total = np.zeros(len(self.cluster.fabric.bandwidths))
        for flow, uses in zip(self.flows, self.uses.tolist(), strict=True):
            total[flow.link] += uses * flow.loads
        return total


def bind(program: Program, cluster: Cluster, choices: Choices, changing: Sequence[Change] = ()) -> Bound:
    """Lay a program's communications on a cluster.

    Args:
        program: its communications name ranks of the cluster.
        cluster: where. choices: how they go.
        changing: what will happen to links; those it happens to are told from others.

    Raises:
        InputError: the library cannot serve a communication.
    """
    fabric, processors = cluster.fabric, processors_of(cluster.fabric, cluster.placed)
    groups = [aggregate(what, cluster, choices, processors) for what in program.communications]
    marks = _marks(len(fabric.bandwidths), changing)
    classes = positions(groups, fabric.bandwidths, kinds=kinds_of_links(fabric), marks=marks)
    return Bound(program, cluster, tuple(together(one) for one in groups), tuple(classes))


def _marks(num_links: int, changes: Sequence[Change]) -> IntArray:
    """0 for links to which nothing happens; links with the same history have the same number."""
    history: dict[int, tuple[Change, ...]] = {}
    for change in changes:
        if change.what is What.BANDWIDTH:
            history[change.index] = (*history.get(change.index, ()), replace(change, index=0))
    marks = np.zeros(num_links, dtype=np.int64)
    number = {events: i for i, events in enumerate(dict.fromkeys(history.values()), start=1)}
    for link, events in history.items():
        marks[link] = number[events]
    return marks


def tasks_of(
    bound: Bound,
    *,
    slowing: Mapping[int, Slowing] | None = None,
    durations_ps: IntArray | None = None,
    changes: Sequence[Change] = (),
) -> tuple[FlatProgram, Setting]:
    """What an engine runs: a task for each operation, of the same number.

    Args:
        bound: see :func:`bind`.
        slowing: numbers of the communications that slow compute, and how far the two slow each other.
        durations_ps: of every operation instead of the program's own; not for communications.
        changes: bandwidths of the fabric's links, and slowness of the program's ranks, in ascending order of time.
    """
    beside = {number: how for number, how in (slowing or {}).items() if how.compute > 1}
    wires = _Wires.of(bound, beside)
    program = bound.program
    flat = _one_each(bound, wires, program.duration_ps if durations_ps is None else durations_ps)
    route_of, count = program.communication, len(bound.flows)
    if beside:
        streams = (HOST_STREAM, COPY_STREAM, COMPUTE_STREAM)
        on = {name: np.isin(program.stream, _number(program, name)) for name in streams}
        if wires.whole:
            route_of = np.where(on[COMPUTE_STREAM] & np.isin(route_of, list(wires.whole)), route_of + count, route_of)
        flat, route_of = _on_processors(flat, route_of, 2 * count, ~(on[HOST_STREAM] | on[COPY_STREAM]))
    paths, changes = _paths(bound, wires, route_of, changes)
    return flat, Setting(paths, changes=tuple(changes))


def _number(program: Program, stream: str) -> list[int]:
    """The number of a stream, if the program has it."""
    return [number for number, name in enumerate(program.streams) if name == stream]


@dataclass(frozen=True, slots=True)
class _Wires:
    """Flows as the engine has them.

    Attributes:
        flows: in its units. fine: units of a byte.
        load: of the processor, by number of the flow: per rate, beside compute. whole: those that slow themselves.
    """

    flows: tuple[AggregateFlow, ...]
    fine: float
    load: Mapping[int, float]
    whole: frozenset[int]

    @classmethod
    def of(cls, bound: Bound, beside: Mapping[int, Slowing]) -> "_Wires":
        """With the processors' units where a collective is slowed beside compute."""
        finite = {number for number, flow in enumerate(bound.flows) if flow.own_bandwidth < np.inf}
        whole = frozenset(number for number, how in beside.items() if how.collective > 1 and number in finite)
        fine = _FINE if whole else 1.0
        flows, load = [], {}
        for number, flow in enumerate(bound.flows):
            how, own = beside.get(number), flow.own_bandwidth * fine
            if number in whole and how is not None:
                own = _CAPACITY * how.collective / how.compute
                load[number] = whole_weight(how.compute - 1)
            elif how is not None:
                load[number] = whole_weight((1 - 1 / how.compute) * _CAPACITY / own)
            flows.append(_in_units(flow, own / flow.own_bandwidth if own < np.inf else 1.0, fine))
        return cls(tuple(flows), fine, load, whole)


def _in_units(flow: AggregateFlow, units: float, fine: float) -> AggregateFlow:
    """A flow counted in so many units of a byte, over links that are counted in ``fine`` of them."""
    if units == fine == 1.0:
        return flow
    return replace(
        flow,
        num_bytes=round(flow.num_bytes * units),
        own_bandwidth=flow.own_bandwidth * units,
        weights=weights_below(flow.weights * fine / units),
    )


def _one_each(bound: Bound, wires: _Wires, durations_ps: IntArray) -> FlatProgram:
    """The operations as tasks; on each (rank, stream) one waits for the one before."""
    program = bound.program
    talks, count = program.communication != NOTHING, program.num_operations
    first, ranks = program.standing
    number = np.repeat(np.arange(count), np.diff(first))
    place = ranks * max(len(program.streams), 1) + program.stream[number]
    order = np.lexsort((number, place))
    follows = place[order[1:]] == place[order[:-1]]
    waiting = np.concatenate([np.repeat(np.arange(count), np.diff(program.first)), number[order[1:]][follows]])
    needed = np.concatenate([program.after, number[order[:-1]][follows]])
    pairs = np.sort(waiting * count + needed)
    once = pairs[np.diff(pairs, prepend=-1) > 0]
    rows = compress(once // max(count, 1), once % max(count, 1), count)
    sizes = np.array([0, *(flow.num_bytes for flow in wires.flows)], dtype=np.int64)
    none = np.full(count, -1, dtype=np.int64)
    return FlatProgram(
        num_ranks=program.num_ranks,
        kind=np.where(talks, COUPLED, COMPUTE),
        rank=ranks[first[:-1]],
        peer=none,
        num_bytes=sizes[program.communication + 1],
        duration_ps=np.where(talks, 0, durations_ps),
        channel=none,
        step=none,
        operation=np.arange(count),
        first=rows[0],
        needs=rows[1],
    )


def _on_processors(
    flat: FlatProgram, route_of: IntArray, first: int, there: npt.NDArray[np.bool_]
) -> tuple[FlatProgram, IntArray]:
    """Compute tasks as flows over the links of their processors, whose routes are numbered from ``first``; ``there``:
    which tasks run on them.
    """
    works = (flat.kind == COMPUTE) & (flat.duration_ps > 0) & there
    flat = replace(
        flat,
        kind=np.where(works, COUPLED, flat.kind),
        num_bytes=np.where(works, flat.duration_ps * _PER_PS, flat.num_bytes),
        duration_ps=np.where(works, 0, flat.duration_ps),
    )
    return flat, np.where(works, first + flat.rank, route_of)


def _paths(
    bound: Bound, wires: _Wires, route_of: IntArray, changes: Sequence[Change]
) -> tuple[Paths, list[Change]]:
    """Constraints, then every flow's own link, then the processors; and the changes in these numbers.

    Routes are the flows', with processors the same again as what a unit is busy with, then the processors alone.
    """
    fabric, count = bound.cluster.fabric, len(bound.flows)
    new_number, kept = _constraints(bound, changes)
    own, processor = len(kept), len(kept) + count
    rows: list[list[int]] = []
    weights: list[list[float]] = []
    for busy in (False, True) if wires.load else (False,):
        for number, flow in enumerate(wires.flows):
            mine = kept[new_number[flow.link]] == flow.link
            ranks = bound.program.ranks_of[number] if number in wires.load else ()
            load = _CAPACITY / flow.own_bandwidth if busy else wires.load.get(number, 0.0)
            rows.append([*new_number[flow.link[mine]].tolist(), own + number, *(processor + rank for rank in ranks)])
            weights.append([*flow.weights[mine].tolist(), 1.0, *(whole_weight(load) for _ in ranks)])
    num_ranks = bound.program.num_ranks if wires.load else 0
    rows += [[processor + rank] for rank in range(num_ranks)]
    weights += [[1.0]] * num_ranks
    bandwidths = [
        *(fabric.bandwidths[kept] * wires.fine).tolist(),
        *(flow.own_bandwidth for flow in wires.flows),
        *([_CAPACITY] * num_ranks),
    ]
    latencies = [flow.chain_ps for flow in bound.flows]
    latencies = [*latencies * (2 if wires.load else 1), *([0] * num_ranks)]
    paths = Paths.of_lists(bandwidths, rows, latencies, route_of.tolist(), weights)
    return paths, _renumbered(changes, new_number, wires.fine, processor if wires.load else None)


def _renumbered(
    changes: Sequence[Change], new_number: IntArray, fine: float, processor: int | None
) -> list[Change]:
    """Changes of the fabric's links as changes of constraints; a slow rank's processor has less capacity."""
    found = []
    for change in changes:
        if change.what is What.BANDWIDTH:
            if new_number[change.index] >= 0:
                found.append(replace(change, index=int(new_number[change.index]), value=change.value * fine))
            continue
        found.append(change)
        if processor is not None and change.what is What.SLOWDOWN:
            found.append(Change(change.time_ps, What.BANDWIDTH, processor + change.index, _CAPACITY / change.value))
    return found


def _constraints(bound: Bound, changes: Sequence[Change]) -> tuple[IntArray, IntArray]:
    """Links that all flows load alike, kept once: new number of every loaded link (-1: not loaded), links kept."""
    bandwidths = bound.cluster.fabric.bandwidths
    marks = _marks(len(bandwidths), changes)
    alike = np.unique(bandwidths, return_inverse=True)[1] * (int(marks.max(initial=0)) + 1) + marks
    loaded = np.zeros(len(bandwidths), dtype=bool)
    count = int(alike.max(initial=0)) + 1
    for flow in bound.flows:  # of links that were alike so far, those that it loads alike stay so
        weights, number = np.unique(flow.weights, return_inverse=True)
        now = np.unique(alike[flow.link] * len(weights) + number.ravel(), return_inverse=True)[1].ravel()
        alike[flow.link] = count + now
        count += len(flow.link)
        loaded[flow.link] = True
    links = np.flatnonzero(loaded)
    _, first, number = np.unique(alike[links], return_index=True, return_inverse=True)
    kept = np.sort(links[first])
    new_number = np.full(len(bandwidths), -1, dtype=np.int64)
    new_number[links] = np.searchsorted(kept, links[first][number.ravel()])
    return new_number, kept
