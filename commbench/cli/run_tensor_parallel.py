# SPDX-License-Identifier: Apache-2.0
"""``commbench run tensor-parallel``: what a transformer block sends when ranks share it, counted and timed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl
from commbench.cli.run_what import (
    Backend,
    Check,
    Iters,
    Nproc,
    Timeout,
    Warmup,
    command_app,
    journal,
    ranks_of,
    run_here,
)
from commbench.errors import CheckFailedError, InputError

if TYPE_CHECKING:
    from commbench.results.device_records import TensorParallelMeasured

__all__ = ["app", "tensor_parallel", "tensor_parallel_table"]

_DEFAULT_RANKS = 2
_WITH: dict[str, tuple[bool, ...]] = {"both": (False, True), "yes": (True,), "no": (False,)}

app = command_app()


@app.command()
def tensor_parallel(
    nproc: Nproc = None,
    hidden: Annotated[int, typer.Option(help="Width of the residual stream.")] = 256,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 8,
    ffn: Annotated[int | None, typer.Option(help="Width inside the MLP [4 x hidden].", show_default=False)] = None,
    sequence: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 128,
    micro_batch: Annotated[int, typer.Option("--micro-batch", help="Sequences of a microbatch.")] = 2,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="float32, float64, bfloat16 or float16.")] = "float32",
    method: Annotated[str, typer.Option(help="hand, dtensor or both.")] = "both",
    sequence_parallel: Annotated[
        str, typer.Option("--sequence-parallel", help="Norms and residuals split too: yes, no or both.")
    ] = "both",
    iters: Iters = 10,
    warmup: Warmup = 2,
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    out: Annotated[Path | None, typer.Option(help="Journal to append to [runs/<time>-...jsonl].")] = None,
    json: Jsonl = False,
    check: Check = True,
) -> None:
    """Split a transformer block over all ranks; check its gradients, count and time what it sends."""
    from commbench.live.job import METHODS, TensorParallelJob
    from commbench.results.device_records import TensorParallelMeasured

    seat, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    if method not in (*METHODS, "both"):
        raise InputError(f"--method {method!r} is unknown; known: {', '.join(METHODS)}, both")
    if sequence_parallel not in _WITH:
        raise InputError(f"--sequence-parallel {sequence_parallel!r} is unknown; known: {', '.join(_WITH)}")
    out = journal(out, "tensor-parallel")
    job = TensorParallelJob(
        ranks=ranks,
        out=out,
        run=out.stem,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timeout_s=timeout,
        check=check,
        hidden=hidden,
        heads=heads,
        ffn=4 * hidden if ffn is None else ffn,
        sequence=sequence,
        micro_batch=micro_batch,
        dtype=dtype,
        methods=METHODS if method == "both" else (method,),
        sequence_parallel=_WITH[sequence_parallel],
    )
    records = [record for record in run_here(job, seat) if isinstance(record, TensorParallelMeasured)]
    if records:
        typer.echo("\n".join(r.to_json() for r in records) if json else tensor_parallel_table(records))
    _judge(records)


def tensor_parallel_table(records: "Sequence[TensorParallelMeasured]") -> str:
    """One line per method, with and without sequence parallelism."""
    r = records[0]
    lines = [
        f"# transformer block over {r.ranks} ranks on {r.backend}: hidden {r.hidden}, {r.heads} heads, ffn {r.ffn}, "
        f"sequence {r.sequence}, micro-batch {r.micro_batch}, {r.dtype}",
        "# forward and backward of one microbatch; formula: 8 b s h e (t-1)/t bytes that a rank sends",
        f"# error: output and gradients in float64, largest difference / largest value (at most {r.tolerance:g})",
        f"#{'method':<7} {'seq.par.':<8} {'calls':<31} {'moved':>10} {'formula':>10} {'time':>7} {'exposed':>7} "
        f"{'busbw':>6} {'error':>7}",
        f"#{'':<7} {'':<8} {'':<31} {'(B)':>10} {'(B)':>10} {'(ms)':>7} {'(ms)':>7} {'(GB/s)':>6} {'':>7}",
    ]
    return "\n".join([*lines, *map(_row, records)])


def _row(r: "TensorParallelMeasured") -> str:
    calls = ", ".join(f"{count.calls} {count.collective}" for count in r.counts) or "none"
    busbw = "n/a" if r.busbw_GBps is None else f"{r.busbw_GBps:.3f}"
    error = "n/a" if r.largest_error is None else f"{r.largest_error:.1e}"
    return (
        f" {r.method:<7} {'yes' if r.sequence_parallel else 'no':<8} {calls:<31} {r.moved_bytes:>10.0f} "
        f"{r.formula_bytes:>10.0f} {1e3 * r.time_s:>7.2f} {1e3 * r.exposed_s:>7.2f} {busbw:>6} {error:>7}"
    )


def _judge(records: "Sequence[TensorParallelMeasured]") -> None:
    """Fail on wrong gradients, and on bytes that are not the formula's.

    Raises:
        CheckFailedError: names the method and the numbers.
    """
    for r in records:
        place = f"tensor parallelism by {r.method}, sequence parallel {'yes' if r.sequence_parallel else 'no'}"
        if r.values_ok is False:
            raise CheckFailedError(f"{place}: gradients are off by {r.largest_error:g}, more than {r.tolerance:g}")
        if not r.bytes_ok:
            raise CheckFailedError(f"{place}: {r.moved_bytes:g} B were moved, the formula says {r.formula_bytes:g} B")
