# SPDX-License-Identifier: Apache-2.0
"""Somebody else's flows beside what is predicted of a lab: each one message that is still under way at the end.

In the lab they never end. Here a message must, and how much of it there is counts: the fluid model takes
acknowledgements off a link by all that crosses it (:mod:`commbench.lowering.way_back`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from commbench.door import Result
from commbench.errors import RunError
from commbench.program.operations import Program, ProgramBuilder

__all__ = ["flows_of", "outlasting", "with_flows"]

_LONGEST = 1.3  # times as long as what is measured a message may take
_AIM = 1.15
_MOST_TRIES = 20  # of sizes; three to five do


def flows_of(lab: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The background flows of a lab, by its record: ranks of the topology, sender and receiver."""
    return [(src, dst) for src, dst in lab.get("background", ())]


def with_flows(build: ProgramBuilder, flow_bytes: Sequence[int]) -> Program:
    """The program, with a message of so many bytes for each flow, on the last ranks: two for each flow."""
    src = build.num_ranks - 2 * len(flow_bytes)
    for num_bytes in flow_bytes:
        build.transfer(src, src + 1, num_bytes)
        src += 2
    return build.build()


def outlasting(simulated: Callable[[Sequence[int]], Result], num_flows: int, first_bytes: int) -> Result:
    """Simulate with messages of such sizes that each ends after all else, and not long after.

    Args:
        simulated: simulates a program of :func:`with_flows` with these sizes in bytes.
        num_flows: that it has. first_bytes: of each, to begin with.

    Raises:
        RunError: no such sizes are found.
    """
    sizes = [first_bytes] * num_flows
    for _ in range(_MOST_TRIES):
        done = simulated(sizes)
        ends = done.ends_ps().tolist()
        last, ends = max(ends[: len(ends) - num_flows]), ends[len(ends) - num_flows :]
        if all(last <= end <= _LONGEST * last for end in ends):
            return done
        sizes = [max(1, int(size * _AIM * last / end)) for size, end in zip(sizes, ends, strict=True)]
    raise RunError(f"background flows of {sizes} B do not last as long as what is measured beside them")
