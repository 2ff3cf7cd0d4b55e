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
from commbench.network.fluid_kernel import KERNEL
from commbench.network.fluid_state import ASKED, CHANGED, LIVE, LOSING, NEWCOMERS, STALE, TOUCHED, UNSETTLED
from commbench.network.maxmin import WEIGHT_UNIT, max_min_rates
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


def flowing(model: Model) -> list[int]:
    """Slots of the flows in the network."""
    slots = model.slots[: model.n[c.SLOTS]]
    return np.flatnonzero((slots["task"] >= 0) & (slots["state"] == c.FLOWING)).tolist()


def check_queue(model: Model) -> None:
    """Every active slot waits in one bucket of the queue, or for its end in the network."""
    n, slots = model.n, model.slots
    waiting = waiting_in(model.queue, slots, int(n[c.NOW]))
    unused = list(chain(slots, int(n[c.FREE_SLOT]), "next"))
    assert sorted([*waiting, *unused, *flowing(model)]) == list(range(n[c.SLOTS]))
    assert np.all(slots["task"][unused] == END)
    assert n[c.PENDING] == n[c.READY] == n[c.PASSED] == n[c.DUE] == 0


def waiting_in(queue: Queue, slots: np.ndarray, now_ps: int) -> list[int]:
    """The slots in the buckets of the heap; the rest of the buckets is free."""
    n, buckets, heap = queue.n, queue.buckets, queue.heap[: queue.n[HEAP]]
    own, times = heap["item"].tolist(), heap["key"].tolist()
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
    net, slots = model.network, model.slots
    links, on_link, place, first, route_links = net.links, net.on_link, net.place, net.first, net.route_links
    flows = flowing(model)
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
        if number < len(links) - 1:
            assert load <= link["bandwidth"] * (1 + 1e-9)
            assert link["used"] == pytest.approx(load, rel=1e-9, abs=1e-9 * link["bandwidth"])
    assert len(found) == len(expected)
    assert set(found) == expected
    places = [slots[s]["hops"] + h for s, h in expected]
    assert len(set(places)) == len(places)
    assert max(places, default=-1) < len(place)
    lists = ("touched", "stale", "asked", "live", "fixed", "group")
    assert not any(net.n[place] for place in (NEWCOMERS, TOUCHED, CHANGED, STALE, ASKED, LOSING, LIVE))
    assert not any(np.any(links[name]) for name in lists)
    assert not np.any(net.flows["listed"])


def check_rates(model: Model) -> None:
    """Every flow has the rate that solving everything gives, to the last bit, held back by a link of that level."""
    net, slots, flows = model.network, model.slots, model.network.flows
    nowhere = len(net.links) - 1
    routes = {s: range(net.first[slots[s]["route"]], net.first[slots[s]["route"] + 1]) for s in flowing(model)}
    routes = {s: hops for s, hops in routes.items() if net.route_links[hops[0]] != nowhere}
    links = [[int(net.route_links[hop]) for hop in hops] for hops in routes.values()]
    weights = [[float(net.weights[hop]) for hop in hops] for hops in routes.values()] if len(net.weights) else None
    rates = max_min_rates(net.links["bandwidth"].tolist(), links, weights)
    for slot, crossed, rate in zip(routes, links, rates, strict=True):
        assert slots[slot]["rate"] == flows[slot]["next_rate"] == flows[slot]["counted"] == rate
        levels = {link: float(net.links[link]["level"]) for link in crossed}
        assert levels[int(net.held_by[slot])] == min(levels.values()) == rate
    full = {link for crossed, rate in zip(links, rates, strict=True) for link in crossed}
    assert all(link in full for link in np.flatnonzero(net.links["level"] < UNSETTLED).tolist())


def check_ends(model: Model) -> None:
    """Of every link's flows, those that it holds back, one waits: with the first end of all."""
    net, slots = model.network, model.slots
    waiting = waiting_in(net.queue, slots, int(model.n[c.NOW]))
    flows = flowing(model)
    own = {link: [s for s in flows if net.held_by[s] == link] for link in range(len(net.links))}
    assert sorted(waiting) == sorted(int(net.links[link]["soonest"]) for link, some in own.items() if some)
    for link, some in own.items():
        soonest = int(net.links[link]["soonest"])
        assert soonest in some if some else soonest == -1
        if some:
            end = min(int(net.flows[s]["end"]) for s in some)
            assert int(net.flows[soonest]["end"]) == net.queue.buckets["time"][slots[soonest]["bucket"]] == end
    assert all(slots[s]["bucket"] == -1 for s in set(flows) - set(waiting))


