# SPDX-License-Identifier: Apache-2.0
"""Counts the functional collectives that pass through torch's dispatcher, whoever calls them, and times them.

DTensor and a block split by hand are counted by the same means: what arrives at ``_c10d_functional``. Time is from the
call to the end of its wait where both come together; while DTensor has a collective under way and computes, that time
is not counted, so what is counted is exposed.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from commbench.collectives.spec import get_collective
from commbench.live.timing import Clock
from commbench.results.device_records import CollectiveCount

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


class CollectiveMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, collectives are counted and timed.

    Args:
        num_ranks: of the group that all of them run on.
        clock: of the device.
    """

    def __init__(self, num_ranks: int, clock: Clock) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._num_ranks, self._clock = num_ranks, clock
        self._calls: dict[str, list[int]] = defaultdict(list)
        self._spans: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator on plain tensors; wrapped ones are unwrapped first, by their own code."""
        if any(issubclass(one, DTensor | AsyncCollectiveTensor) for one in types):
            return NotImplemented
        packet = func._overloadpacket
        call: Callable[[], Any] = lambda: func(*args, **(kwargs or {}))  # noqa: E731
        if packet in _NAMES:
            name, num_bytes = _NAMES[packet], args[0].numel() * args[0].element_size()
            self._calls[name].append(num_bytes * (self._num_ranks if name == "all-gather" else 1))
        elif packet is not _OPS.wait_tensor:
            if func.namespace in ("c10d", "_c10d_functional") and func._opname not in _NO_COLLECTIVES:
                raise AssertionError(f"{func} is a collective that is not counted")
            return call()
        begin = self._clock.mark()
        result = call()
        self._spans.append((begin, self._clock.mark()))
        return result

    def counts(self) -> tuple[CollectiveCount, ...]:
        """What was called since the meter was made."""
        return tuple(
            CollectiveCount(
                collective=name,
                calls=len(sizes),
                size_bytes=sum(sizes),
                busbw_factor=get_collective(name).busbw_factor(self._num_ranks),
            )
            for name, sizes in sorted(self._calls.items())
        )

    def seconds(self) -> float:
        """Time inside collectives and their waits; valid when the device has settled."""
        return sum(self._clock.elapsed_s(begin, end) for begin, end in self._spans)
