# SPDX-License-Identifier: Apache-2.0
"""What algorithms write their tables with: whole arrays of messages at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.orders import around_root, orders_of, with_root
from commbench.collectives.passes import add_channels, pipeline, reorder
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.spec import get_collective

__all__ = ["Numbers", "as_asked", "made_by", "messages", "table", "whole_hosts"]

Numbers = npt.NDArray[np.int_] | int
"""One number for every message, or one for all."""


def messages(
    step: Numbers,
    sender: Numbers,
    receiver: Numbers,
    sent: Numbers,
    placed: Numbers,
    *,
    count: Numbers = 1,
    kind: Kind = Kind.RECV,
    channel: Numbers = 0,
) -> npt.NDArray[np.int_]:
    """Rows for messages from ``sender`` to ``receiver``: all the sends, then all the receives.

    ``sent`` is the first chunk at the sender, ``placed`` where it lands at the receiver, ``kind`` what the receiver
    does with it. Arguments are spread against each other; messages without chunks are left out.
    """
    columns = np.broadcast_arrays(step, sender, receiver, sent, placed, count, channel)
    kept = columns[5].ravel() > 0
    at, source, target, here, there, length, lane = (column.ravel()[kept] for column in columns)
    # Columns of schedule.Op: step, rank, channel, kind, peer, chunk, count.
    sends = (at, source, lane, np.full_like(at, Kind.SEND), target, here, length)
    receives = (at, target, lane, np.full_like(at, kind), source, there, length)
    return np.concatenate([np.stack(sends, axis=1), np.stack(receives, axis=1)])


def table(*parts: npt.NDArray[np.int_]) -> npt.NDArray[np.int32]:
    """Rows put one behind the other; none at all is a table too."""
    return np.concatenate([np.empty((0, 7), dtype=np.int_), *parts]).astype(np.int32)


def as_asked(schedule: Schedule, request: Request, *, ring: bool = False) -> Schedule:
    """The schedule in the slices and channels of a request, the ranks of every channel in an order of its own.

    Args:
        schedule: for one slice. request: what is wanted.
        ring: whether it passes data round a ring, from the root on where it has one; its order then follows the direct
            links of a host on a single channel too.
    """
    wide = add_channels(pipeline(schedule, request.slices), request.channels)
    if request.channels == 1 and not ring:
        return wide
    orders = orders_of(request, schedule.num_channels, ring=ring)
    if get_collective(schedule.collective).rooted:
        orders = around_root(orders, request.root) if ring else with_root(orders, request)
    return reorder(wide, orders)


def made_by(
    make: Callable[..., Schedule],
    collective: str,
    name: str,
    source: str,
    *,
    ring: bool = False,
    grouped: bool = False,
    **rules: Any,
) -> Algorithm:
    """An algorithm whose schedule a function makes for one slice, from the number of ranks and the root, if it has one.

    Args:
        make: the function. collective, name, source, rules: of the algorithm. ring: as :func:`as_asked` has it.
        grouped: whether the function takes the ranks per host too.
    """
    rooted = get_collective(collective).rooted

    def build(request: Request) -> Schedule:
        own = (*((request.root,) if rooted else ()), *((request.group,) if grouped else ()))
        return as_asked(make(request.num_ranks, *own), request, ring=ring)

    return Algorithm(collective=collective, name=name, build=build, source=source, **rules)


def whole_hosts(request: Request) -> str:
    """The rule of algorithms for hosts of ``request.group`` ranks each."""
    if request.num_ranks % request.group == 0:
        return ""
    return f"needs whole hosts, not {request.num_ranks} ranks on hosts of {request.group}"
