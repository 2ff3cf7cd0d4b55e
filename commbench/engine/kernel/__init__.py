# SPDX-License-Identifier: Apache-2.0
"""The compiled engine's inner loop: SEMANTICS.md on flat arrays, in functions that numba compiles."""

from collections.abc import Callable, Sequence
from typing import Any

from commbench.engine.kernel.cache import Cache, told_if_long
from commbench.engine.kernel.native import compile_code, kind_of, link
from commbench.network.jit import Compilable

__all__ = ["Entry", "entry"]


class Entry:
    """A compiled function that Python calls; see :func:`entry`."""

    def __init__(self, function: Callable[..., Any], cache: Cache) -> None:
        self._function, self._cache = function, cache
        self._linked: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *given: Any) -> Any:
        """Call it; compiled, or found on disk, at the first call with such arguments."""
        kind = kind_of(given)
        if kind not in self._linked:
            self._linked[kind] = self._found(kind, given)
        return self._linked[kind](*given)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Of arguments that it was called with, by which its code differs."""
        return tuple(self._linked)

    def _found(self, kind: tuple[Any, ...], given: Sequence[Any]) -> Callable[..., Any]:
        found: Callable[..., Any] | None = self._cache.find(kind, lambda code: link(code, given))
        if found is None:
            with told_if_long():
                code = compile_code(self._function, given)
            self._cache.keep(kind, code)
            found = link(code, given)
        return found


def entry(function: Callable[..., Any], *parts: Compilable, sources: Sequence[str] = ()) -> Entry:
    """Compile a function that Python calls, once for all processes (see kernel.cache).

    Its arguments are arrays, numbers and named tuples of these; it returns a whole number, a float, a bool or nothing.

    Args:
        function: to compile. parts: compiled functions that it calls and that may stand in files of others.
        sources: more files that its code depends on.
    """
    files = [part.function.__code__.co_filename for part in parts]
    return Entry(function, Cache(function.__name__, [*files, *sources]))
