# SPDX-License-Identifier: Apache-2.0
"""Compiled code on disk, for the entries of the kernel alone: what they call is compiled into them.

numba's own cache looks only at the file of the function itself, not at those that it calls; it has one folder for the
whole process, it fails where it cannot write or finds a damaged file, and it takes numba to read it. Here a file is
named after everything that its code depends on, so edited code is never run from an old copy, and it begins with a
checksum. What cannot be read or written costs the time of compiling and a line on stderr, no more.
"""

import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

from commbench.engine.kernel.native import MachineCode
from commbench.network import base
from commbench.program import flat

__all__ = ["Cache", "folders", "told_if_long"]

_DIGEST_BYTES = hashlib.sha256().digest_size
_HERE = Path(__file__).parent
_FOLDERS = (_HERE, Path(str(base.__file__)).parent)  # network models are compiled in, with all that they call
_SOURCES = (*(file for folder in _FOLDERS for file in sorted(folder.glob("*.py"))), Path(str(flat.__file__)))
_FOLDER = "NUMBA_CACHE_DIR"  # numba's name for its own, too
_LONG_S = 2.0  # of compiling, before it is told
_COMPILING = "compiling the simulator, once: 20 s to a minute; later runs start at once"
_log = logging.getLogger(__name__)  # unless somebody sets it up otherwise, a line on stderr


def folders() -> list[Path]:
    """Where compiled code may lie, best first: where NUMBA_CACHE_DIR says, else beside the code or in the user's cache.

    A home that is not there is not made, and what is not an absolute path is nowhere.
    """
    if chosen := os.environ.get(_FOLDER):
        return [Path(chosen).absolute()]
    home = Path(os.path.expanduser("~"))  # as it stands where there is none; Path.home() raises then
    caches = [Path(os.environ.get("XDG_CACHE_HOME", "")), home / ".cache"]
    usable = [caches[0].is_absolute(), home.is_absolute() and home.is_dir()]
    return [_HERE / "__pycache__", *(cache / "commbench" for cache, ok in zip(caches, usable, strict=True) if ok)]


@cache
def _surroundings() -> bytes:
    """What all code depends on: sources, versions, the processor, and what numba is told by the environment."""
    import llvmlite
    from llvmlite import binding

    numba = find_spec("numba")
    version = Path(str(numba and numba.origin)).with_name("_version.py").read_bytes()  # to import it takes long
    told = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_") and name != _FOLDER)
    processor = (binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    versions = repr((sys.version, llvmlite.__version__, processor, told)).encode()
    return b"".join((version, versions, *(file.read_bytes() for file in _SOURCES)))


class Cache:
    """The code of one function."""

    def __init__(self, name: str, sources: Sequence[str] = ()) -> None:
        """``sources``: files on which it depends beside the kernel's own."""
        self._name, self._sources = name, sorted(set(sources))

    def find(self, kind: tuple[Any, ...], link: Callable[[MachineCode], Callable[..., Any]]) -> Any:
        """The code for arguments of a kind, linked; None where there is none that is whole."""
        name = self._file(kind)
        for path in (folder / name for folder in folders()):
            try:
                held = path.read_bytes()
            except OSError:
                continue
            try:
                digest, code = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
                if hashlib.sha256(code).digest() != digest:
                    raise ValueError("its checksum differs")
                return link(MachineCode.from_bytes(code))
            except Exception as error:  # reading what is no good may raise anything
                _log.warning("%s: damaged (%s): thrown away, and compiled anew", path, error)
                with suppress(OSError):
                    path.unlink()
        return None

    def keep(self, kind: tuple[Any, ...], code: MachineCode) -> None:
        """Keep code in the first folder that takes it."""
        held = code.to_bytes()
        held = hashlib.sha256(held).digest() + held
        name, refused = self._file(kind), []
        for folder in folders():
            try:
                return _write(folder / name, held)
            except OSError as error:
                refused.append(f"{folder}: {error.strerror}")
        _log.warning(
            "the compiled simulator cannot be kept (%s); each run compiles it anew: give a folder in NUMBA_CACHE_DIR",
            "; ".join(refused),
        )

    def _file(self, kind: tuple[Any, ...]) -> str:
        depends = (_surroundings(), *(Path(file).read_bytes() for file in self._sources), repr(kind).encode())
        return f"{self._name}-{hashlib.sha256(b''.join(depends)).hexdigest()[:32]}.code"


@contextmanager
def told_if_long() -> Iterator[None]:
    """Say that the compiler is at work, if it is for long."""
    telling = Timer(_LONG_S, _log.warning, [_COMPILING])
    telling.daemon = True
    telling.start()
    try:
        yield
    finally:
        telling.cancel()


def _write(path: Path, held: bytes) -> None:
    """Put a file there whole or not at all, also where others put the same one there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{secrets.token_hex(8)}")
    try:
        partial.write_bytes(held)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()
