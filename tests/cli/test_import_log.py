# SPDX-License-Identifier: Apache-2.0
"""``commbench import``: what is printed and kept, and that the page shows it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app, outcome
from commbench.results.journal import read_records
from tests.results.log_text import Layout, log
from tests.results.test_logs import POINTS


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_log_is_shown_kept_and_put_on_a_page(tmp_path: Path) -> None:
    source, kept, page = tmp_path / "a.log", tmp_path / "a.jsonl", tmp_path / "a.html"
    source.write_text(log(Layout(), POINTS), encoding="utf-8")
    lines = run("import", str(source), "--out", str(kept)).splitlines()
    assert "all-reduce, 8 ranks, 1 host, NVIDIA X1, NCCL 2.21.5" in " ".join(lines[:2])
    assert lines[-1].split() == ["4194304", "float32", "sum", "n/a", "in", "79.00", "53.09", "92.91", "0"]
    assert all(len(line) <= 80 for line in lines)
    assert len(read_records(kept)) == 6
    run("report", str(kept), "--out", str(page))
    html = page.read_text(encoding="utf-8")
    assert "6 reported sizes" in html
    assert "Bus bandwidth" in html


def test_json_is_one_record_a_line(tmp_path: Path) -> None:
    """Of a log that neither names its collective nor has one by its factor: that of all-to-alls is others' too."""
    source = tmp_path / "a.log"
    source.write_text(log(Layout(), POINTS, "alltoall", named=False), encoding="utf-8")
    rows = [json.loads(line) for line in run("import", str(source), "-c", "alltoall", "--json").splitlines()]
    assert {row["kind"] for row in rows} == {"reported"}
    assert rows[0]["busbw_GBps"] == pytest.approx(22.9376)
    assert outcome(["import", str(source)]) == 2
