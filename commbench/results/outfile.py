# SPDX-License-Identifier: Apache-2.0
"""Files that ``--out`` names: refused before the work if they cannot be written, and never left half written."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from commbench.errors import InputError

__all__ = ["require_folder", "require_writable", "write_whole"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def require_writable(path: Path, error: type[InputError] = InputError) -> None:
    """Say now rather than after an hour of work that nothing can be written here. Missing folders will be made.

    Raises:
        InputError: or ``error``: the path is no ordinary file, or its file or nearest existing folder may not be
            written.
    """
    try:
        there = path.stat() if path.exists() else None
    except (OSError, ValueError) as problem:  # a name that is too long, or with a NUL
        raise error(f"--out {path}: cannot be written: {problem}") from None
    if there is not None and not stat.S_ISREG(there.st_mode):
        what = next((words for test, words in _KINDS if test(there.st_mode)), "no ordinary file")
        raise error(f"--out {path}: is {what}; give the name of a file")
    nearest = path if there is not None else _nearest(path)
    if not os.access(nearest, os.W_OK) or (nearest != path and not nearest.is_dir()):
        raise error(f"--out {path}: cannot be written: {nearest} does not allow it")


def require_folder(path: Path) -> None:
    """The same for an ``--out`` that is a folder.

    Raises:
        InputError: it is there and no folder, or cannot be made or written.
    """
    nearest = path if path.exists() else _nearest(path)
    if not nearest.is_dir():
        raise InputError(f"--out {path}: {nearest} is no folder; give the name of one")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"--out {path}: cannot be written: {nearest} does not allow it")


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file beside its place and then put it there, so that what was there stays if this does not end well.

    Raises:
        InputError: the path is no ordinary file, or the file cannot be written.
    """
    import tempfile  # takes a millisecond, and most files are only looked at

    require_writable(path)
    target = path.resolve()  # a link goes on pointing there
    data = content.encode() if isinstance(content, str) else content
    beside = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode if target.exists() else 0o666 & ~_umask()
        handle, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(beside, stat.S_IMODE(mode))
        os.replace(beside, target)
    except BaseException as error:
        if beside is not None:
            with suppress(OSError):
                os.unlink(beside)
        if isinstance(error, OSError):
            raise InputError(f"--out {path}: cannot be written: {error.strerror}") from error
        raise
    return path


def _nearest(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
