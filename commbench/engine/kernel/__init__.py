# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's inner loop: SEMANTICS.md on flat arrays, in functions that numba compiles."""

from typing import Any

import numba

from commbench.engine.kernel.cache import KeptCode

__all__ = ["entry", "jit"]

jit: Any = numba.njit(_nrt=False)  # type: ignore[call-overload]
"""Compile a function into those that call it.

The kernel allocates nothing, so it is compiled without numba's counting of references to arrays (_nrt), which took two
thirds of the time (numba 0.68). Indices that are never negative are unsigned where they are stored, which saves numba's
look for negative ones: another tenth.
"""


def entry(function: Any) -> Any:
    """Compile a function that Python calls, once for all processes (see kernel.cache)."""
    compiled = jit(function)
    compiled._cache = KeptCode(function.__name__)
    return compiled
