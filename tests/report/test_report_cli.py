# SPDX-License-Identifier: Apache-2.0
"""The verb: files in, a page and its path out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from commbench.cli.report import report
from commbench.errors import InputError, ResultsError
from commbench.report.headlines import verdicts
from commbench.results.journal import Journal
from tests.report import samples
from tests.report.test_live_steps import OVERLAP, PRODUCT, TRAFFIC, TWIN

app = typer.Typer()
app.command()(report)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    for record in (samples.measured(), samples.simulation().record):
        Journal(path).append(record)
    return path


def test_prints_the_path_of_the_page(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "page.html"
    arguments = [str(journal), "--topology", "shared-memory-4", "--title", "Mine & yours", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["commbench", "report", *arguments])
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.stdout == f"{out}\n"
    page = out.read_text(encoding="utf-8")
    assert "<title>Mine &amp; yours</title>" in page
    assert "--topology shared-memory-4 --title &#39;Mine &amp; yours&#39;" in page  # as it must be typed in a shell
    assert 'id="topology"' in page


def test_json_is_one_object(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, [str(journal), "--out", str(out), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"kind": "report", "schema": 1, "path": str(out)}
    assert out.exists()


def test_salvage_names_what_it_left_out(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    with journal.open("a") as file:
        file.write('{"kind": "measured", "sch')
    with pytest.raises(ResultsError, match="--salvage reads them"):
        CliRunner().invoke(app, [str(journal), "--out", str(out)], catch_exceptions=False)
    assert not out.exists()
    result = CliRunner().invoke(app, [str(journal), "--salvage", "--out", str(out)], catch_exceptions=False)
    assert result.stdout == f"{out}\n"
    assert "line 3" in result.stderr
    assert "Left out" in out.read_text(encoding="utf-8")


def test_no_records_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InputError, match=r"empty\.jsonl: no records"):
        CliRunner().invoke(app, [str(empty)], catch_exceptions=False)


def test_a_page_that_cannot_be_written_is_an_error(journal: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        CliRunner().invoke(app, [str(journal), "--out", str(journal / "page.html")], catch_exceptions=False)


def test_the_files_of_a_page_are_told_apart_and_each_kind_has_a_headline(tmp_path: Path) -> None:
    """Last week's and today's runs have the file's name in legends, table and facts; unlike things no best."""
    files = []
    for week, seed in (("lastweek", 1), ("today", 2)):
        files.append(tmp_path / f"{week}.jsonl")
        for collective in ("all-reduce", "scatter"):
            Journal(files[-1]).append(samples.measured(collective=collective, run=f"id-{week}", seed=seed))
    Journal(files[-1]).append(samples.simulation().record)
    out = tmp_path / "page.html"
    CliRunner().invoke(app, [*map(str, files), "--out", str(out)], catch_exceptions=False)
    text = out.read_text("utf-8")
    assert "ring, run lastweek" in text
    assert "ring, run today" in text
    assert "lastweek is id-lastweek; today is id-today" in text
    assert text.count('class="verdict') == 2, "measured and simulated"
    assert "all-reduce on 4 ranks: best of 2: ring, run" in text
    assert "; scatter on 4 ranks: best of 2: ring" in text


def test_runs_with_ids_of_their_own_keep_them_and_many_are_counted(tmp_path: Path) -> None:
    """A page of 28 pipelines in two files began with 20 lines of run ids, and called their calibration its result."""
    records = [replace(TRAFFIC, run=f"tp-{i}") for i in range(5)]
    for record in records:
        Journal(tmp_path / "runs.jsonl").append(record)
        Journal(tmp_path / "alone.jsonl").append(samples.measured(run=f"{record.run}-calibration"))
    out = tmp_path / "page.html"
    files = [str(tmp_path / name) for name in ("runs.jsonl", "alone.jsonl")]
    CliRunner().invoke(app, [*files, "--out", str(out)], catch_exceptions=False)
    text = out.read_text("utf-8")
    assert "runs holds 5 runs; alone holds 5 runs" in text
    assert text.count('class="verdict') == 1
    assert "<h1>On live ranks</h1>" in text


def test_a_headline_tells_only_what_tells_its_own_results_apart() -> None:
    one = samples.simulation().record
    other = replace(one, topology="star-8", routing="ecmp", group=one.group + 1, run="b")
    (found,) = verdicts([one, other, replace(other, channels=4, time_s=other.time_s / 2)])
    assert f"({one.topology}): ring of" in found.sentence
    assert "(star-8): best of 2: ring, 4 channels of" in found.sentence
    (found,) = verdicts([one, replace(one, scenario="busy", scenario_digest="0123", run="b")])
    assert "(busy)" in found.sentence
    assert "0123" not in found.sentence


def test_two_summaries_of_a_page_say_what_each_is_of() -> None:
    figures = {"points": 4, "median_abs_error": 0.01}
    two = [replace(samples.summary(), groups={"contended": {word: figures}}) for word in ("no", "yes")]
    alone, shared = verdicts(two)
    assert "without shared links: median" in alone.sentence
    assert "on shared links: median" in shared.sentence


def test_an_all_reduce_that_calibrates_a_block_is_no_headline() -> None:
    found = verdicts([samples.measured(run="tp"), replace(TRAFFIC, run="tp")])
    assert [verdict.word for verdict in found] == ["Tensor parallelism: within limits"]
    assert [v.word for v in verdicts([TRAFFIC, TWIN, PRODUCT, OVERLAP])][-2:] == ["Products", "Overlap"]


@pytest.mark.parametrize("ending", ["xlsx", "tsv", "SVG"])
def test_an_ending_of_another_kind_of_file_is_refused_not_given_a_page(
    ending: str, journal: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"x.{ending}"
    with pytest.raises(InputError, match=rf"x\.{ending}: \.{ending.lower()} is not written; name it \.html, \.csv"):
        CliRunner().invoke(app, [str(journal), "--out", str(out)], catch_exceptions=False)
    assert not out.exists()
