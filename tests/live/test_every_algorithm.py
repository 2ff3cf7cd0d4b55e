# SPDX-License-Identifier: Apache-2.0
"""Every algorithm of the registry, and every native collective, on real gloo ranks.

Two tests: a fair sample on 2 to 5 ranks, and with ``COMMBENCH_FULL=1`` everything on 2 to 9. And the other way round:
where the symbolic verifier says that a rank ends with the wrong thing, real ranks find wrong elements.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from groups import Case, count_wrong_elements

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms.alltoall import all_to_all_v
from commbench.collectives.registry import ALGORITHMS, build
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import COLLECTIVES
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError

pytestmark = pytest.mark.live
pytest.importorskip("torch")

EVERY = [a for (_, name), a in ALGORITHMS.items() if name == a.name and a.live]
FULL = "COMMBENCH_FULL"


def requests(n: int, *, full: bool) -> list[Request]:
    """Roots, hosts, slices and channels; in the sample each at least once on some world."""
    groups = [g for g in range(1, n + 1) if n % g == 0]
    if full:
        cuts = [(1, 1), (3, 1), (1, 2), (2, 2)]
        return [Request(num_ranks=n, root=r, group=g, slices=s, channels=c)
                for r, g, (s, c) in product(range(n), groups, cuts)]  # fmt: skip
    inner = groups[-2] if len(groups) > 2 else groups[0]
    return [
        Request(num_ranks=n, group=inner),
        Request(num_ranks=n, root=n - 1, group=inner, slices=2, channels=n % 2 + 1),
    ]


def sizes(algorithm_or_collective: str, n: int, chunks: int) -> list[int]:
    """Elements: fewer than chunks, no multiple of them, and more than that; whole blocks where there are blocks."""
    spec = COLLECTIVES[algorithm_or_collective]
    if spec.covers:
        return [n * chunks]
    unit = n if spec.blocked else 1
    return [unit * count for count in ((1, 7, 331) if spec.blocked else (1, 2 * n + 1, 1031))]


def served(algorithm: Algorithm, n: int, *, full: bool) -> Iterator[Case]:
    """Cases of one algorithm on one world; requests that it refuses, or that ask for the same again, left out."""
    seen: list[Schedule] = []
    spec = COLLECTIVES[algorithm.collective]
    for request in requests(n, full=full):
        if algorithm.refuses(request) or (request.root and not spec.rooted and full):
            continue
        for size in sizes(algorithm.collective, n, 1):
            schedule = build(algorithm, replace(request, num_elements=size))
            if spec.covers:
                size = n * schedule.num_chunks
            if full and schedule in seen and not algorithm.sized:
                break
            strict = (size + request.slices) % 2 == 0 and needs_no_tags(schedule)
            yield Case(schedule, size, "int64" if request.slices > 1 else "float32", strict=strict)
        seen.append(schedule)


def needs_no_tags(schedule: Schedule) -> bool:
    from commbench.live.execute import require_same_order

    try:
        require_same_order(schedule, "strict")
    except InputError:
        return False
    return True


def natives(n: int) -> Iterator[Case]:
    for name, spec in COLLECTIVES.items():
        for root, size in product({0, n - 1} if spec.rooted else {0}, sizes(name, n, 1)):
            yield Case(None, size, collective=name, root=root)


def uneven(n: int) -> Iterator[Case]:
    """All-to-all-v with a size for every pair, some of them zero: exact sizes, and relative ones."""
    matrix = [[(3 * s + 5 * d) % 7 for d in range(n)] for s in range(n)]
    weights = tuple(entry for row in matrix for entry in row)
    for size in (sum(weights), 1009):
        yield Case(None, size, collective="all-to-all-v", weights=weights)
        yield from (Case(all_to_all_v(matrix, name), size) for name in ("direct", "pairwise"))


def wrong(n: int, folder: Path, *, full: bool, timeout_s: float) -> tuple[int, list[str]]:
    """Number of cases, and those with wrong elements."""
    cases = [case for algorithm in EVERY for case in served(algorithm, n, full=full)] + [*natives(n), *uneven(n)]
    counts = count_wrong_elements(n, folder, cases, timeout_s=timeout_s)
    return len(cases), [f"{case}: {count} wrong" for case, count in zip(cases, counts, strict=True) if count]


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 5])
def test_a_sample_on_live_ranks(num_ranks: int, tmp_path: Path) -> None:
    num_cases, bad = wrong(num_ranks, tmp_path, full=False, timeout_s=60)
    assert num_cases >= 2 * len(COLLECTIVES)
    assert bad == []


@pytest.mark.skipif(os.environ.get(FULL) != "1", reason=f"every algorithm on 2 to 9 ranks takes minutes: set {FULL}=1")
@pytest.mark.parametrize("num_ranks", range(2, 10))
def test_everything_on_live_ranks(num_ranks: int, tmp_path: Path) -> None:
    num_cases, bad = wrong(num_ranks, tmp_path, full=True, timeout_s=1200)
    print(f"{num_ranks} ranks: {num_cases} cases")
    assert bad == []


def broken(schedule: Schedule, spots: int = 4) -> Iterator[Schedule]:
    """Mutants that run to their end with a wrong result: another chunk is sent, or a message is left out."""
    ops, chunks = list(schedule), schedule.num_chunks
    sends = [i for i, op in enumerate(ops) if op.kind is Kind.SEND]
    stride = chunks // schedule.num_ranks if COLLECTIVES[schedule.collective].blocked else 1  # a chunk of the same size
    for i in sends[:: max(1, len(sends) // spots)]:
        op = ops[i]
        other = op.chunk // chunks * chunks + (op.chunk % chunks + stride) % chunks
        moved = [*ops[:i], replace(op, chunk=other), *ops[i + 1 :]]
        dropped = [other for j, other in enumerate(ops) if j not in (i, partner(ops, i))]
        for rows, name in ((moved, "moved"), (dropped, "dropped")):
            table = Schedule.from_ops(schedule.collective, name, schedule.num_ranks, chunks, rows).table
            mutant = replace(schedule, algorithm=f"{schedule.algorithm}, send {i} {name}", table=table)
            if ends_wrong(mutant):
                yield mutant


def partner(ops: Sequence[Op], i: int) -> int:
    """Index of the receive that the i-th operation, a send, meets."""
    send = ops[i]
    before = [op for op in ops[:i] if op.kind is Kind.SEND and pair_of(op) == pair_of(send)]
    receives = [
        j for j, op in enumerate(ops) if op.kind.receives and pair_of(op) == (send.peer, send.rank, send.channel)
    ]
    return receives[len(before)]


def pair_of(op: Op) -> tuple[int, int, int]:
    return op.rank, op.peer, op.channel


def ends_wrong(schedule: Schedule) -> bool:
    """Whether it runs to its end, without a race, and leaves the wrong thing."""
    try:
        verify(schedule)
    except ScheduleError as error:
        return " ends chunk " in str(error)
    return False


def test_wrong_schedules_of_every_collective_show_on_live_ranks(tmp_path: Path) -> None:
    n, cases = 3, []
    for algorithm in EVERY:
        request = Request(num_ranks=n, slices=2, root=1 if COLLECTIVES[algorithm.collective].rooted else 0)
        if algorithm.refuses(request):
            request = replace(request, slices=1)
        if not algorithm.refuses(request):
            size = 12 * n * n
            schedule = build(algorithm, replace(request, num_elements=size))
            # a barrier only has to hear of everybody, no matter in which chunk
            mutants = [m for m in broken(schedule) if "dropped" in m.algorithm or m.collective != "barrier"]
            elements = n * schedule.num_chunks if COLLECTIVES[algorithm.collective].covers else size
            cases += [Case(mutant, elements) for mutant in mutants]
    cases += [Case(None, n, collective="barrier", deaf=True)]
    assert {case.schedule.collective for case in cases if case.schedule} == set(COLLECTIVES)
    counts = count_wrong_elements(n, tmp_path, cases)
    assert [str(case) for case, count in zip(cases, counts, strict=True) if count == 0] == []
    assert len(cases) >= 100
