# SPDX-License-Identifier: Apache-2.0
"""The parts of a page, each by itself: axes, lanes, series, words and the way a figure gets into the page."""

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from commbench.report.axes import even_ticks, size_ticks, spread_positions
from commbench.report.chart import mark
from commbench.report.facts import environment_rows, run_facts, sample_facts
from commbench.report.figures import curve_pictures, error_pictures
from commbench.report.gantt import MOST_BARS, MOST_RANKS, gantt, pack
from commbench.report.page import ReportInput, render
from commbench.report.series import curve_panels
from commbench.report.svg import text
from commbench.report.tables import job_table, link_table, measured_table, reported_table
from commbench.report.text import decimals_for, percent, signed_percent, size_range, time_parts
from commbench.results.logs import read_log
from tests.report import samples
from tests.results.log_text import Layout, log
from tests.results.test_logs import POINTS

KIB, MIB, GIB = 2**10, 2**20, 2**30


@pytest.mark.parametrize(
    ("time_s", "parts"),
    [
        (0.0095, ("9.500", "ms")),
        (1.0, ("1.000", "s")),
        (999.96e-6, ("1000", "µs")),
        (123e-9, ("123.0", "ns")),
        (0.0, ("0", "ns")),
    ],
)
def test_times_have_four_digits(time_s: float, parts: tuple[str, str]) -> None:
    assert time_parts(time_s) == parts


def test_percentages_carry_a_true_minus_and_do_not_break() -> None:
    assert signed_percent(-0.0412) == "−4.1\N{NO-BREAK SPACE}%"
    assert signed_percent(0.0412) == "+4.1\N{NO-BREAK SPACE}%"
    assert percent(0.0412) == "4.1\N{NO-BREAK SPACE}%"


def test_small_rates_keep_four_digits() -> None:
    """The largest decides: 0.0934 GB/s needs 5 decimals to show four digits, 312.4 no more than the usual 3."""
    assert decimals_for([0.0934, None, 0.001]) == 5
    assert decimals_for([312.4, 0.01]) == 3
    assert decimals_for([None]) == 3


def test_size_range_counts_each_size_once() -> None:
    assert size_range([MIB, MIB, 64 * KIB]) == "64 KiB to 1 MiB, 2 sizes"
    assert size_range([MIB]) == "1 MiB"


@pytest.mark.parametrize("most", [2, 4, 6])
@pytest.mark.parametrize(("low", "high"), [(8, 8 * GIB), (64 * KIB, 16 * MIB), (MIB, MIB), (3000, 5000)])
def test_size_ticks_are_few_and_inside(low: int, high: int, most: int) -> None:
    ticks = size_ticks(low, high, most)
    assert len(ticks) <= most
    assert all(low <= 2**exponent <= high for exponent in ticks)
    if low <= MIB <= high:
        assert 20 in ticks, "1 MiB is always labelled"


def test_labels_keep_their_order_and_their_distance() -> None:
    wanted = [100.0, 101.0, 102.0, 200.0, 0.0]
    placed = spread_positions(wanted, 15, 0, 210)
    ordered = sorted(placed)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(ordered))
    assert sorted(range(5), key=placed.__getitem__) == sorted(range(5), key=wanted.__getitem__)
    assert placed[3] == 200.0
    assert placed[4] == 0.0
    assert placed[:3] == [86.0, 101.0, 116.0], "three that want the same place stand around its middle"
    assert max(spread_positions([210.0, 210.0], 15, 0, 210)) == 210.0


def test_bars_that_overlap_get_lanes_of_their_own() -> None:
    """Bars 0-10 and 5-15 overlap; 10-20 fits behind the first, 15-20 behind the second, 16-18 needs a third lane."""
    assert pack([0, 5, 10, 15, 16], [10, 15, 20, 20, 18]) == [0, 1, 0, 1, 2]


def test_lines_are_told_apart_by_what_differs_alone() -> None:
    ring = samples.simulation(size=MIB).record
    other = dataclasses.replace(ring, topology="elsewhere")
    (panel,) = curve_panels([ring, other, samples.measured()])
    assert [s.name for s in panel.series] == ["ring", "ring, shared-memory-4", "ring, elsewhere"]
    assert list(panel.bounds) == ["bound, shared-memory-4", "bound, elsewhere"]


def test_two_runs_are_two_lines_and_never_joined() -> None:
    one, two = samples.measured(run="a"), samples.measured(run="b", seed=1)
    other_size = samples.measured(size=4 * MIB, run="b")
    for second in (two, other_size):
        (panel,) = curve_panels([one, second])
        assert [(s.name, len(s.points)) for s in panel.series] == [("ring, run a", 1), ("ring, run b", 1)]
    (panel,) = curve_panels([one, samples.measured(run="a", seed=1)])
    assert [(s.name, len(s.points)) for s in panel.series] == [("ring", 1), ("ring, again (2)", 1)]


