# SPDX-License-Identifier: Apache-2.0
"""Compiled code on disk is a convenience: without a folder, or with a damaged file, the answer is the same."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import commbench.engine.kernel as kernel
from commbench import kept
from commbench.engine.kernel import cache, entry, native
from commbench.errors import RunError

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nonexistent/commbench-test")
NO_USER = 54321  # whom no passwd entry names


def double(x: int) -> int:
    return 2 * x


def compiled_double() -> Callable[[int], int]:
    """As a new process has it: compiled at the first call, unless its code lies somewhere."""
    made: Callable[[int], int] = entry(double)
    return made


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of functions that had to be compiled."""
    names: list[str] = []

    def compile_code(function: Callable[..., Any], given: Any) -> native.MachineCode:
        names.append(function.__name__)
        return native.compile_code(function, given)

    monkeypatch.setattr(kernel, "compile_code", compile_code)
    return names


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder beside the code, and no other one that could be used."""
    monkeypatch.setattr(cache, "_HERE", tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(NOWHERE))
    return tmp_path / "__pycache__"


def test_code_is_compiled_once(beside: Path, compiled: list[str], caplog: pytest.LogCaptureFixture) -> None:
    first, second = compiled_double(), compiled_double()
    assert (first(21), second(21), compiled) == (42, 42, ["double"])
    assert len(list(beside.iterdir())) == 1
    assert caplog.messages == []


def test_compiling_that_takes_long_is_told_once(
    beside: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_LONG_S", 0.0)
    first, second = compiled_double(), compiled_double()
    assert (first(21), second(21)) == (42, 42)
    assert caplog.messages == ["compiling the simulator, once: 20 s to a minute; later runs start at once"]


def whole(code: native.MachineCode) -> bytes:
    """A file with such code."""
    held = code.to_bytes()
    return kept.hashlib.sha256(held).digest() + held


@pytest.mark.parametrize(
    "damage",
    [
        lambda held: held[:10],
        lambda held: held[: len(held) // 2],
        lambda held: b"",
        lambda held: b"garbage" * 1000,
        lambda held: held[:-100] + bytes([held[-100] ^ 1]) + held[-99:],
        lambda held: kept.hashlib.sha256(b"\x80\x04N.").digest() + b"\x80\x04N.",  # whole, but no code: None
        lambda held: kept.hashlib.sha256(b"").digest(),
        lambda held: whole(replace(native.MachineCode.from_bytes(held[32:]), symbol="treble")),
    ],
    ids=[
        *("ten bytes", "half", "empty", "garbage", "one bit", "something else", "nothing", "another name"),
    ],
)
def test_a_damaged_file_is_thrown_away(
    damage: Callable[[bytes], bytes], beside: Path, compiled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    compiled_double()(1)
    (path,) = beside.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert (compiled_double()(21), len(compiled)) == (42, 2)
    assert [m.partition(" (")[0] for m in caplog.messages] == [f"{path}: damaged"]
    assert "\n" not in caplog.text.strip()
    assert (compiled_double()(21), len(compiled)) == (42, 2)  # there is a whole one again
    assert len(caplog.messages) == 1


def test_without_a_folder_it_is_compiled_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "_HERE", tmp_path / "file")  # for root may write wherever there are folders
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(NOWHERE))
    assert compiled_double()(21) == 42
    (said,) = caplog.messages
    assert said.startswith(f"the compiled simulator cannot be kept ({tmp_path}/file/__pycache__: Not a directory; ")
    assert said.endswith("give a folder in NUMBA_CACHE_DIR")
    assert not NOWHERE.parent.exists()


def test_a_full_disk_keeps_no_part(
    beside: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def half(path: Path, held: bytes) -> int:
        with path.open("wb") as file:
            file.write(held[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    assert compiled_double()(21) == 42
    assert [m.partition(";")[0] for m in caplog.messages] == [
        f"the compiled simulator cannot be kept ({beside}: No space left on device)"
    ]
    assert list(beside.iterdir()) == []


def test_a_user_without_a_name_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one whose home is relative or not there; nothing goes into the current folder."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: NO_USER)
    beside = [cache._HERE / "__pycache__"]
    assert kept.folders(cache._HERE) == beside
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    for home in ("relative", str(NOWHERE)):
        monkeypatch.setenv("HOME", home)
        assert kept.folders(cache._HERE) == beside
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert kept.folders(cache._HERE) == [*beside, Path("/somewhere/commbench")]


def summed(values: Any, more: Any) -> float:
    total = 0.0
    for value in values.flat:
        total += value
    for value in more.flat:
        total += value
    return total


def test_every_kind_of_argument_has_code_of_its_own(beside: Path, compiled: list[str]) -> None:
    """Numbers of 4 and 8 bytes, and arrays that lie otherwise in memory; a kind that was there needs no compiling."""
    made, square = entry(summed), np.arange(6.0).reshape(2, 3)
    for values in (square, square.T, square[:, ::2], square.astype(np.int32), np.arange(4), square + 1):
        assert made(values, np.ones(2)) == values.sum() + 2
    assert len(compiled) == len(list(beside.iterdir())) == 5


def test_what_returns_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"<lambda> returns .*; known: int64, float64, bool, none"):
        entry(lambda x: (x, x))(1)


def test_code_that_fails_says_so(beside: Path) -> None:
    def fail(x: int) -> int:
        if x > 0:
            raise ValueError
        return x

    made = entry(fail)
    assert made(0) == 0
    with pytest.raises(RunError, match="compiled code failed with status 1"):
        made(1)


LIGHT = """
import sys
from commbench.engine.warm import run_one_transfer
run_one_transfer("fluid")
print([name for name in ("numba", "simpy", "llvmlite") if name in sys.modules])
"""


def test_code_that_lies_on_disk_needs_no_numba(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    shown = [
        subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout for done in shown] == ["['numba', 'llvmlite']\n", "[]\n"]
    assert shown[1].stderr == ""


NUMBA = """
import numba
before = numba.config.CACHE_DIR
import commbench.engine.compiled
from commbench.engine.kernel.cache import _HERE
from commbench.kept import folders
assert numba.config.CACHE_DIR == before, numba.config.CACHE_DIR
print(*folders(_HERE))
"""


@pytest.mark.parametrize("given", ["", "mine"])
def test_the_cache_of_others_is_left_as_it_is(given: str, tmp_path: Path) -> None:
    """Numba's folder belongs to whoever set it; ours is the same one then, and another one else."""
    chosen = str(tmp_path / given) if given else ""
    env = os.environ | {"NUMBA_CACHE_DIR": chosen, "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = subprocess.run([sys.executable, "-c", NUMBA], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    beside = ROOT / "commbench" / "engine" / "kernel" / "__pycache__"
    assert done.stdout.split() == ([chosen] if given else [str(beside), f"{tmp_path}/.cache/commbench"])


def test_what_is_said_is_one_line_on_stderr(tmp_path: Path) -> None:
    """For a command, that is; a program may send the messages of the logger elsewhere."""
    script = "from commbench.engine.kernel import entry\nprint(entry(lambda x: x + 1)(1))"
    env = os.environ | {"NUMBA_CACHE_DIR": "/dev/null/x"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("the compiled simulator cannot be kept (/dev/null/x: Not a directory)")


READ_ONLY = """
mount --make-rprivate / && mount -t tmpfs none "$WRITABLE"
for m in $(findmnt -rno TARGET | grep -v -e ^/proc -e ^/sys -e ^/dev); do
    [ "$m" = "$WRITABLE" ] || mount -o remount,bind,ro "$m"
done
mount -t tmpfs -o ro none /var/cache/fontconfig 2>/dev/null  # fontconfig's list is out of date
exec "$@"
"""


@pytest.mark.root
def test_everything_is_read_only(tmp_path: Path) -> None:
    """A container: nothing can be kept but in TMPDIR. A drawing is as ever; nothing is said that helps nobody."""
    command = [sys.executable, "-m", "commbench", "topology", "draw", "star-8", "--out", f"{tmp_path}/a.svg"]
    env = os.environ | {"WRITABLE": str(tmp_path), "TMPDIR": str(tmp_path), "HOME": str(NOWHERE), "MPLCONFIGDIR": ""}
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", READ_ONLY, "-", *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == f"wrote {tmp_path}/a.svg\n"


def test_a_numba_of_another_make_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    monkeypatch.setattr(numba, "njit", lambda **_: lambda function: function)
    with pytest.raises(RunError, match=rf"numba {numba.__version__} compiles in a way that commbench does not know"):
        native.compile_code(abs, (1,))
