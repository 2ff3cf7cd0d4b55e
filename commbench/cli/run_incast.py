# SPDX-License-Identifier: Apache-2.0
"""``commbench run incast``: k senders into one receiver."""

from typing import Annotated

import typer

from commbench.cli.group_run import PAIR_BYTES, run_groups
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

__all__ = ["app", "incast"]

app = command_app()


@app.command()
def incast(
    nproc: Nproc = None,
    minbytes: MinBytes = PAIR_BYTES,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: AnyIters = None,
    budget: Budget = None,
    warmup: WarmupPerSize = 5,
    cold_cache: ColdCacheOption = False,
    receiver: Annotated[int, typer.Option(help="Rank that all send to.")] = 0,
    senders: Annotated[
        str | None, typer.Option(help="How many send at once, as 1,2,4; each is a row [1 to all others].")
    ] = None,
    dtype: Dtype = "float32",
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure k senders into one receiver, k = 1 to n - 1: a gather whose messages all come at once.

    Sizes are what each sender sends; busbw is what the receiver gets.
    """
    given = {"receiver": receiver, "senders": _counts(senders), "warmup": warmup, "backend": backend}
    given |= {"check": check, "timeout_s": timeout, "join_timeout_s": join_timeout, "experiment": "incast"}
    given |= {"collective": "gather", "algorithm": "direct"}
    given |= {"cold_cache": cold_cache, **iterations(iters, budget)}
    run_groups(given, (minbytes, maxbytes, stepfactor, stepbytes), dtype, nproc, out, json, f"into rank {receiver}")


def _counts(text: str | None) -> tuple[int, ...]:
    """The numbers of a list such as "1,2,4"."""
    words = [] if text is None else text.split(",")
    if any(not word.strip().isdecimal() for word in words):
        raise InputError(f"--senders {text!r}: give numbers of senders, for example 1,2,4")
    return tuple(dict.fromkeys(int(word[:9]) for word in words))