def test_every_compared_point_is_drawn_with_its_whisker() -> None:
    points = samples.compared_records(samples.measured_records(), samples.simulated_records())
    pictures = error_pictures(points)
    assert [p.title for p in pictures] == ["ring, 4 ranks", "double-binary-tree, 4 slices, 4 ranks"]
    for picture, algorithm in zip(pictures, samples.ALGORITHMS, strict=True):
        mine = [p for p in points if p.algorithm == algorithm]
        look = r'fill="var\(--(paper|s\d)\)" stroke="var\(--(paper|s\d)\)"'
        dots = re.findall(rf'data-error="([^"]+)".*?{look}', picture.svg, re.DOTALL)
        colour = f"s{samples.ALGORITHMS.index(algorithm)}"
        looks = [("paper", colour) if p.set == "fit" else (colour, "paper") for p in mine]
        assert dots == [(repr(p.error), *pair) for p, pair in zip(mine, looks, strict=True)]
        (whiskers,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-opacity="0.75"', picture.svg)
        assert whiskers.count("V") == len(mine)


def test_columns_that_are_all_alike_are_told_once() -> None:
    table = measured_table([samples.measured(), samples.measured("native", dtype="float16")])
    assert table is not None
    assert dict(table.common) == {
        "collective": "all-reduce",
        "backend": "gloo",
        "ranks": "4",
        "channels": "1",
        "slices": "1",
        "group": "1",
        "root": "0",
        "launcher": "commbench",
        "op": "sum",
        "timing": "isolated",
    }
    shown = [column.title for column in table.columns]
    assert shown[:5] == ["algorithm", "dtype", "run", "size", "time"]
    assert [row[0].text for row in table.rows] == ["ring", "gloo native"]
    assert all(len(row) == len(shown) for row in table.rows)


def test_one_rank_has_a_time_and_no_bus_bandwidth() -> None:
    (found,) = curve_pictures([samples.measured("native", ranks=1)])
    assert found.panel.ranks == 1
    assert [p.title for p in found.pictures] == ["Time"]


def test_chart_shows_every_transfer_and_reduction() -> None:
    """A ring of 4 sends 3 + 3 times per rank and reduces in the first 3 steps."""
    chart = gantt(samples.simulation())
    assert (chart.num_steps, chart.has_reductions, chart.left_out) == (6, True, "")
    bars = re.findall(r'<rect [^>]*fill="(#\w{6}|var\(--ink\))" class="bar', chart.picture.svg)
    assert len(bars) == 4 * 6 + 4 * 3
    assert bars.count("var(--ink)") == 4 * 3
    assert chart.picture.svg.count('class="bar critical"') == 6, "a transfer each step"
    assert chart.critical == "6 transfers one after the other, sent by 1 rank", "of equal ones the lowest"


def test_free_reductions_are_not_drawn() -> None:
    assert not gantt(samples.simulation("star-8")).has_reductions


def test_chart_of_many_ranks_says_what_it_leaves_out() -> None:
    chart = gantt(samples.simulation("fat-tree-64"))
    shown = int(re.search(r"the first (\d+) of 64 ranks", chart.left_out)[1])  # type: ignore[index]
    assert 4 <= shown <= MOST_RANKS
    assert shown * 126 <= MOST_BARS < (shown + 1) * 126
    assert f"rank {shown - 1}<" in chart.picture.svg
    assert f"rank {shown}<" not in chart.picture.svg


def test_chart_of_too_many_transfers_is_cut_in_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commbench.report.gantt.MOST_BARS", 10)
    assert re.search(r"Shown: the first [\d.]+\s[µm]s of [\d.]+\s[µm]s\.", gantt(samples.simulation()).left_out)


def test_text_in_a_picture_is_never_markup_and_values_are_whole() -> None:
    evil = '</title><script>"&'
    drawn = mark(1.0, 2.0, 3, (evil, "second line"), time_s=0.1 + 0.2, name=evil) + text(0, 0, evil)
    root = ElementTree.fromstring(f"<svg>{drawn}</svg>")
    assert root[0].attrib == {"class": "mark", "data-time-s": repr(0.1 + 0.2), "data-name": evil}
    assert root[0][0].text == f"{evil}\nsecond line"
    assert root[1].text == evil


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.07, 0.07), (0, 5e-7), (3.2, 1234.5), (0, 1e-12)])
@pytest.mark.parametrize("most", [5, 7, 10])
def test_even_ticks_are_round_inside_and_not_too_many(low: float, high: float, most: int) -> None:
    ticks = even_ticks(low, high, most)
    steps = [b - a for a, b in pairwise(ticks)]
    assert 2 <= len(ticks) <= most + 1
    assert low - 1e-9 * high <= ticks[0] <= ticks[-1] <= high * (1 + 1e-9)
    assert max(steps) == pytest.approx(min(steps))
    assert f"{steps[0]:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")


