# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's inner loop: SEMANTICS.md on flat arrays, in functions that numba compiles.

numba keeps compiled code on disk, but looks only at the file of the function itself, not at those that it calls. So
the folder it keeps it in is named after the text of all of them: edited code is never run from an old copy.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numba

from commbench.program import flat

__all__ = ["CACHE", "jit"]


def _cache() -> Path:
    """Beside the code as Python's own, or in the user's cache where the code cannot be written to."""
    here = Path(__file__).parent
    text = b"".join(file.read_bytes() for file in (*sorted(here.glob("*.py")), Path(flat.__file__)))
    version = f"{sys.implementation.cache_tag}-numba{numba.__version__}"
    name = f"{version}-{hashlib.sha256(text).hexdigest()[:16]}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = here / "__pycache__" if os.access(here, os.W_OK) else home / "commbench"
    return base / name


CACHE = _cache()
numba.config.CACHE_DIR = str(CACHE)  # type: ignore[attr-defined]

jit: Any = numba.njit(cache=True, _nrt=False)  # type: ignore[call-overload]
"""Compile a function, once for all processes.

The kernel allocates nothing, so it is compiled without numba's counting of references to arrays (_nrt), which took two
thirds of the time (numba 0.68). Indices that are never negative are unsigned where they are stored, which saves numba's
look for negative ones: another tenth.
"""
