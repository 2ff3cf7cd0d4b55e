# SPDX-License-Identifier: Apache-2.0
"""How functions of the compiled engine and of network models for it are compiled, and that this may be never.

numba is loaded when something has to be compiled; where compiled code lies on disk (engine.kernel), nothing has to.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

__all__ = ["Compilable", "call", "jit"]


class Compilable:
    """A function that is compiled when a compiled one that calls it is."""

    def __init__(self, function: Callable[..., Any], *, inline: bool) -> None:
        self.function, self._inline = function, inline

    @cached_property
    def _dispatcher(self) -> Any:
        import numba

        # The kernel allocates nothing, so it is compiled without numba's counting of references to arrays (_nrt), which
        # took two thirds of the time (numba 0.68), and without its look for divisors that are 0 (error_model).
        jit: Any = numba.njit  # whose types know not all options
        return jit(_nrt=False, error_model="numpy", forceinline=self._inline)(self.function)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks of a name that it does not know."""
        return self._dispatcher._numba_type_


def jit(function: Callable[..., Any]) -> Compilable:
    """Compile a function into those that call it.

    Calls pass whole states of dozens of arrays: not inlined, they cost half of the time again. Indices that are never
    negative are unsigned where they are stored, which saves numba's look for negative ones: a tenth.
    """
    return Compilable(function, inline=True)


def call(function: Callable[..., Any]) -> Compilable:
    """The same for a function that is too long to stand wherever it is called."""
    return Compilable(function, inline=False)
