# SPDX-License-Identifier: Apache-2.0
"""Groups of ranks that run a collective at once, as a job that every rank gets the same copy of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from commbench.collectives.registry import build_schedule, get_algorithm
from commbench.collectives.sizes import dtype_bytes
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.live.grouping import AT_ONCE, HOWS, Endpoint, GroupRound, groups_of, incast_rounds, pair_rounds
from commbench.live.job import LiveJob, require_known
from commbench.live.plan import Plan, rounded_sizes
from commbench.results.grouped import INCAST, PAIRWISE

__all__ = ["NATIVE", "GroupJob"]

NATIVE = "native"
_PLANNED = {f.name for f in fields(LiveJob)} | {"collective", "dtype", "op", "budget_s", "cold_cache"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupJob(LiveJob):
    """Rounds of groups. Each group's records are those of a :class:`~commbench.live.plan.Plan` of its own.

    Attributes:
        experiment: "pairwise" (every pair of ranks), "incast" (k senders into one receiver, a gather) or "multi"
            (groups as ``groups`` says).
        collective, dtype, op: what a group runs. algorithm: a name of the registry, or "native".
        sizes_bytes: of the full buffer of a group; of an incast what each sender sends.
        how: whether groups run at once, each alone, or both in turn. one_way: of pairs, each direction by itself.
        receiver, senders: of an incast; see :func:`~commbench.live.grouping.incast_rounds`.
        budget_s, cold_cache: as in a plan.
        leaf_of: leaf of every endpoint, by "host number", as far as a topology says; else empty.
    """

    kind: ClassVar[str] = "groups"

    experiment: str
    collective: str
    algorithm: str
    sizes_bytes: tuple[int, ...]
    dtype: str = "float32"
    op: str = "sum"
    groups: str = ""
    how: str = AT_ONCE
    one_way: bool = False
    receiver: int = 0
    senders: tuple[int, ...] = ()
    budget_s: float = 0.0
    cold_cache: bool = False
    leaf_of: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        LiveJob.__post_init__(self)
        require_known("--how", self.how, HOWS)
        if self.ranks < 2:
            raise InputError(f"--nproc {self.ranks}: run {self.experiment} needs 2 ranks or more")
        if self.algorithm != NATIVE:
            get_algorithm(self.collective, self.algorithm)
        if self.experiment == INCAST:
            incast_rounds(self.ranks, self.receiver, self.senders)
        for size in self.sizes_bytes:
            self.plan(2, size)

    def rounds(self, places: Sequence[Endpoint]) -> list[GroupRound]:
        """What is measured one after the other at every size.

        Args:
            places: of all ranks.

        Raises:
            InputError: groups that these ranks do not make, or an endpoint that the topology does not have.
        """
        for host, number in places:
            if self.leaf_of and f"{host} {number}" not in self.leaf_of:
                raise InputError(
                    f"--topology: it has no endpoint {number} of host {host!r}, where a rank runs; give --hosts FILE "
                    "with the names of its hosts, one a line, or another topology"
                )
        if self.experiment == PAIRWISE:
            return pair_rounds(self.ranks, self.how, one_way=self.one_way)
        if self.experiment == INCAST:
            return incast_rounds(self.ranks, self.receiver, self.senders)
        rounds = groups_of(self.groups, places, self.how)
        if self.algorithm != NATIVE:
            return rounds
        return [GroupRound(tuple(tuple(sorted(group)) for group in one.groups)) for one in rounds]  # as torch has them

    def plan(self, num_ranks: int, size_bytes: int) -> Plan:
        """What a group of so many ranks does at one of the sizes."""
        spec, item = get_collective(self.collective), dtype_bytes(self.dtype)
        whole = size_bytes * (num_ranks if self.experiment == INCAST else 1)
        schedule, pieces = None, {}
        if self.algorithm != NATIVE:
            slices = get_algorithm(self.collective, self.algorithm).default_slices
            (size,) = rounded_sizes(spec, num_ranks, (whole,), item)
            schedule = build_schedule(
                self.collective, self.algorithm, num_ranks, num_elements=size // item, element_bytes=item
            )
            pieces = {"slices": slices}
        shared: dict[str, Any] = {name: getattr(self, name) for name in _PLANNED} | {"ranks": num_ranks, **pieces}
        return Plan(**shared, sizes_bytes=rounded_sizes(spec, num_ranks, (whole,), item), schedule=schedule)

    def distance(self, one: Endpoint, other: Endpoint) -> str:
        """How far two endpoints are from each other, as far as hosts and the topology tell."""
        if one[0] == other[0]:
            return "same host"
        if not self.leaf_of:
            return "other hosts"
        leaves = {self.leaf_of[f"{host} {number}"] for host, number in (one, other)}
        return "same leaf" if len(leaves) == 1 else "other leaves"
