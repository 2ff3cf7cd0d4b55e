# SPDX-License-Identifier: Apache-2.0
"""The backend's own collectives, each as a small function that works in place on one buffer."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.distributed as dist

from commbench.errors import InputError

__all__ = ["NATIVE", "NativeCollective"]


def _all_reduce(buffer: torch.Tensor, group: dist.ProcessGroup) -> None:
    dist.all_reduce(buffer, op=dist.ReduceOp.SUM, group=group)


NATIVE: Mapping[str, Callable[[torch.Tensor, dist.ProcessGroup], None]] = MappingProxyType(
    {
        "all-reduce": _all_reduce,
    }
)


class NativeCollective:
    """One collective of the backend on one buffer; the counterpart of ``execute.ScheduleExecutor``.

    Attributes:
        phases: empty; a backend does not tell where its time went.

    Raises:
        InputError: no native call is known for this collective.
    """

    phases: Mapping[str, float] = MappingProxyType({})

    def __init__(self, collective: str, buffer: torch.Tensor, group: dist.ProcessGroup) -> None:
        if collective not in NATIVE:
            raise InputError(f"collective {collective!r} has no native call; known: {', '.join(NATIVE)}")
        self._call = NATIVE[collective]
        self._buffer = buffer
        self._group = group

    def run(self) -> None:
        """Run it once."""
        self._call(self._buffer, self._group)

    def close(self) -> None:
        """Nothing to end."""
