# SPDX-License-Identifier: Apache-2.0
"""``commbench run overlap``: how much a matrix product and an all-reduce slow each other down."""

from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.run_what import Backend, Nproc, Warmup, command_app, journal, ranks_of, run_here
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.results.device_records import OverlapMeasured

__all__ = ["app", "overlap", "overlap_table"]

_DEFAULT_RANKS = 2

app = command_app()


@app.command()
def overlap(
    nproc: Nproc = None,
    m: Annotated[int, typer.Option("-m", help="The product is (m x k) by (k x n).")] = 512,
    n: Annotated[int, typer.Option("-n", help="See -m.")] = 512,
    k: Annotated[int, typer.Option("-k", help="See -m.")] = 512,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="float32, float64, bfloat16 or float16.")] = "float32",
    size: Annotated[str, typer.Option("-b", "--bytes", help="Of the all-reduce; K, M, G are binary.")] = "4M",
    iters: Annotated[int, typer.Option("--iters", help="Timed repetitions.")] = 10,
    warmup: Warmup = 2,
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
) -> None:
    """Time a product alone, an all-reduce alone, and each while the other runs: both slowdowns."""
    from commbench.live.job import OverlapJob
    from commbench.results.device_records import OverlapMeasured
    from commbench.units import parse_size

    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    run, out = journal(out, "overlap")
    job = OverlapJob(
        ranks=ranks,
        out=out,
        run=run,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timeout_s=timeout,
        join_timeout_s=join_timeout,
        m=m,
        n=n,
        k=k,
        dtype=dtype,
        size_bytes=parse_size(size),
    )
    for record in run_here(job, info):
        if isinstance(record, OverlapMeasured):
            typer.echo(record.to_json()) if json else put(overlap_table(record))


def overlap_table(record: "OverlapMeasured") -> str:
    """Two lines: the product and the all-reduce, alone and beside the other."""
    from commbench.cli.tables import heading

    figures = record.derived()
    lines = [
        heading(
            f"{record.ranks} ranks on {record.backend}: product {record.m} x {record.n} x {record.k} in "
            f"{record.dtype}, all-reduce of {record.size_bytes} B"
        ),
        f"#{'':<11} {'alone (us)':>12} {'beside (us)':>12} {'slowdown':>9}",
    ]
    for name in ("product", "collective"):
        alone, beside = figures[f"{name}_alone_time_s"], figures[f"{name}_beside_time_s"]
        word = "all-reduce" if name == "collective" else name
        lines.append(f" {word:<11} {1e6 * alone:>12.1f} {1e6 * beside:>12.1f} {figures[f'{name}_slowdown']:>9.3f}")
    return "\n".join(lines)
