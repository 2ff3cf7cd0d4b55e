# SPDX-License-Identifier: Apache-2.0
"""Random programs and settings for both engines, and what is compared when each has run them.

The numbers are few and small, so that things coincide: ties are where engines come apart. Every draw is one of
hypothesis, so that a failure shrinks to a program of a few tasks.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from commbench.engine import compiled, reference
from commbench.engine.setting import CUT_OFF, Change, CutOff, Paths, Processors, Setting, What
from commbench.engine.trace import Trace
from commbench.errors import CommbenchError, InputError
from commbench.network.base import NetworkModel
from commbench.program.flat import COMPUTE, COUPLED, TRANSFER, FlatProgram, compress
from commbench.program.loop import LoopProgram

BYTE_PER_PS = 1e12  # bytes/s: one byte takes one picosecond

Case = tuple[FlatProgram, Setting]
LoopCase = tuple[LoopProgram, Setting]
Engine = Callable[[FlatProgram, Setting], Trace]

_BANDWIDTHS = (BYTE_PER_PS, BYTE_PER_PS, BYTE_PER_PS / 3, 3e11, 12.5e9, 700.0)
_LATENCIES = (0, 0, 100, 100, 57)
_BYTES = (0, 1, 100, 100, 100, 300, 4096, 10**6)
_DURATIONS = (0, 0, 100, 100, 57, 10**6)
_WEIGHTS = (1.0, 1.0, 2.0, 0.5, 3.0, 2.0**-20, 1.0 + 2.0**-20, 1000.25)
_SLOWNESS = (1.0, 2.0, 1.5, 0.5, 1 / 3)
_HUGE = (1, 2**40, 2**53 + 1, 2**61, 2**62, 2**63 - 1)


def program_of(rows: Sequence[tuple[int, int, int, int, int, Sequence[int]]]) -> FlatProgram:
    """A program from (kind, rank, peer, num_bytes, duration_ps, needs) of every task."""
    *columns, needs = zip(*rows, strict=True) if rows else ((),) * 6
    edges = [(task, needed) for task, row in enumerate(needs) for needed in row]
    waiting, needed = (np.array(column, dtype=np.int64) for column in (zip(*edges, strict=True) if edges else ((), ())))
    first, needs = compress(waiting, needed, len(rows))
    unused = np.full(len(rows), -1, dtype=np.int64)
    kind, rank, peer, num_bytes, duration = (np.array(column, dtype=np.int64) for column in columns)
    num_ranks = 1 + int(max(rank.max(initial=0), peer.max(initial=0)))
    return FlatProgram(
        num_ranks, kind, rank, peer, num_bytes, duration, unused, unused, unused, first=first, needs=needs
    )


# What is compared --------------------------------------------------------------------------------------------------


def outcome(engine: Engine, program: FlatProgram, setting: Setting) -> tuple[object, ...]:
    """All that an engine says of a case: the whole trace, or the error and its words.

    Of a cut route that is the time and the task that found it; of the end of 64 bits it is the message.
    """
    try:
        trace = engine(program, setting)
    except CutOff as error:
        return "cut", error.time_ps, error.task
    except InputError as error:
        return "error", str(error)
    assert trace.start_ps.dtype == trace.end_ps.dtype == np.int64
    return "trace", trace.num_shares, trace.finish_ps, trace.start_ps.tolist(), trace.end_ps.tolist()


def agree(program: FlatProgram, setting: Setting, seen: Counter[str]) -> None:
    """Both engines say the same; counts what the case was good for."""
    expected = outcome(reference.run, program, setting)
    assert outcome(compiled.run, program, setting) == expected
    seen["cases"] += 1
    seen[str(expected[0])] += 1
    hops = np.diff(setting.paths.first)
    seen["coupled"] += bool(np.any(program.kind == COUPLED))
    seen["overhead"] += setting.processors.overhead_ps > 0
    seen["pools"] += setting.processors.pools is not None
    seen["weights"] += len(setting.paths.weights) > 0
    seen["over no link"] += bool(np.any(hops[setting.paths.route_of[setting.paths.route_of >= 0]] == 0))
    for what in What:
        seen[f"change of {what.name}"] += any(change.what == what for change in setting.changes)


# Programs and settings ---------------------------------------------------------------------------------------------


@st.composite
def programs(
    draw: st.DrawFn,
    num_bytes: Sequence[int] = _BYTES,
    durations: Sequence[int] = _DURATIONS,
    some_kinds: Sequence[int] = (TRANSFER, TRANSFER, TRANSFER, COMPUTE, COUPLED),
) -> FlatProgram:
    """Up to 14 tasks on 4 ranks. The numbering has nothing to do with the order in which they depend on each other."""
    size = draw(st.integers(1, 14))
    number = draw(st.permutations(range(size)))
    kinds = st.sampled_from(some_kinds)
    rows: list[tuple[int, int, int, int, int, Sequence[int]]] = [(0, 0, 0, 0, 0, ())] * size
    for i in range(size):
        kind = draw(kinds)
        needs = draw(st.lists(st.sampled_from(number[:i]), max_size=3)) if i else []
        rank = draw(st.integers(0, 3))
        rows[number[i]] = (
            kind,
            rank if kind != COUPLED else -1,
            draw(st.integers(0, 3)) if kind == TRANSFER else -1,
            draw(st.sampled_from(num_bytes)) if kind != COMPUTE else 0,
            draw(st.sampled_from(durations)) if kind == COMPUTE else 0,
            needs,
        )
    return replace(program_of(rows), num_ranks=4)


@st.composite
def settings_for(draw: st.DrawFn, kind: np.ndarray) -> Setting:
    """Links, routes of 0 to 5 links over them, weights, and processors for tasks of these kinds."""
    bandwidths = draw(st.lists(st.sampled_from(_BANDWIDTHS), min_size=1, max_size=6))
    hops = st.lists(st.integers(0, len(bandwidths) - 1), max_size=5, unique=True)
    routes = draw(st.lists(hops, min_size=1, max_size=5))
    weights = None
    if draw(st.integers(0, 2)) == 0:
        weights = [[draw(st.sampled_from(_WEIGHTS)) for _ in route] for route in routes]
    some = st.integers(0, len(routes) - 1)
    paths = Paths.of_lists(
        bandwidths,
        routes,
        [draw(st.sampled_from(_LATENCIES)) for _ in routes],
        [-1 if k == COMPUTE else draw(some) for k in kind.tolist()],
        weights,
    )
    pools = draw(st.none() | st.tuples(*[st.integers(0, 2)] * 4))
    return Setting(paths, Processors(draw(st.sampled_from((0, 0, 10, 33))), pools, draw(st.integers(1, 3))))


@st.composite
def changes_for(draw: st.DrawFn, times_ps: Sequence[int], setting: Setting) -> tuple[Change, ...]:
    """Changes of all kinds, at and beside these times."""
    found = []
    num_links, num_routes = len(setting.paths.bandwidths), len(setting.paths.latency_ps)
    for _ in range(draw(st.integers(1, 5))):
        time_ps = max(0, draw(st.sampled_from(times_ps)) + draw(st.sampled_from((0, 0, 0, 1, -1, 20))))
        what = draw(st.sampled_from(What))
        if what == What.BANDWIDTH:
            index, value = draw(st.integers(0, num_links - 1)), draw(st.sampled_from(_BANDWIDTHS))
        elif what == What.ROUTE:
            index, value = draw(st.integers(0, num_routes - 1)), draw(st.integers(0, num_routes - 1))
            value = CUT_OFF if draw(st.integers(0, 7)) == 7 else value
        else:
            index, value = draw(st.integers(0, 3)), draw(st.sampled_from(_SLOWNESS))
        found.append(Change(time_ps, what, index, value))
    return tuple(sorted(found, key=lambda change: change.time_ps))  # those of one time as they were drawn


@st.composite
def steady_cases(draw: st.DrawFn) -> Case:
    """A program in a setting that does not change."""
    program = draw(programs())
    return program, draw(settings_for(program.kind))


@st.composite
def changing_cases(draw: st.DrawFn) -> Case:
    """The same with changes, at times at which something happened in a first run without them."""
    program, setting = draw(steady_cases())
    try:
        trace = reference.run(program, setting)
    except InputError:  # it takes too long even so
        return program, setting
    overhead_ps = setting.processors.overhead_ps
    times = {0, *trace.start_ps.tolist(), *trace.end_ps.tolist()}
    times |= {t + overhead_ps for t in trace.start_ps.tolist()} | {t - overhead_ps for t in trace.end_ps.tolist()}
    return program, replace(setting, changes=draw(changes_for(sorted(times), setting)))


@st.composite
def endless_cases(draw: st.DrawFn) -> Case:
    """Tasks so long that some programs pass the end of 64 bits, and some with a circle."""
    program = draw(programs(_HUGE, _HUGE, (TRANSFER, COMPUTE, COMPUTE, COUPLED)))
    setting = draw(settings_for(program.kind))
    if draw(st.booleans()):
        back = draw(st.lists(st.integers(0, program.num_tasks - 1), min_size=2, max_size=2))
        waiting = np.repeat(np.arange(program.num_tasks), np.diff(program.first))
        first, needs = compress(np.append(waiting, back[0]), np.append(program.needs, back[1]), program.num_tasks)
        program = replace(program, first=first, needs=needs)
    return program, setting


# Loops -------------------------------------------------------------------------------------------------------------


@st.composite
def loops(draw: st.DrawFn, *, even: bool = False) -> LoopCase:
    """A random round that may be repeated, and a setting for it; ``even`` has all rounds alike.

    Where B waits for A in a round, A waits for B of the round before, and each for its own last instance: so no
    instance gets further ahead than a loop allows.
    """
    size = draw(st.integers(1, 6))
    num_rounds, num_blocks, num_pieces = draw(st.integers(1, 40 if even else 6)), draw(st.integers(1, 4)), 2
    edges = {(b, a) for b in range(size) for a in range(b) if draw(st.integers(0, 2)) == 0}
    pairs = [(b, a, 0) for b, a in edges] + [(a, b, 1) for b, a in edges] + [(t, t, 1) for t in range(size)]
    waiting, needed, lag = np.array(sorted(pairs), dtype=np.int64).T
    first, _ = compress(waiting, needed, size)
    kind = np.array(draw(st.lists(st.sampled_from((TRANSFER, TRANSFER, COMPUTE)), min_size=size, max_size=size)))

    def column(highest: int, lowest: int = 0) -> np.ndarray:
        return np.array(draw(st.lists(st.integers(lowest, highest), min_size=size, max_size=size)), dtype=np.int64)

    def amounts(choices: Sequence[int]) -> np.ndarray:
        values = draw(st.lists(st.sampled_from(choices), min_size=num_blocks * 2, max_size=num_blocks * 2))
        return np.array(values[:1] * len(values) if even else values, dtype=np.int64)

    lanes = draw(st.booleans())  # numbered task by task or round by round
    order = np.array(draw(st.permutations(range(size))), dtype=np.int64)
    program = LoopProgram(
        num_ranks=4,
        kind=kind.astype(np.int64),
        rank=column(3),
        peer=np.where(kind == TRANSFER, column(3), -1),
        channel=np.where(kind == TRANSFER, 0, -1),
        num_rounds=num_rounds,
        num_working=draw(st.integers(0, num_rounds)),
        num_bytes=amounts(_BYTES),
        duration_ps=amounts(_DURATIONS),
        num_blocks=num_blocks,
        num_pieces=num_pieces,
        block=column(num_blocks - 1),
        stride=column(2, -2),
        piece=column(num_pieces - 1),
        base=order * num_rounds if lanes else order,
        pitch=np.full(size, 1 if lanes else size, dtype=np.int64),
        first=first,
        needs=needed,
        lag=lag,
    )
    return program, draw(settings_for(program.kind))


def unrolled(loop: LoopProgram, setting: Setting) -> Case:
    """The flat program of a loop, and its setting."""
    route_of = np.empty(loop.num_tasks, dtype=np.int64)
    route_of[loop.instances()] = setting.paths.route_of
    return loop.unroll(), replace(setting, paths=replace(setting.paths, route_of=route_of))


def counted_outcome(engine, case: Case, network: NetworkModel) -> tuple[object, ...]:  # type: ignore[no-untyped-def]
    """Times of every task, the end, how often shares were computed, and what the network counted; or the error."""
    try:
        trace = engine.run(*case, network=network)
    except CommbenchError as error:
        return (str(error),)
    counts = {name: values.tolist() for name, values in trace.counted.items()}
    return trace.start_ps.tolist(), trace.end_ps.tolist(), trace.finish_ps, trace.num_shares, counts
