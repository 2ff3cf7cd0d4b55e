# SPDX-License-Identifier: Apache-2.0
"""``commbench run multi``: a collective in several groups of ranks at once."""

from typing import Annotated

import typer

from commbench.cli.group_run import How, run_groups
from commbench.cli.options import (
    AnyIters,
    Budget,
    CheckValues,
    ColdCacheOption,
    Dtype,
    JoinTimeout,
    Jsonl,
    MaxBytes,
    MinBytes,
    Out,
    StepBytes,
    StepFactor,
    Timeout,
    WarmupPerSize,
    iterations,
    require_collective,
)
from commbench.cli.running import Backend, Nproc, command_app

__all__ = ["app", "multi"]

app = command_app()


@app.command()
def multi(
    collective: Annotated[str, typer.Argument(help="What every group measures: all-reduce, all-gather, ...")],
    groups: Annotated[
        str, typer.Option("--groups", help='node, rail, "mod K", "div K", how many, or ranks as 0-3/4-7.')
    ],
    nproc: Nproc = None,
    minbytes: MinBytes = "1M",
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: AnyIters = None,
    budget: Budget = None,
    warmup: WarmupPerSize = 5,
    cold_cache: ColdCacheOption = False,
    how: How = "at-once",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (the backend's own) or a name.")
    ] = "native",
    dtype: Dtype = "float32",
    op: Annotated[str, typer.Option("--op", "-o", help="sum, prod, min, max; avg, mulsum on nccl.")] = "sum",
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure a collective in several groups of ranks at once: those of a host, of a rail, or as you name them.

    With --how both each group is measured alone too, and what they cost each other is said.
    """
    given = {"groups": groups, "how": how, "algorithm": algorithm, "op": op, "warmup": warmup}
    given |= {"backend": backend, "check": check, "timeout_s": timeout, "join_timeout_s": join_timeout}
    given |= {"experiment": "multi", "collective": require_collective(collective, "no other word")}
    given |= {"cold_cache": cold_cache, **iterations(iters, budget)}
    run_groups(given, (minbytes, maxbytes, stepfactor, stepbytes), dtype, nproc, out, json, f"groups {groups}")
