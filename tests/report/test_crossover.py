# SPDX-License-Identifier: Apache-2.0
"""The crossover map: what is raced and recorded, and what the picture says."""

import json
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import pytest

from commbench.collectives.registry import ALGORITHMS
from commbench.errors import InputError
from commbench.report.crossover import FULL_MARGIN, crossover_svg, strength
from commbench.sim.crossover import Crossover, crossover
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective, star

SIZES = (2**10, 2**24)
PLACED = r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>'


def record(ranks: int, size_bytes: int, times_s: Mapping[str, float]) -> Crossover:
    return Crossover(
        collective="all-reduce",
        topology="somewhere",
        routing="d-mod-k",
        placement="linear",
        seed=3,
        ranks=ranks,
        size_bytes=size_bytes,
        times_s=times_s,
        skipped={"broken": "needs <a switch>"} if not times_s else {},
        lower_bound_s=0.0,
    )


def words(svg: str) -> list[str]:
    """The texts of a picture, which must be well formed."""
    ElementTree.fromstring(svg)
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def fills(svg: str) -> list[str]:
    """Colours in the order of drawing: the tiles stand first."""
    return re.findall(r'<rect[^>]* fill="(#[0-9a-f]{6})"', svg)


def test_the_winner_is_the_fastest_of_the_simulations() -> None:
    fabric = star(8)
    wanted = ["ring", "tree"]
    records = crossover(
        fabric, "all-reduce", ranks=[2, 8], sizes_bytes=SIZES, algorithms=wanted, channels=[1], slices=[]
    )
    assert [(r.size_bytes, r.ranks) for r in records] == [(s, n) for s in SIZES for n in (2, 8)]
    for r in records:
        alone = {
            name: simulate_collective(fabric, "all-reduce", name, r.size_bytes, num_ranks=r.ranks).record.time_s
            for name in ("ring", "double-binary-tree")
        }
        assert dict(r.times_s) == alone
        assert r.winner == min(alone, key=alone.__getitem__)
        assert r.margin == max(alone.values()) / min(alone.values()) - 1
    # On 8 ranks, 6 one-way trips of a tree beat the 14 of a ring; for bytes the ring's 2 x 7/8 beat the tree's 2.
    assert [r.winner for r in records if r.ranks == 8] == ["double-binary-tree", "ring"]


def test_channels_and_slices_are_searched() -> None:
    """A ring on two hosts of eight GPUs is fastest on channels that use all NICs, what sends halves in slices."""
    fabric = load_fabric("dgx-h100-x2")
    names = ["ring", "hierarchical"]
    (one,) = crossover(fabric, "all-reduce", ranks=[16], sizes_bytes=[2**28], algorithms=names)
    for name in names:
        for channels, slices in ((1, None), (8, None), (1, 16)):
            tried = simulate_collective(fabric, "all-reduce", name, 2**28, channels=channels, slices=slices).record
            assert one.times_s[name] <= tried.time_s * (1 + 1e-9)
    assert one.settings["ring"]["channels"] == 8
    assert one.label("ring").startswith("ring c8")
    assert one.label(one.winner or "") in words(crossover_svg([one]))
    (own,) = crossover(
        fabric, "all-reduce", ranks=[16], sizes_bytes=[2**28], algorithms=names, channels=[2], slices=[4]
    )
    assert {each["channels"] for each in own.settings.values()} == {2}


def test_small_sizes_are_not_cut() -> None:
    (one,) = crossover(load_fabric("dgx-h100-x2"), "all-reduce", ranks=[16], sizes_bytes=[2**12])
    assert {each["channels"] for each in one.settings.values()} == {1}


@pytest.mark.parametrize("collective", sorted({c for c, _ in ALGORITHMS}))
def test_every_algorithm_of_the_registry_is_raced_or_its_reason_kept(collective: str) -> None:
    (one,) = crossover(star(6), collective, ranks=[6], sizes_bytes=[6 * 2**16])
    names = {a.name for (c, _), a in ALGORITHMS.items() if c == collective}
    assert one.times_s.keys() | one.skipped.keys() == names
    assert not one.times_s.keys() & one.skipped.keys()
    assert list(one.times_s.values()) == sorted(one.times_s.values())
    assert all(time >= one.lower_bound_s for time in one.times_s.values())
    assert all(one.skipped.values())


def test_switches_that_are_not_there_are_a_reason() -> None:
    two_hosts = crossover(star(2), "all-reduce", ranks=[2], sizes_bytes=[8], algorithms=["ring"])[0]
    assert two_hosts.skipped == {}
    assert crossover(star(4), "all-reduce", ranks=[4], sizes_bytes=[2], algorithms=["ring"])[0].winner is None


