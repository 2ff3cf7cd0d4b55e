# SPDX-License-Identifier: Apache-2.0
"""What a simulation would take, estimated and refused before anything large is made."""

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.memory import FEWER, require_rows, worded
from commbench.collectives.work import job_of, require_memory, rows_of
from commbench.engine.engines import Run
from commbench.errors import InputError

__all__ = ["MOST_TRANSFERS", "ROW_BYTES", "require_bounded"]

MOST_TRANSFERS = 4 * 10**9
"""Of repeated rounds that are simulated one by one: an hour and more. They take no memory, so only time is limited."""
ROW_BYTES = {"transfer": 350, "folded": 350, "collective": 190}
"""Memory for a row of a schedule, as measured on pairwise exchanges of 1,024 ranks and rings in slices."""


def require_bounded(algorithm: Algorithm, request: Request, how: Run) -> None:
    """Refuse what would take days or more memory than there is, before anything large is made.

    Raises:
        InputError: it would; says how much, and what to give instead.
    """
    if min(request.num_ranks, request.slices, request.channels, request.group) < 1 or algorithm.refuses(request):
        return  # said where it is built
    if algorithm.rounds is None or request.slices > 1:
        require_memory(algorithm, request, ROW_BYTES[how.detail], FEWER)
        return
    shorter = "give --detail folded or collective"
    if how.detail == "transfer" and (how.keep_trace or how.engine == "reference"):
        require_memory(algorithm, request, ROW_BYTES["transfer"], shorter)
    transfers = rows_of(algorithm, request) // 2
    if how.detail == "transfer" and transfers > MOST_TRANSFERS:
        raise InputError(
            f"{job_of(algorithm, request)}: {worded(transfers)} transfers one by one are more than "
            f"{worded(MOST_TRANSFERS)}: {shorter}"
        )
    in_a_round = 4 * request.num_ranks * request.channels
    require_rows(job_of(algorithm, request), in_a_round, ROW_BYTES["transfer"], FEWER)
