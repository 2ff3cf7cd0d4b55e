# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's inner loop: SEMANTICS.md on flat arrays, in functions that numba compiles."""

from typing import Any

from commbench.engine.kernel.cache import KeptCode
from commbench.network.jit import jit

__all__ = ["entry"]


def entry(function: Any, *parts: Any) -> Any:
    """Compile a function that Python calls, once for all processes (see kernel.cache).

    Args:
        function: to compile. parts: compiled functions that it calls and that may stand in files of others.
    """
    compiled = jit(function)
    compiled._cache = KeptCode(function.__name__, parts)
    return compiled