def test_switches_that_cannot_add_are_a_reason() -> None:
    given = {"ranks": [8], "sizes_bytes": [2**20], "algorithms": ["nvls", "ring"]}
    (old,), (new,) = (crossover(load_fabric(name), "all-reduce", **given) for name in ("dgx-a100", "dgx-h100"))
    assert old.skipped == {"nvls": "NVSwitches do not add for a100-sxm4: NVLS came with Hopper"}
    assert new.times_s.keys() == {"nvls", "ring"}


def test_the_record_is_one_json_object() -> None:
    data = json.loads(record(4, 1024, {"a": 1.0, "b": 1.25}).to_json())
    assert (data["kind"], data["schema"]) == ("crossover", 1)
    assert (data["winner"], data["time_s"], data["runner_up"], data["margin"]) == ("a", 1.0, "b", 0.25)
    alone = json.loads(record(4, 1024, {"a": 1.0}).to_json())
    assert (alone["winner"], alone["runner_up"], alone["margin"]) == ("a", None, None)
    none = json.loads(record(4, 1024, {}).to_json())
    assert (none["winner"], none["time_s"], none["skipped"]) == (None, None, {"broken": "needs <a switch>"})


def test_equal_times_keep_the_order_of_the_registry() -> None:
    fabric = star(2)
    for names in (["ring", "tree"], ["tree", "ring"]):
        (one,) = crossover(fabric, "all-reduce", ranks=[1], sizes_bytes=[1024], algorithms=names)
        assert list(one.times_s.values()) == [0.0, 0.0]
        assert one.winner == ("ring" if names[0] == "ring" else "double-binary-tree")
        assert one.margin == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithms": ["rinng"]}, r"algorithm 'rinng' is unknown for all-reduce; did you mean ring\? known: ring"),
        ({"algorithms": []}, "crossover of all-reduce: no algorithms, no sizes or no world sizes to compare"),
        ({"sizes_bytes": []}, "crossover of all-reduce: no algorithms, no sizes or no world sizes to compare"),
        ({"ranks": [2, 5]}, "5 ranks on topology star: it has 4 endpoints"),
        ({"ranks": [0]}, "0 ranks on topology star: it has 4 endpoints"),
        ({"routing": "fastest"}, "routing 'fastest' is unknown"),
        ({"placement": "best"}, "placement 'best' is unknown"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        crossover(star(4), "all-reduce", **{"ranks": [2], "sizes_bytes": [1024], **arguments})


MAP = [
    record(2, 2**10, {"ring": 1e-6, "tree": 1e-6}),
    record(4, 2**10, {"tree": 2e-6, "ring": 4e-6}),
    record(2, 2**20, {"ring": 3e-4, "tree": 3.15e-4}),
    record(4, 2**20, {}),
]


def test_the_picture_says_who_wins_by_how_much() -> None:
    shown = words(crossover_svg(MAP))
    for text in ("2 ranks", "4 ranks", "1 KiB", "1 MiB", "1 µs, tie", "2 µs, +100%", "300 µs, +5.0%", "none can run"):
        assert shown.count(text) == 1, text
    assert shown.count("ring") == 2 + 1  # two tiles and the legend
    assert shown.count("tree") == 1 + 1
    assert "Fastest all-reduce on somewhere" in shown
    assert "simulated, routing d-mod-k, placement linear, seed 3" in shown


def test_a_tile_stands_under_its_ranks_and_beside_its_size() -> None:
    svg = crossover_svg(MAP)
    where = {text: (float(x), float(y)) for x, y, text in re.findall(PLACED, svg)}
    assert where["2 µs, +100%"][0] == pytest.approx(where["4 ranks"][0], abs=1)
    assert where["300 µs, +5.0%"][0] == pytest.approx(where["2 ranks"][0], abs=1)
    for cell, size in (("2 µs, +100%", "1 KiB"), ("300 µs, +5.0%", "1 MiB")):
        assert where[cell][1] == pytest.approx(where[size][1], abs=20)


def test_a_winner_has_one_colour_and_the_margin_its_strength() -> None:
    tie, clear, close, none = fills(crossover_svg(MAP))[1:5]  # the paper stands first
    assert clear == "#117733"  # the second winner's full colour
    assert none == "#e5e7eb"
    lightness = [sum(bytes.fromhex(colour[1:])) for colour in (tie, close)]
    assert lightness[0] > lightness[1] > sum(bytes.fromhex("332288"))
    assert strength(0) < strength(0.1) < strength(FULL_MARGIN) == strength(9) == strength(None) == 1


def test_equal_records_give_equal_text() -> None:
    assert crossover_svg(MAP) == crossover_svg(MAP)


def test_the_picture_fetches_nothing_and_is_sized_in_pixels() -> None:
    svg = crossover_svg(MAP)
    assert not re.search(r'(href|src)="https?:', svg)
    assert re.search(r'<svg [^>]*width="\d+(\.\d+)?"', svg)
