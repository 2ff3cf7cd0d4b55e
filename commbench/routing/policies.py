# SPDX-License-Identifier: Apache-2.0
"""Which of several equally good next hops flows take.

A policy sees how many candidates there are, in the fabric's own order, and returns the place of one, for many flows at
once. It is a pure function of the flow, so that a route never depends on what was asked before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from commbench.errors import RoutingError, unknown

__all__ = ["POLICIES", "Choose", "FlowKeys", "Policy", "get_policy"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FlowKeys:
    """What tells flows apart, in columns.

    Attributes:
        src, dst: nodes where they leave and enter the network: NICs, or switches that add.
        channel: of each. dst_number: the destination's number in fabric order.
        seed: of the hash. names: texts of nodes.
    """

    src: Ints
    dst: Ints
    channel: Ints
    dst_number: Ints
    seed: int
    names: Callable[[Ints], NDArray[np.bytes_]]

    def take(self, rows: Ints) -> "FlowKeys":
        """Some of them."""
        columns = (self.src[rows], self.dst[rows], self.channel[rows], self.dst_number[rows])
        return FlowKeys(*columns, self.seed, self.names)


class Choose(Protocol):
    """(flows, the node where each is, product of the fan-outs already chosen from, candidates) -> place of one."""

    def __call__(self, flows: FlowKeys, here: Ints, fan_out: Ints | int, candidates: Ints | int) -> Ints:
        """The next hops."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One routing policy.

    Attributes:
        name: as users type it. summary: one line for people.
        choose: picks the next hops where several are equally near.
        rail_aware: whether traffic leaves its host on the destination's rail (NCCL's PXN).
        hashed: whether each switch draws anew; else cables side by side are taken downwards as they were upwards.
    """

    name: str
    summary: str
    choose: Choose
    rail_aware: bool = False
    hashed: bool = False


def _ecmp(flows: FlowKeys, here: Ints, fan_out: Ints | int, candidates: Ints | int) -> Ints:
    """Hash of the flow and the switch. blake2b is the same on every machine; Python's own hash is not.

    It is the one thing that is done flow by flow: in numpy the same hash takes twice as long as one call for each.
    """
    parts = (flows.names(flows.src), flows.names(flows.dst), flows.channel.astype(np.bytes_), flows.names(here))
    text: NDArray[np.bytes_] = np.full(len(here), str(flows.seed).encode())
    for part in parts:
        text = np.char.add(np.char.add(text, b"|"), part)
    hashes = [int.from_bytes(blake2b(each, digest_size=8).digest()) for each in text.tolist()]
    return (np.array(hashes, np.uint64) % np.asarray(candidates).astype(np.uint64)).astype(np.int64)


def _d_mod_k(flows: FlowKeys, here: Ints, fan_out: Ints | int, candidates: Ints | int) -> Ints:
    """Candidate number floor(d / product of the fan-outs below) mod k, for destination number d.

    Source: E. Zahavi, "Fat-trees routing and node ordering providing contention free traffic for MPI global
    collectives", J. Parallel Distrib. Comput. 72 (2012) 1423-1432, section 4.
    """
    return flows.dst_number // fan_out % candidates


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("ecmp", "per-flow hash with a seed; flows may collide", _ecmp, hashed=True),
            Policy("d-mod-k", "spine chosen by destination number, free of collisions for shifts", _d_mod_k),
            Policy(
                "rail-aware",
                "leave the host on the destination's rail (PXN), then d-mod-k",
                _d_mod_k,
                rail_aware=True,
            ),
        )
    }
)


def get_policy(name: str) -> Policy:
    """The policy of this name.

    Raises:
        RoutingError: unknown.
    """
    if name not in POLICIES:
        raise RoutingError(f"routing {name!r} {unknown(name, POLICIES)}")
    return POLICIES[name]
