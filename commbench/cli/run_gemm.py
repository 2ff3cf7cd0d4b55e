# SPDX-License-Identifier: Apache-2.0
"""``commbench run gemm``: efficiency of matrix products by shape, as a table that `sim train` reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.running import command_app, journal
from commbench.errors import InputError
from commbench.tables import Column, head_text, row_text
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.device_records import GemmMeasured

__all__ = ["app", "gemm", "gemm_header", "gemm_row"]

app = command_app()


@app.command()
def gemm(
    shape: Annotated[list[str] | None, typer.Option("--shape", help="MxNxK: (M x K) by (K x N); repeat.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The products of this model's layer, for example gpt3-13b.")
    ] = None,
    tp: Annotated[int, typer.Option("--tp", help="Tensor-parallel degree, with --model.")] = 1,
    micro_batch: Annotated[int, typer.Option("--micro-batch", help="Sequences of a microbatch, with --model.")] = 1,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="fp64, fp32, tf32, bf16 or fp16.")] = "fp32",
    on: Annotated[str, typer.Option("--on", help="cpu, cuda or auto: cuda if there is one.")] = "auto",
    device: Annotated[
        str | None, typer.Option("--device", help="Name in the table; a known one has its vendor's peak.")
    ] = None,
    peak: Annotated[str | None, typer.Option("--peak", help='Of the device, for example "150 GFLOP/s".')] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads [torch's own].")] = None,
    iters: Annotated[int, typer.Option("--iters", "-n", help="Samples per shape.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", "-w", help="Warm-up samples per shape.")] = 2,
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Table to append to [runs/<time>-run-gemm.jsonl].")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Time matrix products on one device and write them as a table; --gemm-table of `sim train` reads it."""
    from commbench.experiments.gemm import peak_of, shapes_of
    from commbench.results.journal import Journal

    shapes = shapes_of(shape or (), model, tp, micro_batch)
    for option, value, least in (("--iters", iters, 1), ("--warmup", warmup, 0), ("--threads", threads or 1, 1)):
        if value < least:
            raise InputError(f"{option} {value} must be at least {least}")
    peak_flops, peak_source = peak_of(device, dtype, peak)
    run, out = journal(out, "gemm")
    from commbench.live.gemm import GemmPlan, measure_gemm

    plan = GemmPlan(
        run=run,
        shapes=shapes,
        dtype=dtype,
        on=on,
        device=device or "",
        peak_flops=peak_flops,
        peak_source=peak_source,
        iters=iters,
        warmup=warmup,
        threads=threads,
    )
    for number, record in enumerate(measure_gemm(plan)):
        Journal(out).append(record)
        if number == 0 and not json:
            put(gemm_header(record))
        typer.echo(record.to_json()) if json else put(gemm_row(record))
    tell(f"records: {out}")


def gemm_header(record: "GemmMeasured") -> str:
    """What is measured, and the column names."""
    from commbench.cli.tables import heading

    peak = (
        "no peak is stated"
        if record.peak_flops is None
        else f"peak {record.peak_flops:.4g} FLOP/s ({record.peak_source})"
    )
    what = heading(f"products (m x k) by (k x n), {record.dtype}, on {record.device}; {peak}")
    return f"{what}\n{head_text(_COLUMNS)}"


_COLUMNS = (
    *(Column(name, width=7) for name in ("m", "n", "k")),
    *(Column(name, "(us)", width=11, form=".2f") for name in ("time", "fastest", "slowest")),
    Column("GFLOP/s", width=10, form=".1f"),
    Column("of peak", width=8, form=".1%"),
)


def gemm_row(record: "GemmMeasured") -> str:
    """One shape."""
    times = (1e6 * time_s for time_s in (record.seconds, min(record.samples_s), max(record.samples_s)))
    return row_text(_COLUMNS, (record.m, record.n, record.k, *times, record.flops / 1e9, record.efficiency))
