# SPDX-License-Identifier: Apache-2.0
"""Which of several equally good next hops a flow takes.

A policy sees the candidates in the topology's own order and returns one. It is a pure function of the flow, so that
a route never depends on what was asked before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from commbench.errors import RoutingError, unknown

__all__ = ["POLICIES", "Choose", "Flow", "Policy", "get_policy"]

T = TypeVar("T")
Ints = NDArray[np.int64]
N = TypeVar("N", int, Ints)


@dataclass(frozen=True, slots=True)
class Flow:
    """What tells flows apart: NICs, channel, the destination's number in fabric order, and the seed of the hash."""

    src: str
    dst: str
    channel: int
    dst_number: int
    seed: int


class Choose(Protocol):
    """(flow, switch, candidates, product of the fan-outs already chosen from) -> one of the candidates."""

    def __call__(self, flow: Flow, switch: str, candidates: Sequence[T], fan_out: int) -> T:
        """The next hop."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One routing policy.

    Attributes:
        name: as users type it. summary: one line for people.
        choose: picks the next hop where several are equally near.
        by_destination: the same choice for many flows at once, where it depends on nothing but their destinations:
            (destination numbers, product of the fan-outs already chosen from, candidates) -> position among them.
        rail_aware: whether traffic leaves its host on the destination's rail (NCCL's PXN).
    """

    name: str
    summary: str
    choose: Choose
    by_destination: Callable[[Ints, int, int], Ints] | None = None
    rail_aware: bool = False


def _ecmp(flow: Flow, switch: str, candidates: Sequence[T], fan_out: int) -> T:
    """Hash of the flow and the switch. blake2b is the same on every machine; Python's own hash is not."""
    key = f"{flow.seed}|{flow.src}|{flow.dst}|{flow.channel}|{switch}".encode()
    return candidates[int.from_bytes(blake2b(key, digest_size=8).digest()) % len(candidates)]


def _d_mod_k(flow: Flow, switch: str, candidates: Sequence[T], fan_out: int) -> T:
    return candidates[_digit(flow.dst_number, fan_out, len(candidates))]


def _digit(dst_number: N, fan_out: int, num_candidates: int) -> N:
    """Candidate number floor(d / product of the fan-outs below) mod k, for destination number d.

    Source: E. Zahavi, "Fat-trees routing and node ordering providing contention free traffic for MPI global
    collectives", J. Parallel Distrib. Comput. 72 (2012) 1423-1432, section 4.
    """
    return dst_number // fan_out % num_candidates


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("ecmp", "per-flow hash with a seed; flows may collide", _ecmp),
            Policy("d-mod-k", "spine chosen by destination number, free of collisions for shifts", _d_mod_k, _digit),
            Policy(
                "rail-aware",
                "leave the host on the destination's rail (PXN), then d-mod-k",
                _d_mod_k,
                _digit,
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
