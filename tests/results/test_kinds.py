# SPDX-License-Identifier: Apache-2.0
"""Kinds stand in one registry a layer, with equal keys; an unknown one is a message."""

from pathlib import Path

import pytest

from commbench.cli.run import OTHERS
from commbench.errors import InputError
from commbench.live.kinds import KINDS as LIVE
from commbench.report.kinds import FIELDS, SECTIONS
from commbench.report.page import ReportInput, render
from commbench.results.journal import read_records
from commbench.results.kinds import KINDS
from commbench.results.records import Record
from commbench.results.statistics import deviation, slowest
from tests.report.outcomes import OUTCOMES


def test_every_kind_of_record_has_its_place_on_the_page() -> None:
    assert SECTIONS.keys() == KINDS.keys()
    assert FIELDS.keys() == OUTCOMES.keys() == set(KINDS.values())


def test_every_kind_of_job_has_its_word_behind_run() -> None:
    """A collective and a suite of them are what ``run COLLECTIVE`` starts; products need no ranks."""
    groups = {"pairwise", "incast", "multi"}  # one kind of job
    assert LIVE.keys() - {"collective", "suite", "groups"} == OTHERS.keys() - {"gemm", *groups}


def test_an_unknown_kind_in_a_file_names_file_line_and_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text('\n{"kind": "mesured", "schema": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"r\.jsonl, line 2: kind 'mesured' is unknown; known: measured, simulated, "):
        read_records(file)


def test_a_page_refuses_a_kind_that_it_has_no_section_for() -> None:
    class Odd(Record):
        kind = "odd"

    with pytest.raises(InputError, match="no section of the page shows records of kind odd; known: measured, "):
        render(ReportInput("t", [Odd()]))


def test_the_slowest_rank_of_each_iteration_and_the_deviation_of_samples() -> None:
    assert slowest([(1.0, 5.0, 2.0), (3.0, 4.0, 1.0)]) == (3.0, 5.0, 2.0)
    assert deviation([1.0, 2.0, 4.0, 9.0]) == 1.5  # from 3: 2, 1, 1, 6
