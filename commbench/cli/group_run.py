# SPDX-License-Identifier: Apache-2.0
"""What the commands on groups of ranks share: options, and the run itself."""

from pathlib import Path
from typing import Annotated, Any

import typer

from commbench.cli.running import journal, ranks_of, run_here

__all__ = ["PAIR_BYTES", "How", "run_groups"]

_DEFAULT_RANKS = 4
PAIR_BYTES = "4M"
"""Large enough for bandwidth to decide, as a diagnosis wants it."""

How = Annotated[str, typer.Option("--how", help="at-once, alone (one after the other) or both.")]


def run_groups(
    given: dict[str, Any],
    sizes: tuple[str, str | None, float | None, str | None],
    dtype: str,
    nproc: int | None,
    out: Path | None,
    json: bool,
    what: str,
) -> None:
    """Make the job, run it and show it.

    Args:
        given: of the job. sizes: -b, -e, -f and -i; with -b alone there is one size. what: for the heading.

    Raises:
        CheckFailedError: values were wrong.
    """
    from commbench.cli.group_table import GroupTable
    from commbench.collectives.sizes import dtype_bytes, dtype_name, sweep
    from commbench.live.console import JsonLines
    from commbench.live.group_job import GroupJob
    from commbench.live.measure import require_right
    from commbench.results.records import Measured

    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    run, out = journal(out, given["experiment"])
    name, (first, last, factor, step) = dtype_name(dtype), sizes
    if (last, factor, step) == (None, None, None):
        last = first
    wanted = tuple(sweep(first, last, factor=factor, step=step, element_bytes=dtype_bytes(name)))
    job = GroupJob(**given, ranks=ranks, run=run, out=out, dtype=name, sizes_bytes=wanted)
    found = run_here(job, info, JsonLines() if json else GroupTable(job, what))
    require_right([record for record in found if isinstance(record, Measured)])
