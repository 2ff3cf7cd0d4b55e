# SPDX-License-Identifier: Apache-2.0
"""What one rank does where groups of ranks run a collective at once, and the record of every group.

All ranks of the world meet before each iteration, those that stand by too: what begins together is then measured beside
each other, and the simulator can be asked the same question. A schedule goes over the group of all ranks, in which two
ranks are connected once however many groups both are in; the backend's own collectives need a group of their own.
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from commbench.live.collective import (
    CollectiveObserved,
    Membership,
    check_bench,
    open_bench,
    record_of,
)
from commbench.live.group_job import NATIVE, GroupJob
from commbench.live.grouping import Endpoint, GroupRound
from commbench.live.iterations import time_bench
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.session import Session
from commbench.results.grouped import PAIRWISE
from commbench.results.records import Measured

__all__ = ["measure_groups"]


class _StandBy:
    """The part of a rank that is in no group: nothing."""

    phases: Mapping[str, float] = MappingProxyType({})

    def run(self) -> None:
        """Nothing."""

    def run_to_check(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to end."""


def measure_groups(job: GroupJob, session: Session, progress: Progress) -> Iterator[Measured]:
    """Do this rank's part of every round; gives each group's record, on rank 0, as soon as its round is done.

    Raises:
        InputError: groups that these ranks do not make.
    """
    job.plan(2, job.sizes_bytes[0]).require_known_to(session.backend)
    places = _places(session)
    rounds = job.rounds(places)
    memberships = _memberships(job, rounds, session)
    for size_bytes in job.sizes_bytes:
        progress.size(size_bytes)
        for number, one in enumerate(rounds):
            session.meet()
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            own = one.group_of(session.rank)
            group = None if own is None else one.groups[own]
            seen = _observe(job, session, None if group is None else memberships[group], size_bytes, progress)
            progress.reach("gathering samples")
            everyone: list[CollectiveObserved | None] = session.gather(seen)
            for at, ranks in enumerate(one.groups if everyone else ()):
                plan = job.plan(len(ranks), size_bytes)
                told = _where(job, one, number, at, places)
                observed = [found for rank in ranks if (found := everyone[rank]) is not None]
                environment = {**session.facts.environment, **told}
                yield record_of(plan, session, plan.sizes_bytes[0], _in_place(plan), started_at, observed, environment)


def _places(session: Session) -> list[Endpoint]:
    """Host of every rank, and its number among the ranks of that host."""
    hosts: list[str] = session.control.decide(socket.gethostname(), list)
    return [(host, hosts[:rank].count(host)) for rank, host in enumerate(hosts)]


def _memberships(
    job: GroupJob, rounds: Sequence[GroupRound], session: Session
) -> dict[tuple[int, ...], Membership]:
    """This rank's place in each of its groups."""
    every = dict.fromkeys(group for one in rounds for group in one.groups)
    own = [ranks for ranks in every if session.rank in ranks]
    if job.algorithm != NATIVE:
        return {ranks: Membership(ranks.index(session.rank), session.data, ranks) for ranks in own}
    opened = {ranks: session.backend.open_group(ranks, session.timeout_s) for ranks in every}
    return {ranks: Membership(ranks.index(session.rank), opened[ranks]) for ranks in own}


def _observe(
    job: GroupJob, session: Session, member: Membership | None, size_bytes: int, progress: Progress
) -> CollectiveObserved | None:
    """What this rank sees of a round; None if it stands by, which takes part in every barrier all the same."""
    if member is None:
        idle = job.plan(2, size_bytes)
        time_bench(idle, session, _StandBy(), progress)
        if job.check:
            session.barrier()
        return None
    plan = job.plan(member.size, size_bytes)
    size, in_place = plan.sizes_bytes[0], _in_place(plan)
    with open_bench(plan, session, member, size, in_place) as bench:
        warmup, timed, _ = time_bench(plan, session, bench.operation, progress)
        wrong = check_bench(plan, session, member, bench, size, in_place, progress) if plan.check else None
    return CollectiveObserved(warmup, timed, wrong, None, session.backend.transports())


def _in_place(plan: Plan) -> bool:
    return plan.in_places[0]


def _where(job: GroupJob, one: GroupRound, number: int, at: int, places: Sequence[Endpoint]) -> dict[str, Any]:
    """Where a group's ranks sit and what ran beside them, as ``results.facts`` has it."""
    members = [[list(places[rank]) for rank in ranks] for ranks in one.groups]
    ranks = one.groups[at]
    told: dict[str, Any] = {
        "experiment": job.experiment,
        "number": number,
        "groups": len(one.groups),
        "ranks": list(ranks),
    }
    if job.experiment == PAIRWISE:
        told |= {"distance": job.distance(*(places[rank] for rank in ranks)), "one_way": job.one_way}
    return {
        "hosts": [places[rank][0] for rank in ranks],
        "members": members[at],
        "beside": [each for other, each in enumerate(members) if other != at],
        "round": told,
    }