def check(model: Model) -> None:
    """Everything."""
    check_queue(model)
    check_links(model)
    check_rates(model)
    check_ends(model)


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
        check(model)
        looks += 1
    check(model)
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
    assert np.all(room >= [60, 50, 50, 50, 50, 50, 60, 0])
    places = np.diff([*model.network.hops.tolist(), len(model.network.place)])
    assert np.all(places >= [5] * 50 + [2] * 10)


def test_random_programs() -> None:
    looks = []

    @given(cases.changing_cases())
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    def look(case: cases.Case) -> None:
        looks.append(step_through(case))

    look()
    assert sum(looks) >= 300


@pytest.mark.parametrize("overhead_ps", [0, 300])
def test_ends_foreseen_anew_again_and_again(overhead_ps: int) -> None:
    """120 flows of many sizes over two links: 7,000 ends foreseen, in at most as many buckets as there is room for."""
    rng = random.Random(7)
    rows = [(TRANSFER, 0, 1, rng.choice((10**6, rng.randrange(10**7))), 0, ()) for _ in range(120)]
    latency_ps = [rng.choice((0, 10**6, rng.randrange(10**8))) for _ in rows]
    routes = [rng.choice(([0], [0, 1], [1])) for _ in rows]
    paths = Paths.of_lists([1e12, 7e11], routes, latency_ps, range(len(rows)))
    assert step_through((cases.program_of(rows), Setting(paths, Processors(overhead_ps)))) > 80


# Filling where something has changed -------------------------------------------------------------------------------

EQUAL, MIXED, NEAR = "equal links", "mixed links", "nearly full links"


def changing_network(rng: random.Random, kind: str) -> cases.Case:
    """Flows of many sizes that come, go and move over a leaf-spine or any links, while some links change."""
    num_links, size = rng.choice((4, 9, 24)), rng.choice((40, 90))
    if kind == EQUAL:
        bandwidths = [1e12] * num_links
    elif kind == MIXED:
        bandwidths = [rng.choice((1e12, 1e12 / 3, 3e11, rng.uniform(1e10, 1e12))) for _ in range(num_links)]
    else:  # what some links leave just fills others, but for the last bits
        bandwidths = [
            1e12 * rng.choice((1 / 2, 1 / 3, 2 / 3, 1.0)) * rng.choice((1.0, 1 + 2**-52, 1 - 2**-21))
            for _ in range(num_links)
        ]
    routes = [rng.sample(range(num_links), rng.randint(1, 4)) for _ in range(20)]
    weights = None
    if rng.random() < 0.4:
        weights = [[rng.choice((1.0, 1.0, 2.0, 0.25, 7 * WEIGHT_UNIT)) for _ in route] for route in routes]
    rows = [
        (
            TRANSFER,
            0,
            1,
            rng.choice((10**6, rng.randrange(1, 10**6))),
            0,
            rng.sample(range(task), min(task, rng.choice((0, 0, 1)))),
        )
        for task in range(size)
    ]
    route_of = [rng.randrange(len(routes)) for _ in rows]
    latency_ps = [rng.choice((0, 1000, rng.randrange(10**6))) for _ in routes]
    paths = Paths.of_lists(bandwidths, routes, latency_ps, route_of, weights)
    times = sorted(rng.randrange(3 * 10**6) for _ in range(rng.choice((0, 12))))
    changes = [
        Change(time, What.BANDWIDTH, rng.randrange(num_links), rng.choice((1e12, rng.uniform(1e10, 1e12))))
        if rng.random() < 0.5
        else Change(time, What.ROUTE, rng.randrange(len(routes)), rng.randrange(len(routes)))
        for time in times
    ]
    return cases.program_of(rows), Setting(paths, changes=tuple(changes))


@pytest.mark.parametrize("kind", [EQUAL, MIXED, NEAR])
def test_a_changed_part_is_filled_as_everything_is(kind: str) -> None:
    """Hundreds of networks, some ten thousand changes in a row: after each, all rates are those of a full solution."""
    looks = sum(step_through(changing_network(random.Random(seed), kind)) for seed in range(20))
    assert looks > 1000
