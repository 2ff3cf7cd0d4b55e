# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's own bookkeeping, looked at between instants: lists, counts and room are what they claim.

The traces agree even where a count is wrong that only says when to tidy up; here it shows.
"""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from commbench.engine import reference
from commbench.engine.kernel import counters as c
from commbench.engine.kernel.instants import loop_over
from commbench.engine.model import Model, build_model
from commbench.engine.setting import Change, CutOff, Paths, Processors, Setting, What
from commbench.errors import InputError
from commbench.network.fluid_kernel import KERNEL, TOUCHED
from commbench.network.queue import BUCKETS, EMPTY, FREE_BUCKET, HEAP, Queue
from commbench.program.flat import TRANSFER
from tests.engine import engine_cases as cases

END = -1


def chain(records: np.ndarray, head: int, following: str) -> Iterator[int]:
    """The entries of a linked list."""
    seen = 0
    while head >= 0:
        yield head
        head = int(records[head][following])
        seen += 1
        assert seen <= len(records), "a list bites its tail"


def check_queue(model: Model) -> None:
    """Every active slot waits in one bucket of one of the two queues."""
    n, slots = model.n, model.slots
    waiting = [slot for queue in (model.queue, model.network.queue) for slot in waiting_in(queue, slots, int(n[c.NOW]))]
    unused = list(chain(slots, int(n[c.FREE_SLOT]), "next"))
    assert sorted([*waiting, *unused]) == list(range(n[c.SLOTS]))
    assert np.all(slots["task"][unused] == END)
    assert n[c.PENDING] == n[c.READY] == n[c.PASSED] == n[c.DUE] == 0


def waiting_in(queue: Queue, slots: np.ndarray, now_ps: int) -> list[int]:
    """The slots in the buckets of the heap; the rest of the buckets is free."""
    n, buckets, heap = queue.n, queue.buckets, queue.heap[: queue.n[HEAP]]
    own, times = heap["bucket"].tolist(), heap["time"].tolist()
    assert all(times[i] >= times[(i - 1) // 2] for i in range(1, len(times)))
    assert times == buckets["time"][own].tolist()
    assert n[EMPTY] == np.count_nonzero(buckets["head"][own] < 0)
    free = list(chain(buckets, int(n[FREE_BUCKET]), "head"))
    assert sorted([*own, *free]) == list(range(n[BUCKETS]))
    assert np.all(buckets["time"][free] == -1)
    waiting = []
    for bucket in own:
        before = END
        for slot in chain(slots, int(buckets["head"][bucket]), "next"):
            assert (slots[slot]["bucket"], slots[slot]["prev"]) == (bucket, before)
            before = slot
            waiting.append(slot)
        assert before == END or buckets["time"][bucket] > now_ps
    assert n[BUCKETS] <= len(buckets)
    return waiting


def check_links(model: Model) -> None:
    """Every flow is on the links of its route, and on no other; no link is given more than it has."""
    n, net, slots = model.n, model.network, model.slots[: model.n[c.SLOTS]]
    links, on_link, place, first, route_links = net.links, net.on_link, net.place, net.first, net.route_links
    flows = [s for s in range(n[c.SLOTS]) if slots[s]["task"] >= 0 and slots[s]["state"] == c.FLOWING]
    expected = {(s, h) for s in flows for h in range(first[slots[s]["route"] + 1] - first[slots[s]["route"]])}
    found = []
    room = [*links["first"][1:].tolist(), len(on_link)]
    for number, link in enumerate(links):
        assert link["first"] + link["count"] <= room[number]
        total = load = 0.0
        for at, (slot, hop) in enumerate(on_link[link["first"] :][: link["count"]].tolist()):
            assert place[slots[slot]["hops"] + hop] == at
            whole = int(first[slots[slot]["route"]]) + hop
            assert route_links[whole] == number
            weight = float(net.weights[whole]) if len(net.weights) else 1.0
            total += weight
            load += weight * float(slots[slot]["rate"])
            found.append((slot, hop))
        assert link["total"] == total
        assert load <= link["bandwidth"] * (1 + 1e-9)
    assert len(found) == len(expected)
    assert set(found) == expected
    places = [slots[s]["hops"] + h for s, h in expected]
    assert len(set(places)) == len(places)
    assert max(places, default=-1) < len(place)
    assert net.n[TOUCHED] == 0
    assert not np.any(links["touched"])
    assert not np.any(links["fixed"])


def step_through(case: cases.Case) -> int:
    """Check the state after every instant at which something is done; returns how many there were."""
    program, setting = case
    try:
        reference.run(program, setting)
    except (InputError, CutOff):
        return 0
    model, looks = build_model(program, setting, keep_trace=False), 0
    advance = loop_over(KERNEL)
    while advance(model, program.num_tasks, 1) == c.RUNNING:
        check_queue(model)
        check_links(model)
        looks += 1
    check_queue(model)
    check_links(model)
    return looks


def test_there_is_room_for_all_that_may_come() -> None:
    """50 flows over one link, which may all move to a route of five, and on to one of two: the kernel asks for no more.

    Links 1 to 5 may have 50 flows at a time, link 6 too; each flow may be on five links. 10 more never move.
    """
    program = cases.program_of([(TRANSFER, 0, 1, 1000, 0, ())] * 60)
    routes = [[0], [1, 2, 3, 4, 5], [0, 6], [0, 6]]
    paths = Paths.of_lists([1e12] * 7, routes, [0] * 4, [0] * 50 + [3] * 10)
    changes = (Change(5, What.ROUTE, 0, 1), Change(9, What.ROUTE, 0, 2), Change(9, What.SLOWDOWN, 0, 2.0))
    model = build_model(program, Setting(paths, changes=changes), keep_trace=False)
    room = np.diff([*model.network.links["first"].tolist(), len(model.network.on_link)])
    assert np.all(room >= [60, 50, 50, 50, 50, 50, 60])
    places = np.diff([*model.network.hops.tolist(), len(model.network.place)])
    assert np.all(places >= [5] * 50 + [2] * 10)


def test_random_programs() -> None:
    looks = []

    @given(cases.changing_cases())
    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    def look(case: cases.Case) -> None:
        looks.append(step_through(case))

    look()
    assert sum(looks) >= 600


@pytest.mark.parametrize("overhead_ps", [0, 300])
def test_ends_foreseen_anew_again_and_again(overhead_ps: int) -> None:
    """120 flows of many sizes over two links: 7,000 ends foreseen, in at most as many buckets as there is room for."""
    rng = random.Random(7)
    rows = [(TRANSFER, 0, 1, rng.choice((10**6, rng.randrange(10**7))), 0, ()) for _ in range(120)]
    latency_ps = [rng.choice((0, 10**6, rng.randrange(10**8))) for _ in rows]
    routes = [rng.choice(([0], [0, 1], [1])) for _ in rows]
    paths = Paths.of_lists([1e12, 7e11], routes, latency_ps, range(len(rows)))
    assert step_through((cases.program_of(rows), Setting(paths, Processors(overhead_ps)))) > 80
