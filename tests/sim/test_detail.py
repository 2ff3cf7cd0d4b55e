# SPDX-License-Identifier: Apache-2.0
"""Collective detail against transfer detail on a grid of cases, and docs/detail.md that shows it.

``python -m tests.sim.test_detail`` rewrites the page.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.registry import build, get_algorithm, rounds_of
from commbench.collectives.traffic import Traffic, traffic_of
from commbench.errors import InputError
from commbench.topology.load import load_fabric
from commbench.units import format_bytes
from tests.cases import simulate_collective

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detail.md"

CASES = tuple(
    (collective, algorithm)
    for collective, algorithms in (
        (
            "all-reduce",
            ("ring", "ring-bidirectional", "tree", "halving-doubling", "hierarchical"),
        ),
        ("all-gather", ("ring", "bruck")),
        ("reduce-scatter", ("ring", "halving")),
        ("all-to-all", ("direct", "pairwise")),
        ("broadcast", ("binomial", "ring")),
    )
    for algorithm in algorithms
)
FABRICS = (
    ("fat-tree-64", {}),
    ("leaf-spine-16-4to1", {}),
    ("leaf-spine-16-4to1", {"placement": "random", "seed": 7}),
    ("dgx-h100-x4", {}),
    ("dgx-h100-x4", {"channels": 8}),
)
SIZES = (64 * 2**10, 4 * 2**20, 256 * 2**20)


def errors(collective: str, algorithm: str, fabric: str, options: dict[str, object]) -> list[float]:
    """Signed error of collective detail at every size: collective / transfer - 1."""
    found = []
    for size in SIZES:
        times = [
            simulate_collective(
                load_fabric(fabric), collective, algorithm, size, detail=detail, keep_trace=False, **options
            ).record.time_s  # type: ignore[arg-type]
            for detail in ("collective", "transfer")
        ]
        found.append(times[0] / times[1] - 1)
    return found


def rows() -> Iterator[tuple[str, str, str, list[float]]]:
    for collective, algorithm in CASES:
        for fabric, options in FABRICS:
            place = str(options.get("placement", "linear"))
            place += f", {options['channels']} channels" if "channels" in options else ""
            try:
                yield f"{collective} {algorithm}", fabric, place, errors(collective, algorithm, fabric, options)
            except InputError:
                continue  # an algorithm that cannot serve this world


def page() -> str:
    table = list(rows())
    every = [abs(error) for *_, row in table for error in row]
    lines = [
        "# Collective detail against transfer detail",
        "",
        "`--detail collective` takes a collective as one aggregate flow: its latency chain and its load on every link",
        "come from the schedule's own traffic (`commbench/lowering/aggregate.py` says how). What it leaves out: steps",
        "that overlap, flows of a step that end at different times, ranks that drift apart. Signed error:",
        "collective / transfer - 1. Algorithms cut into slices (chains, trees) overlap most, and err most.",
        "Rewrite this page with `python -m tests.sim.test_detail`; a test holds it to what the code gives.",
        "",
        f"{len(every)} cases: median |error| {median(every):.1%}, 95th percentile {np.percentile(every, 95):.1%}, "
        f"largest {max(every):.1%}.",
        "",
        "| algorithm | fabric | placement | " + " | ".join(format_bytes(size) for size in SIZES) + " |",
        "|---|---|---|" + "---|" * len(SIZES),
    ]
    lines += [
        f"| {name} | {fabric} | {place} | " + " | ".join(f"{e:+.1%}" for e in row) + " |"
        for name, fabric, place, row in table
    ]
    return "\n".join(lines) + "\n"


def test_the_page_shows_what_the_code_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_ring_in_order_is_exact() -> None:
    """All steps are alike and none waits for another link: 2(n-1)(S/n/B + 4 us) in both details."""
    assert errors("all-reduce", "ring", "fat-tree-64", {}) == [0.0, 0.0, 0.0]


RINGS = [(c, a) for c, a in CASES if a.startswith("ring") and c != "broadcast"]


def listed(steps: Iterable[Traffic]) -> list[set[tuple[float, ...]]]:
    """The messages of every step."""
    return [
        set(zip(*(column.tolist() for column in (s.src, s.dst, s.channel, s.num_bytes, s.adds)), strict=True))
        for s in steps
        for _ in range(s.times)
    ]


@pytest.mark.parametrize(("collective", "algorithm"), RINGS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_ranks", [2, 5, 8])
def test_traffic_of_rounds_is_that_of_the_listed_schedule(
    collective: str, algorithm: str, channels: int, num_ranks: int
) -> None:
    """Chunks of equal size: the traffic of both forms is equal, step by step."""
    request = Request(num_ranks=num_ranks, channels=channels)
    entry = get_algorithm(collective, algorithm)
    elements = num_ranks * channels * 2 * 10
    short = rounds_of(entry, request)
    assert short is not None
    long = build(entry, request)
    assert listed(traffic_of(short, elements, 4)) == listed(traffic_of(long, elements, 4))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
