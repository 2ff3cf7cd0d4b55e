# SPDX-License-Identifier: Apache-2.0
"""An ``--out`` that cannot be written is refused before any work, in every command; a page is replaced whole."""

import os
import sys
from pathlib import Path

import pytest

from commbench.cli import main
from commbench.errors import InputError
from commbench.results.journal import Journal
from commbench.results.outfile import write_whole
from tests.results.test_journal import measured


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["commbench", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(ended.value.code or 0)


FILES = [
    ["sim", "all-reduce", "-t", "star-8"],
    ["sim", "train", "nothing.yaml"],
    ["run", "all-reduce"],
    ["run", "pipeline"],
    ["run", "gemm"],
    ["emulate", "star-8", "run", "all-reduce"],
    ["report", "nothing.jsonl"],
    ["topology", "draw", "star-8"],
    ["calibrate", "nothing.jsonl"],
    ["algorithm", "crossover", "-t", "star-8"],
]


@pytest.mark.parametrize("words", FILES, ids=" ".join)
def test_out_that_is_no_file_is_refused_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for out, what in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a pipe"),
        (Path("/dev/full"), "is a device"),
        (tmp_path / "file" / "r", "does not allow it"),
    ):
        assert command(*words, "--out", str(out), monkeypatch=monkeypatch) == 2
        assert f"error: --out {out}: " in (said := capfd.readouterr().err)
        assert what in said


@pytest.mark.parametrize("words", [["validate"], ["demo"]], ids=" ".join)
def test_out_that_is_no_folder_is_refused_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/full")):
        assert command(*words, "--out", str(out), monkeypatch=monkeypatch) == 2
        assert "is no folder" in capfd.readouterr().err


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "page.html"
    write_whole(path, "old")
    (tmp_path / "link").symlink_to(path)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(InputError, match="No space left"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    write_whole(tmp_path / "link", "new")
    assert path.read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_a_report_for_a_spreadsheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    Journal(path).append(measured())
    for name, start in (("t.csv", b"file,kind,run,"), ("t.json", b'[\n{"file": '), ("t.parquet", b"PAR1")):
        assert command("report", str(path), "--out", str(tmp_path / name), monkeypatch=monkeypatch) == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    assert command("report", str(path), "--format", "csv", "--title", "x", monkeypatch=monkeypatch) == 2
    assert "--title has no meaning for a table" in capfd.readouterr().err


def test_a_frame_has_a_row_per_record_and_typed_columns(tmp_path: Path) -> None:
    import commbench

    path = tmp_path / "r.jsonl"
    Journal(path).append(measured())
    frame = commbench.frame(path)
    assert len(frame) == 1
    assert str(frame["size_bytes"].dtype) == "Int64"
    assert frame["time_s"][0] == 2e-3
    assert frame["samples_s.count"][0] == 3
    assert frame["started_at"][0].tzinfo is not None
    assert frame["environment.hostname"][0] == "host-é"
