# SPDX-License-Identifier: Apache-2.0
"""``commbench run multi``: a collective in several groups of ranks at once."""

from typing import Annotated, Any

import typer

from commbench.cli.group_run import How, run_groups
from commbench.cli.measuring import Measuring
from commbench.cli.options import MinBytes, require_collective, with_options_of
from commbench.cli.running import command_app

__all__ = ["app", "multi"]

app = command_app()


@app.command()
@with_options_of(Measuring)
def multi(
    collective: Annotated[str, typer.Argument(help="What every group measures: all-reduce, all-gather, ...")],
    groups: Annotated[
        str, typer.Option("--groups", help='node, rail, "mod K", "div K", how many, or ranks as 0-3/4-7.')
    ],
    minbytes: MinBytes = "1M",
    how: How = "at-once",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (the backend's own) or a name.")
    ] = "native",
    op: Annotated[str, typer.Option("--op", "-o", help="sum, prod, min, max; avg, mulsum on nccl.")] = "sum",
    **given: Any,
) -> None:
    """Measure a collective in several groups of ranks at once: those of a host, of a rail, or as you name them.

    With --how both each group is measured alone too, and what they cost each other is said.
    """
    own = {"experiment": "multi", "collective": require_collective(collective, "no other word")}
    own |= {"groups": groups, "how": how, "algorithm": algorithm, "op": op}
    run_groups(Measuring(minbytes=minbytes, **given), own, f"groups {groups}")
