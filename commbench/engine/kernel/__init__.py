# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's inner loop: SEMANTICS.md on flat arrays, in functions that numba compiles."""

from collections.abc import Sequence
from typing import Any

from commbench.engine.kernel.cache import KeptCode
from commbench.network.jit import jit

__all__ = ["entry"]


def entry(function: Any, *parts: Any, sources: Sequence[str] = ()) -> Any:
    """Compile a function that Python calls, once for all processes (see kernel.cache).

    Args:
        function: to compile. parts: compiled functions that it calls and that may stand in files of others.
        sources: more files that its code depends on.
    """
    compiled = jit(function)
    compiled._cache = KeptCode(function.__name__, parts, sources)
    return compiled
