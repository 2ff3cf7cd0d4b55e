# SPDX-License-Identifier: Apache-2.0
"""Data files that ship are read as YAML once and then as JSON, and say the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.kept import read_shipped
from commbench.yaml_reader import read_yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "commbench" / "libraries").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_was_kept_is_what_the_file_says(path: Path, folder: Path) -> None:
    said = read_yaml(path, InputError).data
    assert [repr(read_shipped(path, InputError)) for _ in range(2)] == [repr(said)] * 2
    assert len(list(folder.iterdir())) == 1


def test_an_edited_file_is_read_again_and_what_was_kept_of_it_goes(tmp_path: Path, folder: Path) -> None:
    path, other = tmp_path / "data.yaml", tmp_path / "data-2.yaml"
    other.write_text("b: 1", encoding="utf-8")
    read_shipped(other, InputError)
    found = []
    for text in ("a: 1", "a: 2", "a: 1"):
        path.write_text(text, encoding="utf-8")
        found.append(read_shipped(path, InputError))
    assert found == [{"a": 1}, {"a": 2}, {"a": 1}]
    assert len(list(folder.iterdir())) == 2


def test_a_wrong_file_is_told_and_not_kept(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("a: yes", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError, match=r"data.yaml: line 1: a: 'yes': type true"):
            read_shipped(path, InputError)
    assert not folder.exists()


def test_a_damaged_file_is_made_anew(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("a: 1", encoding="utf-8")
    read_shipped(path, InputError)
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"]")
    assert read_shipped(path, InputError) == {"a": 1}
    assert [message.partition(" (")[0] for message in caplog.messages] == [f"{kept}: damaged"]
    assert read_shipped(path, InputError) == {"a": 1}
    assert len(caplog.messages) == 1


COMMAND = """
import sys
from commbench.cli.main import outcome
outcome(["sim", "all-reduce", "--topology", "dgx-h100", "-b", "1M", "-e", "1M"])
print([name for name in ("pydantic", "yaml", "numba", "llvmlite") if name in sys.modules], file=sys.stderr)
"""


def test_the_second_command_reads_no_yaml(folder: Path) -> None:
    said = [
        subprocess.run([sys.executable, "-c", COMMAND], cwd=ROOT, env=os.environ, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout != ""
    assert [done.stderr.splitlines()[-1] for done in said] == ["['pydantic', 'yaml']", "[]"]
