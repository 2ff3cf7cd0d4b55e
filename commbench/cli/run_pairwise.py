# SPDX-License-Identifier: Apache-2.0
"""``commbench run pairwise``: every pair of ranks, disjoint pairs at once."""

from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.group_run import PAIR_BYTES, How, run_groups
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
)
from commbench.cli.running import Backend, Nproc, command_app
from commbench.errors import InputError

__all__ = ["app", "pairwise"]

app = command_app()

_BOTH_WAYS = {"collective": "send-recv", "algorithm": "direct"}
_ONE_WAY = {"collective": "broadcast", "algorithm": "binomial"}


@app.command()
def pairwise(
    nproc: Nproc = None,
    minbytes: MinBytes = PAIR_BYTES,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: AnyIters = None,
    budget: Budget = None,
    warmup: WarmupPerSize = 5,
    cold_cache: ColdCacheOption = False,
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
    dtype: Dtype = "float32",
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure every pair of ranks, disjoint pairs at once: a round robin of n - 1 rounds; `diagnose` reads the records.

    Both ways at once is a send-recv, one way a broadcast to one rank; sizes are what one rank sends.
    """
    given = {"how": how, "one_way": one_way, "warmup": warmup, "backend": backend, "check": check}
    given |= {"timeout_s": timeout, "join_timeout_s": join_timeout, "experiment": "pairwise"}
    if hosts is not None and topology is None:
        raise InputError(f"--hosts {hosts} names the hosts of a topology: give --topology too")
    if topology is not None:
        from commbench.experiments.leaves import leaf_of

        given["leaf_of"] = leaf_of(topology, hosts)
    given |= _ONE_WAY if one_way else _BOTH_WAYS
    given |= {"cold_cache": cold_cache, **iterations(iters, budget)}
    sizes = (minbytes, maxbytes, stepfactor, stepbytes)
    run_groups(given, sizes, dtype, nproc, out, json, f"every pair, {'one way' if one_way else 'both ways'}")
