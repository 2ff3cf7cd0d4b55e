# SPDX-License-Identifier: Apache-2.0
"""A wire between every two ranks, on which a message takes its latency and no more, whatever else goes on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from commbench.routing.policies import Policy, get_policy
from commbench.routing.routes import Links, Rows, as_flows
from commbench.topology.model import EndpointCosts

__all__ = ["Wires"]

_BANDWIDTH = 1e24
"""Bytes/s: what is sent has passed in less than half a picosecond."""


@dataclass(frozen=True, eq=False)
class Wires:
    """Fabric and router in one; ``latency_ps`` has shape (ranks, ranks), from row to column."""

    latency_ps: npt.NDArray[np.int64]
    seed: int = 0
    name: str = "wires"

    @property
    def fabric(self) -> Any:
        """Itself, which has of a fabric what transfers need."""
        return self

    @property
    def policy(self) -> Policy:
        """There is one way from rank to rank."""
        return get_policy("ecmp")

    @property
    def num_ranks(self) -> int:
        """Endpoints."""
        return len(self.latency_ps)

    @property
    def costs(self) -> EndpointCosts:
        """Nothing."""
        return EndpointCosts()

    @cached_property
    def bandwidths(self) -> npt.NDArray[np.float64]:
        """Of every wire; that from rank a to rank b has number a x ranks + b."""
        return np.full(self.latency_ps.size, _BANDWIDTH)

    @property
    def inside_hosts(self) -> npt.NDArray[np.bool_]:
        """None of them."""
        return np.zeros(self.latency_ps.size, dtype=np.bool_)

    @property
    def latencies_ps(self) -> npt.NDArray[np.int64]:
        """Likewise."""
        return self.latency_ps.ravel()

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """See :meth:`commbench.routing.routes.Routes.routes`."""
        flows = as_flows(self.fabric, src, dst, channel)
        return np.arange(len(flows.src) + 1), (flows.src * self.num_ranks + flows.dst).astype(np.int32)
