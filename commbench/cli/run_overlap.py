# SPDX-License-Identifier: Apache-2.0
"""``commbench run overlap``: how much a matrix product and an all-reduce slow each other down."""

from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.running import Backend, Nproc, Warmup, command_app, journal, ranks_of, run_here
from commbench.tables import Column, head_text, row_text
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.results.device_records import OverlapMeasured

__all__ = ["app", "overlap", "overlap_table"]

_DEFAULT_RANKS = 2
_FIELDS = ("m", "n", "k", "dtype", "iters", "warmup", "backend")  # of the job, by the names of their options

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
    given = {name: value for name, value in locals().items() if name in _FIELDS}
    from commbench.live.job import OverlapJob
    from commbench.results.device_records import OverlapMeasured
    from commbench.units import parse_size

    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    run, out = journal(out, "overlap")
    limits = {"timeout_s": timeout, "join_timeout_s": join_timeout}
    job = OverlapJob(**given, **limits, ranks=ranks, out=out, run=run, size_bytes=parse_size(size))  # type: ignore[arg-type]
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
        head_text(_COLUMNS),
    ]
    for name, word in (("product", "product"), ("collective", "all-reduce")):
        times = (1e6 * figures[f"{name}_{how}_time_s"] for how in ("alone", "beside"))
        lines.append(row_text(_COLUMNS, (word, *times, figures[f"{name}_slowdown"])))
    return "\n".join(lines)


_COLUMNS = (
    Column("", numeric=False, width=11),
    Column("alone (us)", width=12, form=".1f"),
    Column("beside (us)", width=12, form=".1f"),
    Column("slowdown", width=9, form=".3f"),
)
