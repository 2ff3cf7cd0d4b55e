# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, so that a flag means the same everywhere."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from commbench.errors import InputError
from commbench.experiments.collective import DEFAULT_SIZE

__all__ = [
    "DEFAULT_SIZE",
    "AnyIters",
    "Budget",
    "Channels",
    "CheckValues",
    "ColdCacheOption",
    "Dtype",
    "ItersPerSize",
    "JoinTimeout",
    "Jsonl",
    "Matrix",
    "MaxBytes",
    "MinBytes",
    "NcclTests",
    "Out",
    "Root",
    "Salvage",
    "Slices",
    "StepBytes",
    "StepFactor",
    "Timeout",
    "Timing",
    "WarmupPerSize",
    "Zipf",
    "iterations",
    "require_collective",
    "require_one_format",
    "with_options_of",
    "writable",
    "writable_folder",
]


MinBytes = Annotated[str, typer.Option("-b", "--minbytes", help="Smallest size; K, M, G are binary.")]
MaxBytes = Annotated[
    str | None, typer.Option("-e", "--maxbytes", help="Largest size; if left out 32M, or -b where that is larger.")
]
StepFactor = Annotated[
    float | None, typer.Option("-f", "--stepfactor", help="Multiply the size by this each time [2].")
]
StepBytes = Annotated[
    str | None, typer.Option("-i", "--stepbytes", help="Add this to the size each time, instead of -f.")
]
Jsonl = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout, nothing else there.")]
NcclTests = Annotated[
    Literal["table", "nccl-tests"],
    typer.Option("--format", help="table, or nccl-tests: the text that it prints, for programs that read that."),
]
Salvage = Annotated[bool, typer.Option("--salvage", help="Read the whole records of a file that was cut.")]
ItersPerSize = Annotated[int, typer.Option("--iters", "-n", help="Timed iterations per size.")]
WarmupPerSize = Annotated[int, typer.Option("--warmup", "-w", help="Warm-up iterations per size.")]
Dtype = Annotated[str, typer.Option("--dtype", "-d", help="Element type.")]
Slices = Annotated[int | None, typer.Option(help="Pieces it is pipelined in [the algorithm's own].")]
Channels = Annotated[int | None, typer.Option(help="Pieces that run side by side [1].")]
Root = Annotated[int | None, typer.Option("--root", "-r", help="Root rank of a rooted collective [0].")]
Budget = Annotated[
    str | None, typer.Option(help='Time for the timed iterations of each size, as "2s", instead of -n.')
]
ColdCacheOption = Annotated[bool, typer.Option("--cold-cache", help="Empty the caches before each iteration.")]
Matrix = Annotated[
    Path | None,
    typer.Option(help="CSV of relative sizes for all-to-all-v: a line for each sender, an entry for each receiver."),
]
Zipf = Annotated[
    float | None, typer.Option(help="Sizes of all-to-all-v by Zipf's law with this exponent, rank 0 gets the most.")
]
Timing = Annotated[str, typer.Option(help="isolated (barrier before each iteration) or pipelined.")]
Timeout = Annotated[float, typer.Option(help="Seconds without progress that count as hung.")]
JoinTimeout = Annotated[float, typer.Option(help="The same until every rank has reached its first size.")]
DEFAULT_ITERATIONS = 20
AnyIters = Annotated[int | None, typer.Option("--iters", "-n", help="Timed iterations per size [20].")]


def iterations(iters: int | None, budget: str | None) -> dict[str, float]:
    """What a plan has of -n and --budget.

    Raises:
        InputError: both, or a budget that is no time above 0.
    """
    from commbench.units import parse_duration_ps, seconds

    if budget is None:
        return {"iters": DEFAULT_ITERATIONS if iters is None else iters}
    if iters is not None:
        raise InputError(f"--budget {budget} and --iters {iters}: give one of them")
    budget_s = seconds(parse_duration_ps(budget))
    if not budget_s:
        raise InputError(f"--budget {budget}: must be above 0, for example 2s")
    return {"budget_s": budget_s}


def with_options_of(other: Callable[..., Any], *, without: str = "", unset: bool = False) -> Callable[..., Any]:
    """Let a command with ``**given`` take the options of another one, or of a dataclass, too, before its own.

    What both have is the command's own, in the other one's place.

    Args:
        other: its parameters are options of typer's, or told by their help, and by flags that are not their names.
        without: one that is not taken. unset: whether those told by their help are None where they are not given.
    """

    def widen(command: Callable[..., None]) -> Callable[..., None]:
        own = {n: p for n, p in inspect.signature(command).parameters.items() if p.kind is not p.VAR_KEYWORD}
        more = {n: _option(p, unset) for n, p in inspect.signature(other).parameters.items() if n != without}
        every = [p.replace(kind=p.KEYWORD_ONLY) for p in (more | own).values()]
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in every}
        return command

    return widen


def _option(parameter: inspect.Parameter, unset: bool) -> inspect.Parameter:
    """The parameter as typer takes it."""
    kind, *about = get_args(parameter.annotation) or (parameter.annotation,)
    if not about or not isinstance(about[0], str):
        return parameter
    told, *flags = about
    if not any(flag.startswith("--") for flag in flags):
        flags.append(f"--{parameter.name.replace('_', '-')}")
    option = typer.Option(*flags, help=told, show_default=not unset)
    if unset:
        return parameter.replace(annotation=Annotated[kind | None, option], default=None)
    return parameter.replace(annotation=Annotated[kind, option])


def writable(out: Path | None) -> Path | None:
    """Refuse an ``--out`` that cannot be written, before any work.

    Raises:
        InputError: names the path and why.
    """
    from commbench.results.outfile import require_writable

    if out is not None:
        require_writable(out)
    return out


def writable_folder(out: Path | None) -> Path | None:
    """The same for a folder."""
    from commbench.results.outfile import require_folder

    if out is not None:
        require_folder(out)
    return out


def require_one_format(form: str, json: bool) -> None:
    """Refuse two formats at once.

    Raises:
        InputError: ``--json`` and another one.
    """
    if json and form != "table":
        raise InputError(f"--json and --format {form}: give one of them")


Out = Annotated[Path | None, typer.Option(callback=writable, help="Journal to append to [runs/<time>-...jsonl].")]
CheckValues = Annotated[bool, typer.Option("--check/--no-check", help="Check the values after the timed loop.")]


def require_collective(name: str, others: str) -> str:
    """The name of a collective, however it is spelt; ``others`` are the words that might have stood there instead.

    Raises:
        InputError: neither a collective nor one of the others; lists both.
    """
    from commbench.collectives.spec import get_collective

    try:
        return get_collective(name).name
    except InputError as error:
        raise InputError(f"{error}; or {others}") from None


