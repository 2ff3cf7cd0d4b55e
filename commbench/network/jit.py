# SPDX-License-Identifier: Apache-2.0
"""How functions of the compiled engine and of network models for it are compiled."""

from typing import Any

import numba

__all__ = ["call", "jit"]

jit: Any = numba.njit(_nrt=False, forceinline=True)  # type: ignore[call-overload]
"""Compile a function into those that call it.

The kernel allocates nothing, so it is compiled without numba's counting of references to arrays (_nrt), which took two
thirds of the time (numba 0.68). Indices that are never negative are unsigned where they are stored, which saves numba's
look for negative ones: another tenth.
Calls pass whole states of dozens of arrays: not inlined, they cost half of the time again.
"""

call: Any = numba.njit(_nrt=False)  # type: ignore[call-overload]
"""The same for a function that is too long to stand wherever it is called."""
