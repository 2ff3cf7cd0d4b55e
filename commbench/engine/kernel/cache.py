# SPDX-License-Identifier: Apache-2.0
"""Compiled code on disk, for the entries of the kernel alone: what they call is compiled into them.

numba's own cache looks only at the file of the function itself, not at those that it calls; it has one folder for the
whole process, it fails where it cannot write or finds a damaged file, and it takes numba to read it. Here a file is
named after everything that its code depends on, so edited code is never run from an old copy (:mod:`commbench.kept`).
What cannot be read or written costs the time of compiling and a line on stderr, no more.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path
from threading import Timer
from typing import Any

from commbench.engine.kernel.native import MachineCode
from commbench.kept import FOLDER_VARIABLE, digest, find_kept, keep, version_file, warn
from commbench.network import base
from commbench.program import flat

__all__ = ["Cache", "told_if_long"]

_HERE = Path(__file__).parent
_FOLDERS = (_HERE, Path(str(base.__file__)).parent)  # network models are compiled in, with all that they call
_SOURCES = (*(file for folder in _FOLDERS for file in sorted(folder.glob("*.py"))), Path(str(flat.__file__)))
_CPU = Path("/proc/cpuinfo")
_SAYS_WHICH = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")  # of its lines; x86, Arm
_LONG_S = 2.0  # of compiling, before it is told
_COMPILING = "compiling the simulator, once: 20 s to a minute; later runs start at once"


@cache
def _surroundings() -> bytes:
    """What all code depends on: sources, versions, the processor, and what numba is told by the environment."""
    told = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    told = [each for each in told if each[0] != FOLDER_VARIABLE]
    versions = [version_file(package, "_version.py") for package in ("numba", "llvmlite")]
    said = repr((sys.version, sys.platform, platform.machine(), _processor(), told)).encode()
    return b"".join((*versions, said, *(file.read_bytes() for file in _SOURCES)))


def _processor() -> str:
    """What code is compiled for: kind and abilities of the first processor, which LLVM, where asked, tells alike."""
    try:
        with _CPU.open(encoding="utf-8") as file:
            return "".join(line for line in takewhile(str.strip, file) if line.startswith(_SAYS_WHICH))
    except OSError:  # not Linux
        from llvmlite import binding

        features = binding.get_host_cpu_features().flatten()
        return repr((binding.get_process_triple(), binding.get_host_cpu_name(), features))


class Cache:
    """The code of one function."""

    def __init__(self, name: str, sources: Sequence[str] = ()) -> None:
        """``sources``: files on which it depends beside the kernel's own."""
        self._name, self._sources = name, sorted(set(sources))

    def find(self, kind: tuple[Any, ...], link: Callable[[MachineCode], Callable[..., Any]]) -> Any:
        """The code for arguments of a kind, linked; None where there is none that is whole."""
        return find_kept(_HERE, self._file(kind), lambda held: link(MachineCode.from_bytes(held)))

    def keep(self, kind: tuple[Any, ...], code: MachineCode) -> None:
        """Keep code in the first folder that takes it."""
        if refused := keep(_HERE, self._file(kind), code.to_bytes()):
            warn(
                "the compiled simulator cannot be kept (%s); each run compiles it anew: give a folder in "
                "NUMBA_CACHE_DIR",
                "; ".join(refused),
            )

    def _file(self, kind: tuple[Any, ...]) -> str:
        depends = (_surroundings(), *(Path(file).read_bytes() for file in self._sources), repr(kind).encode())
        return f"{self._name}-{digest(*depends)}.code"


@contextmanager
def told_if_long() -> Iterator[None]:
    """Say that the compiler is at work, if it is for long."""
    telling = Timer(_LONG_S, warn, [_COMPILING])
    telling.daemon = True
    telling.start()
    try:
        yield
    finally:
        telling.cancel()
