# SPDX-License-Identifier: Apache-2.0
"""Counts the functional collectives that pass through torch's dispatcher, whoever calls them, and times them.

DTensor and a block split by hand are counted by the same means: what arrives at ``_c10d_functional``. A rank is inside
a collective while it hands it over and while it waits for it; what DTensor computes between the two is not counted, so
what is counted is exposed.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from commbench.collectives.spec import get_collective
from commbench.live.timing import Clock
from commbench.results.spans import CallSpan
from commbench.results.tensor_parallel_records import CollectiveCount

__all__ = ["CollectiveMeter"]

_OPS = torch.ops._c10d_functional
_NAMES = {
    _OPS.all_reduce: "all-reduce",
    _OPS.all_reduce_: "all-reduce",
    _OPS.all_gather_into_tensor: "all-gather",
    _OPS.reduce_scatter_tensor: "reduce-scatter",
    _OPS.all_to_all_single: "all-to-all",
    _OPS.broadcast: "broadcast",
}
_NO_COLLECTIVES = frozenset({"_wrap_tensor_autograd"})


@dataclass(frozen=True, slots=True)
class _MeteredCall:
    """One call: what, and the marks before and after it; those of its wait follow."""

    collective: str
    size_bytes: int
    marks: list[Any]


class CollectiveMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, collectives are counted and timed.

    Args:
        num_ranks: of the group that all of them run on.
        clock: of the device.
    """

    def __init__(self, num_ranks: int, clock: Clock) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._num_ranks, self._clock = num_ranks, clock
        self._calls: list[_MeteredCall] = []
        self._under_way: dict[int, _MeteredCall] = {}  # by the memory of the result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator on plain tensors; wrapped ones are unwrapped first, by their own code."""
        if any(issubclass(one, DTensor | AsyncCollectiveTensor) for one in types):
            return NotImplemented
        packet = func._overloadpacket
        if packet in _NAMES:
            name, num_bytes = _NAMES[packet], args[0].numel() * args[0].element_size()
            call = _MeteredCall(name, num_bytes * (self._num_ranks if name == "all-gather" else 1), [])
            self._calls.append(call)
            result = self._timed(call, func, args, kwargs)
            self._under_way[result.untyped_storage().data_ptr()] = call
            return result
        if packet is _OPS.wait_tensor:
            awaited = self._under_way.pop(args[0].untyped_storage().data_ptr(), None)
            if awaited is not None:  # else it was waited for before
                return self._timed(awaited, func, args, kwargs)
        elif func.namespace in ("c10d", "_c10d_functional") and func._opname not in _NO_COLLECTIVES:
            raise AssertionError(f"{func} is a collective that is not counted")
        return func(*args, **(kwargs or {}))

    def _timed(self, call: _MeteredCall, func: Any, args: Any, kwargs: Any) -> Any:
        call.marks.append(self._clock.mark())
        result = func(*args, **(kwargs or {}))
        call.marks.append(self._clock.mark())
        return result

    def counts(self) -> tuple[CollectiveCount, ...]:
        """What was called since the meter was made."""
        sizes: dict[str, list[int]] = defaultdict(list)
        for call in self._calls:
            sizes[call.collective].append(call.size_bytes)
        return tuple(
            CollectiveCount(
                collective=name,
                calls=len(each),
                size_bytes=sum(each),
                busbw_factor=get_collective(name).busbw_factor(self._num_ranks),
            )
            for name, each in sorted(sizes.items())
        )

    def spans(self, origin: Any) -> tuple[CallSpan, ...]:
        """Every call in seconds since a mark; valid when the device has settled."""
        assert not self._under_way, "every collective is waited for"
        seconds = [[self._clock.elapsed_s(origin, mark) for mark in call.marks] for call in self._calls]
        return tuple(
            (call.collective, call.size_bytes, *marks)  # type: ignore[misc]
            for call, marks in zip(self._calls, seconds, strict=True)
        )
