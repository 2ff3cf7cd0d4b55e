# SPDX-License-Identifier: Apache-2.0
"""Ranks in the same position are simulated as one, and nothing else changes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commbench.engine import compiled, reference
from commbench.engine.fold import Folded, fold
from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.program.loop import LoopProgram
from tests.cases import star
from tests.engine import engine_cases as cases
from tests.engine.loop_cases import busy_ring, fabric, ring


def spans(program: LoopProgram, setting: Setting) -> tuple[set[tuple[int, ...]], int, int]:
    """Starts and ends of every task of the round, each history once, with the end and the number of sharings."""
    number = program.instances()
    assert np.array_equal(np.sort(number.ravel()), np.arange(program.num_tasks))  # each has a place in the trace
    trace = compiled.run(program, setting)
    rows = np.concatenate([trace.start_ps[number], trace.end_ps[number]]).T
    return set(map(tuple, rows.tolist())), trace.finish_ps, trace.num_shares


def folded(case: cases.LoopCase) -> Folded:
    """What folding gives, once it is sure that the answer is that of the whole, task by task."""
    result = fold(*case)
    whole = spans(*case)
    assert spans(result.program, result.setting) == whole
    short, _ = compiled.run_steady(result.program, result.setting)
    assert (short.finish_ps, short.num_shares) == whole[1:]
    return result


def sizes(case: cases.LoopCase) -> tuple[int, int]:
    """Tasks and links that are left."""
    result = folded(case)
    return len(result.program.kind), len(result.setting.paths.bandwidths)


@pytest.mark.parametrize(
    ("algorithm", "channels", "num_tasks", "flows_on_a_link"),
    [("ring", 1, 2, 1), ("ring", 3, 2, 3), ("ring-bidirectional", 1, 4, 2), ("ring-bidirectional", 3, 2, 6)],
)
def test_on_a_star_all_ranks_are_one(algorithm: str, channels: int, num_tasks: int, flows_on_a_link: int) -> None:
    """One message, one step end; the links to the switch and from it are alike, so that is one link.

    On three channels three messages share each link, and both ways twice as many: what is left counts for all. (Both
    ways on one channel each, ranks a distance of 1 apart are alike, and the ways are not even compared.)
    """
    for n in (2, 3, 9, 16):
        result = folded(ring(star(n), n, algorithm=algorithm, channels=channels, reduction_ps_per_byte=0.3))
        assert (len(result.program.kind), len(result.setting.paths.bandwidths)) == (num_tasks, 1)
        assert result.setting.paths.weights.sum() == flows_on_a_link
        assert result.why_not == ""


CLASSES = {  # (fabric, routing, placement, channels): tasks, and what is left of them, and links
    # One leaf or host is left: of each of its ranks the message and the step end. Links are alike up and down.
    ("leaf-spine-16-4to1", "d-mod-k", "linear", 1): (32, 2 * 4, 6),
    ("leaf-spine-16-4to1", "ecmp", "linear", 2): (64, 5, 5),
    ("leaf-spine-16-4to1", "d-mod-k", "random", 2): (64, 32, 35),
    ("leaf-spine-16-4to1", "ecmp", "random", 2): (64, 64, 96),
    ("fat-tree-k4", "d-mod-k", "linear", 1): (32, 2 * 4, 5),
    ("fat-tree-k4", "ecmp", "linear", 2): (64, 32, 21),
    ("fat-tree-64", "d-mod-k", "linear", 1): (128, 2 * 8, 9),
    ("fat-tree-64", "ecmp", "linear", 2): (256, 65, 38),
    ("fat-tree-64", "ecmp", "random", 1): (128, 128, 384),
    ("dgx-h100-x4", "d-mod-k", "linear", 1): (64, 2 * 8, 13),
    ("dgx-h100-x4", "d-mod-k", "linear", 2): (128, 16, 9),
}


@pytest.mark.parametrize("where", CLASSES, ids=lambda where: "-".join(map(str, where)))
def test_rings_on_fabrics(where: tuple[str, str, str, int]) -> None:
    """Regular ones fold to one host or leaf; where flows collide at random, little or nothing does."""
    case = busy_ring(*where)
    assert (len(case[0].kind), *sizes(case)) == CLASSES[where]


@pytest.mark.parametrize("collective", ["all-reduce", "reduce-scatter", "all-gather"])
@pytest.mark.parametrize("algorithm", ["ring", "ring-bidirectional"])
def test_parts_of_a_fabric(collective: str, algorithm: str) -> None:
    """Worlds that leave hosts and leaves half full."""
    for name in ("leaf-spine-16-4to1", "dgx-h100-x2"):
        for n in (3, 5, 8, 11, 15):
            for placement in ("linear", "random"):
                folded(ring(fabric(name), n, collective=collective, algorithm=algorithm, placement=placement, seed=n))


def test_a_folded_program_is_a_program() -> None:
    """The reference engine comes to the same end with it."""
    topology = fabric("leaf-spine-16-4to1")
    result = folded(case := ring(topology, 16, channels=2, reduction_ps_per_byte=0.3))
    whole, short = (reference.run(*cases.unrolled(*each)) for each in (case, (result.program, result.setting)))
    assert (short.finish_ps, short.num_shares) == (whole.finish_ps, whole.num_shares)


# Not so alike as they look -----------------------------------------------------------------------------------------


def slower(case: cases.LoopCase, *links: int) -> cases.LoopCase:
    """With half the bandwidth on some links."""
    loop, setting = case
    bandwidths = setting.paths.bandwidths.copy()
    bandwidths[list(links)] /= 2
    return loop, replace(setting, paths=replace(setting.paths, bandwidths=bandwidths))


def test_one_slow_link_far_away() -> None:
    """32 ranks that differ in nothing but how far it is to the slow link, on the way from rank 0 to rank 1.

    Before it or behind it is the same, since a message holds up its sender as long as its receiver. Messages: the slow
    one, 15 pairs, the one opposite. Step ends: 16 pairs. Links: up and down of a message are alike but for the slow.
    """
    assert sizes(slower(ring(star(32), 32), 0)) == (17 + 16, 17 + 1)


def test_slow_links_on_opposite_sides() -> None:
    """At messages 0 and 16: ranks 16 apart are alike. Links: those of each message alike but for the slow one."""
    assert sizes(slower(ring(star(32), 32), 0, 32)) == (16 + 16, 16 + 1)


def test_slow_links_not_quite_opposite() -> None:
    """Messages 0 and 15, so 14 between them one way and 16 the other: from nearby it looks as before, but is not.

    Message i is like 15 - i: 16 pairs. Step end r is like 16 - r: 15 pairs, and 8 and 24 alone.
    """
    assert sizes(slower(ring(star(32), 32), 0, 30)) == (16 + 17, 16 + 1)


def test_slow_links_without_any_order() -> None:
    """At messages 0, 3 and 9: the distances 3, 6 and 23 differ, so no two ranks are in the same position."""
    result = folded(slower(ring(star(32), 32), 0, 6, 18))
    assert result.why_not == "no two ranks are in the same position"
    assert len(result.program.kind) == 64


def test_links_that_differ_in_load_alone() -> None:
    """All links have one bandwidth, but message 0 takes the link of rank 1 to the switch, as message 1 does.

    So far ranks a distance apart are alike in all but what else is on their links. Messages 0 and 1 mirror each other,
    2 and 7, 3 and 6, 4 and 5; so do the step ends 0 and 2, 3 and 7, 4 and 6, while 1 and 5 are alone. Links: those of
    each pair, the one that has two messages, and the one that has none.
    """
    loop, setting = ring(star(8), 8)
    links = setting.paths.links.copy()
    assert links[:4].tolist() == [0, 3, 2, 5]  # rank 0 to 1, rank 1 to 2
    links[0] = 2
    assert sizes((loop, replace(setting, paths=replace(setting.paths, links=links)))) == (4 + 5, 4 + 2)


def test_a_last_bit_of_bandwidth_matters() -> None:
    """It makes one message of 8 another one: it, 3 pairs, the one opposite, and 4 pairs of step ends."""
    loop, setting = ring(star(8), 8)
    bandwidths = setting.paths.bandwidths.copy()
    bandwidths[3] = np.nextafter(bandwidths[3], 0.0)
    assert sizes((loop, replace(setting, paths=replace(setting.paths, bandwidths=bandwidths)))) == (5 + 4, 5 + 1)


def test_a_latency_of_one_route_matters() -> None:
    """The same, but both its links are still alike."""
    loop, setting = ring(star(8), 8)
    latency_ps = setting.paths.latency_ps.copy()
    latency_ps[3] += 1
    assert sizes((loop, replace(setting, paths=replace(setting.paths, latency_ps=latency_ps)))) == (5 + 4, 5)


def copies(case: cases.LoopCase, count: int, own_links: list[bool], odd: int | None) -> cases.LoopCase:
    """The round several times side by side, on links of their own or on the same; ``odd`` has one link slower."""
    loop, setting = case
    size, paths = len(loop.kind), setting.paths
    num_links, num_routes = len(paths.bandwidths), len(paths.latency_ps)
    number = np.arange(count).repeat(size)

    def again(column: np.ndarray) -> np.ndarray:
        return np.tile(column, count)

    own = np.array(own_links)[paths.links]
    links = [np.where(own, paths.links + copy * num_links, paths.links) for copy in range(count)]
    bandwidths = np.tile(paths.bandwidths, count)
    if odd is not None:
        bandwidths[odd % len(bandwidths)] /= 3
    edges = [paths.first[:-1] + copy * len(paths.links) for copy in range(count)]
    route_of = np.where(again(paths.route_of) < 0, -1, again(paths.route_of) + number * num_routes)
    needs = [loop.needs + copy * size for copy in range(count)]
    firsts = [loop.first[:-1] + copy * len(loop.needs) for copy in range(count)]
    many = replace(
        loop,
        **{
            name: again(getattr(loop, name)) for name in ("kind", "rank", "peer", "channel", "block", "stride", "piece")
        },
        base=np.arange(size * count) * loop.num_rounds,
        pitch=np.ones(size * count, dtype=np.int64),
        first=np.concatenate([*firsts, [count * len(loop.needs)]]),
        needs=np.concatenate(needs),
        lag=again(loop.lag),
    )
    first = np.concatenate([*edges, [count * len(paths.links)]])
    return many, Setting(Paths(bandwidths, first, np.concatenate(links), again(paths.latency_ps), route_of))


def test_copies_of_any_loop() -> None:
    """Random rounds side by side, in part over the same links: the copies fold, and with an odd link what still can."""
    seen: Counter[str] = Counter()

    @given(cases.loops(even=True), st.integers(1, 4), st.lists(st.booleans(), min_size=6, max_size=6),
           st.none() | st.integers(0, 30))  # fmt: skip
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    def compare(case: cases.LoopCase, count: int, own_links: list[bool], odd: int | None) -> None:
        loop, setting = case
        plain = replace(setting, processors=Processors(), paths=replace(setting.paths, weights=np.empty(0)))
        result = folded(copies((loop, plain), count, own_links, odd))
        seen["cases"] += 1
        seen["folded"] += not result.why_not
        if count > 1 and odd is None:
            assert len(result.program.kind) <= len(loop.kind)

    compare()
    assert seen["cases"] >= 380
    assert seen["folded"] >= 150


# Obstacles ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_folded() -> None:
    loop, setting = ring(star(8), 8)
    weights = np.ones(len(setting.paths.links))
    obstacles = {
        "links or ranks change during the run": (loop, replace(setting, changes=(Change(5, What.SLOWDOWN, 0, 2.0),))),
        "chunks differ in size": ring(star(8), 8, extra_elements=1),
        "messages queue for processors": (loop, replace(setting, processors=Processors(1))),
        "flows are aggregates already": (loop, replace(setting, paths=replace(setting.paths, weights=weights))),
    }
    for why_not, case in obstacles.items():
        result = fold(*case)
        assert result.why_not == why_not
        assert (result.program, result.setting) == case
    assert fold(loop, setting).why_not == ""


def test_what_is_folded_is_not_folded_again() -> None:
    result = fold(*ring(star(8), 8))
    assert fold(result.program, result.setting).why_not == "flows are aggregates already"
