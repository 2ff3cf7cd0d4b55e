# SPDX-License-Identifier: Apache-2.0
"""Compiled code on disk, for the entries of the kernel alone: what they call is compiled into them.

numba's own cache looks only at the file of the function itself, not at those that it calls; it has one folder for the
whole process, and it fails where it cannot write or finds a damaged file. Here a file is named after everything that
its code depends on, so edited code is never run from an old copy, and it begins with a checksum. What cannot be read
or written costs the time of compiling and a line on stderr, no more.
"""

import hashlib
import logging
import os
import pickle
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from commbench.network import base
from commbench.program import flat

__all__ = ["KeptCode", "folders"]

_DIGEST_BYTES = hashlib.sha256().digest_size
_HERE = Path(__file__).parent
_FOLDERS = (_HERE, Path(str(base.__file__)).parent)  # network models are compiled in, with all that they call
_SOURCES = (*(file for folder in _FOLDERS for file in sorted(folder.glob("*.py"))), Path(str(flat.__file__)))
_TEXT = b"".join(file.read_bytes() for file in _SOURCES)
_VERSIONS = f"{sys.version} numba {numba.__version__}"
_LONG_S = 2.0  # of compiling, before it is told
_COMPILING = "compiling the simulator, once: some 20 s; later runs start at once"
_log = logging.getLogger(__name__)  # unless somebody sets it up otherwise, a line on stderr


def folders() -> list[Path]:
    """Where compiled code may lie, best first: where NUMBA_CACHE_DIR says, else beside the code or in the user's cache.

    A home that is not there is not made, and what is not an absolute path is nowhere.
    """
    if chosen := numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        return [Path(chosen).absolute()]
    home = Path(os.path.expanduser("~"))  # as it stands where there is none; Path.home() raises then
    caches = [Path(os.environ.get("XDG_CACHE_HOME", "")), home / ".cache"]
    usable = [caches[0].is_absolute(), home.is_absolute() and home.is_dir()]
    return [_HERE / "__pycache__", *(cache / "commbench" for cache, ok in zip(caches, usable, strict=True) if ok)]


class KeptCode(NullCache):
    """What a numba dispatcher asks before it compiles a function, and tells after."""

    def __init__(self, name: str, parts: Sequence[Any] = (), sources: Sequence[str] = ()) -> None:
        files = sorted({*sources, *(part.py_func.__code__.co_filename for part in parts)})
        self._name, self._text = name, _TEXT + b"".join(Path(file).read_bytes() for file in files)
        self._telling = Timer(0, lambda: None)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for a signature, None where there is none that is whole."""
        name = self._file(sig, target_context.codegen())
        for path in (folder / name for folder in folders()):
            try:
                held = path.read_bytes()
            except OSError:
                continue
            try:
                digest, code = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
                if hashlib.sha256(code).digest() != digest:
                    raise ValueError("its checksum differs")
                return CompileResult._rebuild(target_context, *pickle.loads(code))
            except Exception as error:  # unpickling what is no good may raise anything
                _log.warning("%s: damaged (%s): thrown away, and compiled anew", path, error)
                with suppress(OSError):
                    path.unlink()
        self._telling = Timer(_LONG_S, _log.warning, [_COMPILING])
        self._telling.daemon = True
        self._telling.start()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature in the first folder that takes it."""
        self._telling.cancel()
        held = dumps(data._reduce())
        held = hashlib.sha256(held).digest() + held
        name, refused = self._file(sig, data.codegen), []
        for folder in folders():
            try:
                return _write(folder / name, held)
            except OSError as error:
                refused.append(f"{folder}: {error.strerror}")
        _log.warning(
            "the compiled simulator cannot be kept (%s); each run compiles it anew: give a folder in NUMBA_CACHE_DIR",
            "; ".join(refused),
        )

    def _file(self, sig: Any, codegen: Any) -> str:
        depends = repr((_VERSIONS, codegen.magic_tuple(), sig)).encode()
        return f"{self._name}-{hashlib.sha256(self._text + depends).hexdigest()[:32]}.code"


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
