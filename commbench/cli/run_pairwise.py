# SPDX-License-Identifier: Apache-2.0
"""``commbench run pairwise``: every pair of ranks, disjoint pairs at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from commbench.cli.group_run import PAIR_BYTES, How, run_groups
from commbench.cli.measuring import Measuring
from commbench.cli.options import MinBytes, with_options_of
from commbench.cli.running import command_app
from commbench.errors import InputError

__all__ = ["app", "pairwise"]

app = command_app()

_BOTH_WAYS = {"collective": "send-recv", "algorithm": "direct"}
_ONE_WAY = {"collective": "broadcast", "algorithm": "binomial"}


@app.command()
@with_options_of(Measuring)
def pairwise(
    minbytes: MinBytes = PAIR_BYTES,
    how: How = "at-once",
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Each direction by itself instead of both at once.")
    ] = False,
    topology: Annotated[
        str | None, typer.Option("-t", "--topology", help="Tells which ranks share a leaf (name or path).")
    ] = None,
    hosts: Annotated[
        Path | None, typer.Option(help="Names of the topology's hosts, one a line, where they are called otherwise.")
    ] = None,
    **given: Any,
) -> None:
    """Measure every pair of ranks, disjoint pairs at once: a round robin of n - 1 rounds; `diagnose` reads the records.

    Both ways at once is a send-recv, one way a broadcast to one rank; sizes are what one rank sends.
    """
    own = {"experiment": "pairwise", "how": how, "one_way": one_way, **(_ONE_WAY if one_way else _BOTH_WAYS)}
    if hosts is not None and topology is None:
        raise InputError(f"--hosts {hosts} names the hosts of a topology: give --topology too")
    if topology is not None:
        from commbench.experiments.leaves import leaf_of

        own["leaf_of"] = leaf_of(topology, hosts)
    what = f"every pair, {'one way' if one_way else 'both ways'}"
    run_groups(Measuring(minbytes=minbytes, **given), own, what)
