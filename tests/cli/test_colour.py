# SPDX-License-Identifier: Apache-2.0
"""Colour on terminals, and nowhere else: NO_COLOR, pipes and JSON stay plain."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.live.console import RunTable
from commbench.live.plan import Plan
from tests.report import samples

_SIM = ("sim", "all-reduce", "-t", "star-8", "-b", "64K", "-e", "64K")
_RED, _YELLOW, _DIM = "\x1b[31m", "\x1b[33m", "\x1b[2m"


def _on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal gets, of both streams."""
    ours, theirs = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORTERM", "FORCE_COLOR")}
    command = [sys.executable, "-m", "commbench", *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=plain | {"TERM": "xterm"} | environment
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            break
        if not part:
            break
        found += part
    process.wait(60)
    os.close(ours)
    return found.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_the_same_words() -> None:
    shown = _on_a_terminal("topology", "show", "star-8")
    assert _DIM in shown
    piped = subprocess.run(
        [sys.executable, "-m", "commbench", "topology", "show", "star-8"], capture_output=True, text=True, check=True
    )
    assert "\x1b" not in piped.stdout
    bare = shown.replace(_DIM, "").replace("\x1b[0m", "")
    assert [line.rstrip() for line in bare.splitlines()] == piped.stdout.splitlines()


def test_errors_are_red_and_no_color_is_obeyed() -> None:
    assert f"{_RED}error: " in _on_a_terminal("topology", "show", "no-such")
    assert "\x1b" not in _on_a_terminal("topology", "show", "no-such", NO_COLOR="1")
    assert "\x1b" not in _on_a_terminal("topology", "show", "no-such", TERM="dumb")


def test_headers_are_dim_notes_yellow_and_json_plain() -> None:
    shown = _on_a_terminal("sim", "all-reduce", "-t", "dgx-h100-x2", "-a", "ring", "-b", "64K", "-e", "64K")
    assert f"{_DIM}# simulated all-reduce" in shown
    assert f"{_YELLOW}note: " in shown
    lines = [line for line in _on_a_terminal(*_SIM, "--json").splitlines() if '"kind"' in line]
    assert len(lines) == 1
    assert _DIM not in lines[0]
    assert _RED not in lines[0]


def test_a_verdict_and_a_row_with_wrong_values_are_red(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from commbench.terminal import put

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    put("# median 9 %: FELL SHORT\n# median 1 %: ok")
    fell, fine = capsys.readouterr().out.splitlines()
    assert "31mFELL SHORT" in fell
    assert "32mok" in fine
    table = RunTable(Plan(collective="all-reduce", ranks=4, sizes_bytes=(65536,), out=Path("x"), run="r"))
    table.measured(samples.measured(size=65536, wrong=3))
    table.measured(samples.measured(size=65536, wrong=0))
    wrong, right = capsys.readouterr().out.splitlines()
    assert wrong.startswith(_RED)
    assert "\x1b" not in right