def test_facts_of_several_runs() -> None:
    records = [
        samples.measured(run="a", started_at="2026-07-28T09:15:00+00:00"),
        samples.measured(size=4 * MIB, run="a", started_at="2026-07-28T09:16:00+00:00", wrong=None),
        samples.measured(
            run="b", started_at="2026-07-29T10:00:00+00:00", environment=samples.ENVIRONMENT | {"torch": "9"}
        ),
    ]
    runs, rows = environment_rows(records)
    assert runs == ["a", "b"]
    assert dict(rows)["started"] == ["2026-07-28T09:15:00+00:00", "2026-07-29T10:00:00+00:00"]
    assert dict(rows)["torch"] == ["2.13.0+cpu", "9"]
    assert dict(rows)["cpu quota"] == ["not told"] * 2
    first, _ = sample_facts(records)
    assert (first.iterations, first.warmups, first.wrong) == ("20", "5", "0 in 1 size, 1 not checked")
    when = {fact.name: fact.text for fact in run_facts(records)}["When"]
    assert when == "2026-07-28 09:15 (UTC) to 2026-07-29 10:00 (UTC)"


def test_busiest_links_and_jobs_of_simulations_have_tables() -> None:
    plain = samples.simulated_records()[0]
    assert link_table([plain]) is None
    assert job_table([plain]) is None
    link = {"link": "leaf0 -> spine1", "bytes": 2**20, "utilisation": 0.5, "bound_share": None}
    jobs = ({"ranks": [0, 1], "time_s": 1e-3}, {"ranks": [2, 3, 4], "time_s": 2e-3})
    record = dataclasses.replace(plain, links=(link,), jobs=jobs)
    page = render(ReportInput("p", [record]))
    assert "leaf0 -&gt; spine1" in page
    assert "Jobs at once" in page
    found = job_table([record])
    assert found is not None
    assert [row[-1].text for row in found.rows] == ["1.000", "2.000"]


def test_the_axis_of_bandwidth_takes_its_unit_by_magnitude() -> None:
    slow = samples.measured(size=65536, true_s=0.16)
    (found,) = curve_pictures([slow])
    assert found.pictures[0].detail.startswith(("kB/s", "MB/s"))


def test_names_too_long_for_the_picture_stand_in_a_key_by_letter() -> None:
    """A name beside its line was cut off at the picture's edge, just where two runs differ."""
    short = [dataclasses.replace(samples.measured(), run=run) for run in ("one", "two")]
    assert [c.key for c in curve_pictures(short)] == [()]
    long = [dataclasses.replace(r, run=f"the-measurements-of-{r.run}-monday") for r in short]
    (found,) = curve_pictures(long)
    assert [(k.letter, k.name) for k in found.key] == [
        (letter, f"ring, run the-measurements-of-{run}-monday") for letter, run in (("A", "one"), ("B", "two"))
    ]
    assert found.key[0].variable != found.key[1].variable
    for picture in found.pictures:
        words = re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)
        assert {"A", "B"} <= set(words)
        assert "monday" not in "".join(words)
    assert "the-measurements-of-two-monday</li>" in render(ReportInput("p", long))


def test_more_names_than_the_picture_is_high_have_places_of_their_own() -> None:
    records = [dataclasses.replace(samples.measured(), run=f"r{i}") for i in range(40)]
    (found,) = curve_pictures(records)
    assert found.key[39].letter == "AN"
    place = r'<text x="([\d.]+)" y="(-?[\d.]+)"[^>]*class="name"[^>]*>([A-Z]{1,2})</text>'
    for picture in found.pictures:
        places = [(float(x), float(y)) for x, y, _ in re.findall(place, picture.svg)]
        assert len(places) == 40
        top, bottom = min(y for _, y in places), max(y for _, y in places)
        assert 0 <= top < bottom <= 300
        for i, (x, y) in enumerate(places):
            assert all(abs(x - u) >= 17 or abs(y - v) >= 11 for u, v in places[i + 1 :])


def test_rows_of_a_log_are_lines_named_by_library_and_place(tmp_path: Path) -> None:
    source = tmp_path / "a.log"
    source.write_text(log(Layout(), POINTS), encoding="utf-8")
    records = read_log(source).records
    (panel,) = curve_panels(records)
    assert [(line.name, line.measured, len(line.points)) for line in panel.series] == [
        ("NCCL, out of place", True, 3), ("NCCL, in place", True, 3)
    ]  # fmt: skip
    table = reported_table(records)
    assert table is not None
    assert dict(table.common)["device"] == "NVIDIA X1"
    assert "None" not in dict(table.common).values()
