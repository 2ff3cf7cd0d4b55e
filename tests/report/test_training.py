# SPDX-License-Identifier: Apache-2.0
"""Training steps on a page."""

import re
from dataclasses import replace

import pytest

from commbench.report.page import ReportInput, render
from commbench.report.pipeline_chart import PassBar, PassPanel, pipeline_chart
from commbench.report.training import training_section
from commbench.results.steps import SimulatedStep
from tests.training.plans import plan, simulate


@pytest.fixture(scope="module")
def steps() -> list[SimulatedStep]:
    return [
        simulate(plan(tp=2, pp=2, dp=4)).record,
        simulate(plan(tp=4, pp=4, schedule="zb-h1", zero=1, recompute="full")).record,
    ]


def test_every_step_has_a_chart_and_a_bar(steps: list[SimulatedStep]) -> None:
    section = training_section(steps)
    assert section is not None
    assert [chart.title for chart in section.charts] == [
        "tiny, tp 2 dp 4 pp 2, 1f1b on dgx-h100-x2",
        "tiny, tp 4 pp 4, zb-h1, ZeRO 1 on dgx-h100-x2",
    ]
    assert "bubble" in section.charts[0].detail
    assert [entry.word for entry in section.passes] == ["forward", "backward", "input gradient", "weight gradient"]
    assert [entry.word for entry in section.kinds][:4] == ["forward", "recompute", "backward", "optimizer"]
    assert any(note.startswith("tiny, tp 2 dp 4 pp 2, 1f1b: 16 ranks folded to 2: ") for note in section.notes)


def test_a_chart_has_a_rectangle_per_pass_and_one_row_per_position(steps: list[SimulatedStep]) -> None:
    section = training_section(steps[:1])
    assert section is not None
    svg = section.charts[0].svg
    assert svg.count("var(--s0)") == 2 * steps[0].microbatches  # forwards
    assert svg.count("var(--s1)") == 2 * steps[0].microbatches  # backwards
    assert "position 1" in svg
    assert "position 2" not in svg
    assert "<pattern" in svg  # hatched


def test_the_time_axis_reaches_to_the_end_of_the_step() -> None:
    bars = (PassBar(0, 0.0, 1.0, "F", "0"),)
    ends = {}
    for until_s in (0.0, 4.0):
        svg = pipeline_chart([PassPanel("", ("position 0",), bars)], "p", title="t", until_s=until_s).svg
        ends[until_s] = max(float(tick) for tick in re.findall(r'class="tick">([\d.]+)</text>', svg))
    assert ends == {0.0: 1.0, 4.0: 4.0}


def test_passes_that_are_too_many_are_left_out_and_the_axis_ends_with_those_drawn() -> None:
    bars = tuple(PassBar(0, 1e-3 * number, 1e-3 * (number + 1), "F", "") for number in range(6001))
    chart = pipeline_chart([PassPanel("", ("position 0",), bars)], "p", title="t", until_s=50.0)
    assert chart.detail == "shown: the first 6,000 passes"
    assert max(int(tick) for tick in re.findall(r'class="tick">(\d+)</text>', chart.svg)) <= 6


def test_tables_say_what_the_records_say(steps: list[SimulatedStep]) -> None:
    section = training_section(steps)
    assert section is not None
    names = [table.name for table in section.tables]
    assert names == ["steps", "exposed", "memory0", "memory1", "links0", "links1"]
    headline = section.tables[0].rows
    place = [column.title for column in section.tables[0].columns].index("iteration")
    assert [row[place].sort for row in headline] == [step.iteration_s for step in steps]
    assert [row[place + 2].sort for row in headline] == [step.mfu for step in steps]
    assert len(section.tables[1].rows) == sum(len(step.exposed_s) for step in steps)
    assert len(section.tables[2].rows) == 2
    assert [cell.sort for cell in section.tables[4].rows[0]][2:4] == [
        steps[0].busiest_links[0]["link"], steps[0].busiest_links[0]["bytes"],
    ]  # fmt: skip


def test_one_stage_has_no_bubble_in_the_table_either(steps: list[SimulatedStep]) -> None:
    section = training_section([simulate(plan(tp=4, dp=4)).record, steps[1]])
    assert section is not None
    table = next(table for table in section.tables if table.name == "steps")
    at = [i for i, column in enumerate(table.columns) if column.title == "bubble"]
    assert [table.rows[0][i].text for i in at] == ["none", "none"]
    assert all(table.rows[1][i].text.endswith("%") for i in at)


def test_a_step_without_spans_or_memory_still_has_a_page(steps: list[SimulatedStep]) -> None:
    full = replace(steps[0].without_spans(), capacity_bytes=1)
    section = training_section([full])
    assert section is not None
    assert section.charts == ()
    assert section.tables[0].rows[0][-1].text == "no"
    page = render(ReportInput("steps", [full]))
    assert '<section id="steps">' in page
    assert "Where the time of a step goes" in page


def test_a_page_without_steps_has_no_such_section() -> None:
    assert training_section([]) is None


def test_the_page_is_the_same_for_the_same_records(steps: list[SimulatedStep]) -> None:
    pages = {render(ReportInput("steps", steps)) for _ in range(2)}
    assert len(pages) == 1
    assert pages.pop().count("<figure>") == 3
