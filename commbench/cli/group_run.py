# SPDX-License-Identifier: Apache-2.0
"""What the commands on groups of ranks share: options, and the run itself."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from commbench.cli.measuring import Measuring
from commbench.cli.running import journal, ranks_of, run_here

__all__ = ["PAIR_BYTES", "How", "run_groups"]

_DEFAULT_RANKS = 4
PAIR_BYTES = "4M"
"""Large enough for bandwidth to decide, as a diagnosis wants it."""

How = Annotated[str, typer.Option("--how", help="at-once, alone (one after the other) or both.")]


def run_groups(how: Measuring, given: Mapping[str, Any], what: str) -> None:
    """Make the job, run it and show it.

    Args:
        how: options of all such commands; with -b alone there is one size. given: of this job. what: for the heading.

    Raises:
        CheckFailedError: values were wrong.
    """
    from commbench.cli.group_table import GroupTable
    from commbench.collectives.sizes import dtype_bytes, dtype_name, sweep
    from commbench.live.console import JsonLines
    from commbench.live.group_job import GroupJob
    from commbench.live.measure import require_right
    from commbench.results.records import Measured

    info, ranks = ranks_of(how.nproc, _DEFAULT_RANKS)
    run, out = journal(how.out, given["experiment"])
    name, (first, last, factor, step) = dtype_name(how.dtype), how.sizes
    if (last, factor, step) == (None, None, None):
        last = first
    wanted = tuple(sweep(first, last, factor=factor, step=step, element_bytes=dtype_bytes(name)))
    job = GroupJob(**how.of_job(), **given, ranks=ranks, run=run, out=out, dtype=name, sizes_bytes=wanted)
    found = run_here(job, info, JsonLines() if how.json else GroupTable(job, what))
    require_right([record for record in found if isinstance(record, Measured)])
