# SPDX-License-Identifier: Apache-2.0
"""``commbench run tensor-parallel``: what a transformer block sends when ranks share it, counted and timed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.running import (
    Backend,
    Check,
    Iters,
    Nproc,
    Warmup,
    command_app,
    journal,
    ranks_of,
    run_here,
)
from commbench.cli.tables import heading
from commbench.tables import Column, head_text, row_text
from commbench.terminal import put
from commbench.units import GB, format_figure, rate_unit

if TYPE_CHECKING:
    from commbench.experiments.tensor_parallel import BlockTwins
    from commbench.results.records import Measured

__all__ = ["app", "tensor_parallel", "tensor_parallel_table"]

_DEFAULT_RANKS = 2

app = command_app()


@app.command()
def tensor_parallel(
    nproc: Nproc = None,
    hidden: Annotated[int, typer.Option(help="Width of the residual stream.")] = 64,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 4,
    ffn: Annotated[int | None, typer.Option(help="Width inside the MLP [4 x hidden].", show_default=False)] = None,
    sequence: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 64,
    micro_batch: Annotated[int, typer.Option("--micro-batch", help="Sequences of a microbatch.")] = 64,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="float32, float64, bfloat16 or float16.")] = "float32",
    method: Annotated[str, typer.Option(help="hand, dtensor or both.")] = "both",
    sequence_parallel: Annotated[
        str, typer.Option("--sequence-parallel", help="Norms and residuals split too: yes, no or both.")
    ] = "both",
    iters: Iters = 50,
    warmup: Warmup = 2,
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    max_error: Annotated[
        float | None,
        typer.Option(
            help="Fail if simulated and measured time in collectives differ by a larger share.", show_default=False
        ),
    ] = None,
    out: Out = None,
    json: Jsonl = False,
    check: Check = True,
) -> None:
    """Split a transformer block over all ranks; check its gradients, count, time and simulate what it sends."""
    given = {k: v for k, v in locals().items() if k not in ("nproc", "max_error", "out", "json")}
    from commbench.experiments.tensor_parallel import compare_all, judge, make_job

    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    run, path = journal(out, "tensor-parallel")
    job = make_job(**given, run=run, ranks=ranks, out=path)
    twins, alone = compare_all(run_here(job, info), path, max_error)
    lines = [record.to_json() for record in alone] + [line for both in twins for line in _lines(both)]
    if twins:
        typer.echo("\n".join(lines)) if json else put(tensor_parallel_table(twins, alone))
    judge(twins, max_error)


def _lines(both: "BlockTwins") -> list[str]:
    """What ``--json`` says of one block."""
    lines = [each.headline() for each in (both.measured, both.simulated) if each is not None]
    return lines if both.compared is None else [*lines, both.compared.to_json()]


def tensor_parallel_table(twins: "Sequence[BlockTwins]", alone: "Sequence[Measured]" = ()) -> str:
    """One line per method, with and without sequence parallelism."""
    r = twins[0].measured
    told = heading(
        f"transformer block over {r.ranks} ranks on {r.backend}: hidden {r.hidden}, {r.heads} heads, ffn {r.ffn}, "
        f"sequence {r.sequence}, micro-batch {r.micro_batch}, {r.dtype}",
        "forward and backward of one microbatch; formula: 8 b s h e (t-1)/t bytes that a rank sends",
        "measured: in collectives, waiting for the slowest rank included, +- its median deviation; "
        f"simulated: {_simulated_how(twins, alone)}",
        f"wrong by: output and gradients in float64, largest difference / largest value (at most {r.tolerance:g})",
        *dict.fromkeys(f"{_parallel(b)}: {_calls(b)}" for b in twins),
    )
    fastest = max((b.measured.busbw_GBps or 0.0 for b in twins), default=0.0)
    factor, unit = rate_unit(GB * fastest)
    columns = _columns(unit)
    return "\n".join([told, head_text(columns), *(row_text(columns, _row(b, factor)) for b in twins)])


def _columns(unit: str) -> tuple[Column, ...]:
    return (
        Column("method", numeric=False, width=7),
        Column("seq.", "par.", width=4),
        *(Column(name, "(B)", width=9, form=".0f") for name in ("moved", "formula")),
        Column("step", "(ms)", width=7, form=".2f"),
        Column("measured", "(ms)", width=8, form=".2f"),
        Column("+-", "(ms)", width=6, form=".2f"),
        Column("simul.", "(ms)", width=7, form=".2f"),
        Column("error", "(%)", width=6, form="+.1f"),
        Column("busbw", f"({unit})", width=6),
    )


def _parallel(both: "BlockTwins") -> str:
    """Method and sequence parallelism."""
    return f"{both.measured.method}, sequence parallel {'yes' if both.measured.sequence_parallel else 'no'}"


def _calls(both: "BlockTwins") -> str:
    """What was called, and how far the result is off."""
    r = both.measured
    wrong_by = "not checked" if r.largest_error is None else f"wrong by {r.largest_error:.1e}"
    return f"{', '.join(f'{count.calls} {count.collective}' for count in r.counts) or 'no calls'}; {wrong_by}"


def _simulated_how(twins: "Sequence[BlockTwins]", alone: "Sequence[Measured]") -> str:
    """What the simulation rests on, and how well it explains that."""
    from commbench.units import format_bytes

    compared = twins[0].compared
    if compared is None:
        return "not simulated (gloo ranks of one host are)"
    sizes = f"{format_bytes(alone[0].size_bytes)} to {format_bytes(alone[-1].size_bytes)}"
    return f"calibrated on all-reduces alone, {sizes}, which it explains to {compared.fit_error:.1%} (median)"


def _row(both: "BlockTwins", unit: float) -> Sequence[str | float | None]:
    r, compared = both.measured, both.compared
    busbw = None if r.busbw_GBps is None else format_figure(r.busbw_GBps * GB / unit, 6)
    twin = (None, None) if compared is None else (1e3 * compared.simulated_s, 100 * compared.error)
    times = (1e3 * time_s for time_s in (r.time_s, r.exposed_s, r.spread_s))
    return (r.method, "yes" if r.sequence_parallel else "no", r.moved_bytes, r.formula_bytes, *times, *twin, busbw)
