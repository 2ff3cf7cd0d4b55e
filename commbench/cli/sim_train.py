# SPDX-License-Identifier: Apache-2.0
"""``commbench sim train``: simulate a training step on a topology."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.running import command_app
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.experiments.step_options import StepOptions
    from commbench.results.journal import Journal
    from commbench.results.steps import SimulatedStep

__all__ = ["app", "show_step", "train"]

app = command_app()


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


@app.command()
def train(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file with any of these options, by their names; those given here win.")
    ] = None,
    model: Annotated[str | None, _option("--model", help="A preset, for example gpt3-175b.")] = None,
    topology: Annotated[str | None, _option("-t", "--topology", help="A name from topologies/ or a path.")] = None,
    ranks: Annotated[int | None, _option("--ranks", help="World size; all endpoints if left out.")] = None,
    tp: Annotated[int | None, _option("--tp", help="Tensor-parallel degree [1].")] = None,
    cp: Annotated[int | None, _option("--cp", help="Context-parallel degree [1].")] = None,
    ep: Annotated[int | None, _option("--ep", help="Expert-parallel degree, within cp x dp [1].")] = None,
    dp: Annotated[int | None, _option("--dp", help="Data-parallel degree [1].")] = None,
    pp: Annotated[int | None, _option("--pp", help="Pipeline-parallel degree [1].")] = None,
    rank_order: Annotated[
        str | None, _option("--rank-order", help="Axes, nearest ranks first [tp-cp-ep-dp-pp].")
    ] = None,
    microbatch: Annotated[int | None, _option("--microbatch", help="Sequences of a microbatch.")] = None,
    global_batch: Annotated[int | None, _option("--global-batch", help="Sequences of a step.")] = None,
    sequence: Annotated[
        int | None, _option("--sequence", help="Tokens of a sequence; the model's own if left out.")
    ] = None,
    positions: Annotated[
        int | None, _option("--positions", help="Learned positions of a model that has them; its own if left out.")
    ] = None,
    schedule: Annotated[
        str | None, _option("--schedule", help="Pipeline schedule: a name, or a .csv file of torch's [1f1b].")
    ] = None,
    stages_per_rank: Annotated[
        int | None, _option("--stages-per-rank", help="Pipeline stages on every rank; the schedule's own if left out.")
    ] = None,
    layers: Annotated[
        str | None, _option("--layers", help="Layers of every stage, by commas; evenly if left out.")
    ] = None,
    device: Annotated[
        str | None, _option("--device", help="For example h100-sxm5-80gb; its beginning will do.")
    ] = None,
    dtype: Annotated[str | None, _option("-d", "--dtype", help="Of products: bf16, fp16, fp8 ... [bf16].")] = None,
    matrix_efficiency: Annotated[
        float | None, _option("--matrix-efficiency", help="Share of peak FLOP/s that products with weights reach.")
    ] = None,
    gemm_table: Annotated[
        str | None, _option("--gemm-table", help="The same by shape, from measured products (commbench run gemm).")
    ] = None,
    attention_efficiency: Annotated[
        float | None, _option("--attention-efficiency", help="Share of peak FLOP/s that attention cores reach.")
    ] = None,
    memory_efficiency: Annotated[
        float | None, _option("--memory-efficiency", help="Share of memory bandwidth that everything else reaches.")
    ] = None,
    assume_efficiencies: Annotated[
        bool | None, _option("--assume-efficiencies", help="Usual ones of GPUs where none are given.")
    ] = None,
    memory_margin: Annotated[
        str | None, _option("--memory-margin", help="For context, buffers and fragments; assumed unless given [2G].")
    ] = None,
    attention: Annotated[str | None, _option("--attention", help="causal or full [causal].")] = None,
    flash: Annotated[
        bool | None, typer.Option("--flash/--no-flash", help="Attention as one kernel [flash].", show_default=False)
    ] = None,
    recompute: Annotated[str | None, _option("--recompute", help="none, selective or full [none].")] = None,
    sequence_parallel: Annotated[
        bool | None, _option("--sequence-parallel", help="Norms and residuals split over tp too.")
    ] = None,
    zero: Annotated[int | None, _option("--zero", help="ZeRO stage, 0 to 3 [0].")] = None,
    precision: Annotated[str | None, _option("--precision", help="Bytes per parameter [megatron-bf16].")] = None,
    bucket: Annotated[
        str | None, _option("--bucket", help="Least size of a bucket of gradients [25M, as torch].")
    ] = None,
    overlap_tensor: Annotated[
        bool | None, _option("--overlap-tensor", help="Tensor collectives run beside the gradients of their product.")
    ] = None,
    scatter_gather: Annotated[
        bool | None, _option("--scatter-gather", help="Tensor ranks send shares of a stage's output and gather them.")
    ] = None,
    ring: Annotated[
        str | None, _option("--ring", help="Algorithm of all-reduce, reduce-scatter and all-gather [ring].")
    ] = None,
    slowdown: Annotated[
        float | None,
        _option("--slowdown", help="Compute beside a collective takes this many times as long [1: no slower]."),
    ] = None,
    routing: Annotated[
        str | None, _option("--routing", help="ecmp, d-mod-k or rail-aware; the topology's own.")
    ] = None,
    placement: Annotated[str | None, _option("--placement", help="linear or random [linear].")] = None,
    seed: Annotated[int | None, _option("--seed", help="Of ECMP, random placement and jitter [0].")] = None,
    engine: Annotated[str | None, _option("--engine", help="compiled or reference [compiled].")] = None,
    scenario: Annotated[str | None, _option("--scenario", help="YAML file of slow ranks and slower links.")] = None,
    jitter: Annotated[
        float | None, _option("--jitter", help="Compute varies by up to this share, by the seed [0].")
    ] = None,
    unfolded: Annotated[bool | None, _option("--unfolded", help="Simulate every rank by itself.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the record, with all passes, to this file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate a training step: time, utilisation, bubble, exposed communication, memory, busiest links."""
    given = {key: value for key, value in locals().items() if key not in ("file", "out", "json")}
    from commbench.experiments.step_options import read_options, simulate_options
    from commbench.results.journal import Journal

    options: StepOptions = read_options(file, given)
    journal = None if out is None else Journal(out)
    if not show_step(simulate_options(options), journal, json):
        raise typer.Exit(1)


def show_step(record: "SimulatedStep", journal: "Journal | None", json: bool) -> bool:
    """Show a step and keep its record; whether it fits into memory."""
    from commbench.cli.step_tables import step_table, too_large

    if journal is not None:
        journal.append(record)
    if json:  # the table says it itself
        for note in (*([] if record.fits else [too_large(record)]), record.folded, *record.notes):
            tell(note)
    typer.echo(record.without_spans().to_json()) if json else put(step_table(record))
    return record.fits
