# SPDX-License-Identifier: Apache-2.0
"""``commbench run tensor-parallel``: what a transformer block sends when ranks share it, counted and timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.run_what import (
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
from commbench.errors import CheckFailedError, InputError
from commbench.terminal import put
from commbench.units import GB, format_figure, rate_unit

if TYPE_CHECKING:
    from commbench.results.records import Measured, Record
    from commbench.results.tensor_parallel_records import (
        TensorParallelCompared,
        TensorParallelMeasured,
        TensorParallelSimulated,
    )

__all__ = ["BlockTwins", "app", "compare_all", "tensor_parallel", "tensor_parallel_table"]

_DEFAULT_RANKS = 2
_WITH: dict[str, tuple[bool, ...]] = {"both": (False, True), "yes": (True,), "no": (False,)}

app = command_app()


@dataclass(frozen=True, slots=True)
class BlockTwins:
    """A measured block; where all-reduces alone were measured beside it, its simulated twin, and both compared."""

    measured: "TensorParallelMeasured"
    simulated: "TensorParallelSimulated | None" = None
    compared: "TensorParallelCompared | None" = None


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
    from commbench.live.job import METHODS, TensorParallelJob

    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    if method not in (*METHODS, "both"):
        raise InputError(f"--method {method!r} is unknown; known: {', '.join(METHODS)}, both")
    if sequence_parallel not in _WITH:
        raise InputError(f"--sequence-parallel {sequence_parallel!r} is unknown; known: {', '.join(_WITH)}")
    run, out = journal(out, "tensor-parallel")
    job = TensorParallelJob(
        ranks=ranks,
        out=out,
        run=run,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timeout_s=timeout,
        join_timeout_s=join_timeout,
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
    twins, alone = compare_all(run_here(job, info), out, max_error)
    lines = [record.to_json() for record in alone] + [line for both in twins for line in _lines(both)]
    if twins:
        typer.echo("\n".join(lines)) if json else put(tensor_parallel_table(twins, alone))
    _judge(twins, max_error)


def compare_all(
    records: "Sequence[Record]", out: Path, max_error: float | None = None
) -> "tuple[list[BlockTwins], list[Measured]]":
    """Simulate every measured block, compare, and append both to the journal; also the all-reduces that calibrated."""
    from commbench.results.journal import Journal
    from commbench.results.records import Measured
    from commbench.results.tensor_parallel_records import TensorParallelMeasured
    from commbench.validate.tensor_parallel import MAX_ERROR, calibrated, compare_tensor_parallel, twin

    blocks = [record for record in records if isinstance(record, TensorParallelMeasured)]
    alone = [record for record in records if isinstance(record, Measured)]
    if not blocks or not alone:
        return [BlockTwins(block) for block in blocks], alone
    machine, limit, found = calibrated(alone, blocks[0]), MAX_ERROR if max_error is None else max_error, []
    for block in blocks:
        simulated = twin(block, machine)
        compared = compare_tensor_parallel(block, simulated, machine, alone, max_error=limit)
        found.append(BlockTwins(block, simulated, compared))
        for more in (simulated, compared):
            Journal(out).append(more)
    return found, alone


def _lines(both: BlockTwins) -> list[str]:
    """What ``--json`` says of one block."""
    lines = [each.headline() for each in (both.measured, both.simulated) if each is not None]
    return lines if both.compared is None else [*lines, both.compared.to_json()]


def tensor_parallel_table(twins: Sequence[BlockTwins], alone: "Sequence[Measured]" = ()) -> str:
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
    lines = [
        f"#{'method':<7} {'seq.':>4} {'moved':>9} {'formula':>9} {'step':>7} {'measured':>8} {'+-':>6} {'simul.':>7} "
        f"{'error':>6} {'busbw':>6}",
        f"#{'':<7} {'par.':>4} {'(B)':>9} {'(B)':>9} {'(ms)':>7} {'(ms)':>8} {'(ms)':>6} {'(ms)':>7} "
        f"{'(%)':>6} {f'({unit})':>6}",
    ]
    return "\n".join([told, *lines, *(_row(b, factor) for b in twins)])


def _parallel(both: BlockTwins) -> str:
    """Method and sequence parallelism."""
    return f"{both.measured.method}, sequence parallel {'yes' if both.measured.sequence_parallel else 'no'}"


def _calls(both: BlockTwins) -> str:
    """What was called, and how far the result is off."""
    r = both.measured
    wrong_by = "not checked" if r.largest_error is None else f"wrong by {r.largest_error:.1e}"
    return f"{', '.join(f'{count.calls} {count.collective}' for count in r.counts) or 'no calls'}; {wrong_by}"


def _simulated_how(twins: Sequence[BlockTwins], alone: "Sequence[Measured]") -> str:
    """What the simulation rests on, and how well it explains that."""
    from commbench.units import format_bytes

    compared = twins[0].compared
    if compared is None:
        return "not simulated (gloo ranks of one host are)"
    sizes = f"{format_bytes(alone[0].size_bytes)} to {format_bytes(alone[-1].size_bytes)}"
    return f"calibrated on all-reduces alone, {sizes}, which it explains to {compared.fit_error:.1%} (median)"


def _row(both: BlockTwins, unit: float) -> str:
    r, compared = both.measured, both.compared
    busbw = "n/a" if r.busbw_GBps is None else format_figure(r.busbw_GBps * GB / unit, 6)
    simulated, error = "n/a", "n/a"
    if compared is not None:
        simulated, error = f"{1e3 * compared.simulated_s:.2f}", f"{100 * compared.error:+.1f}"
    return (
        f" {r.method:<7} {'yes' if r.sequence_parallel else 'no':>4} {r.moved_bytes:>9.0f} {r.formula_bytes:>9.0f} "
        f"{1e3 * r.time_s:>7.2f} {1e3 * r.exposed_s:>8.2f} {1e3 * r.spread_s:>6.2f} {simulated:>7} {error:>6} "
        f"{busbw:>6}"
    )


def _judge(twins: Sequence[BlockTwins], max_error: float | None) -> None:
    """Fail on wrong gradients, on bytes that are not the formula's, and past a threshold that was given.

    Raises:
        CheckFailedError: names the method and the numbers.
    """
    for both in twins:
        r = both.measured
        place = f"tensor parallelism by {r.method}, sequence parallel {'yes' if r.sequence_parallel else 'no'}"
        if r.values_ok is False:
            raise CheckFailedError(f"{place}: gradients are off by {r.largest_error:g}, more than {r.tolerance:g}")
        if not r.bytes_ok:
            raise CheckFailedError(f"{place}: {r.moved_bytes:g} B were moved, the formula says {r.formula_bytes:g} B")
    for both in twins:
        if max_error is not None and both.compared is not None and not both.compared.ok:
            raise CheckFailedError(
                f"tensor parallelism by {both.measured.method}, sequence parallel "
                f"{'yes' if both.measured.sequence_parallel else 'no'}: {1e3 * both.compared.measured_s:.2f} ms in "
                f"collectives, simulated {1e3 * both.compared.simulated_s:.2f} ms: {both.compared.error:+.1%} is more "
                f"than {max_error:.1%}"
            )
