# SPDX-License-Identifier: Apache-2.0
"""``commbench algorithm``: list, show and verify schedules, and compare algorithms."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.crossover import crossover
from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl
from commbench.cli.tables import plain
from commbench.errors import InputError, did_you_mean
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.collectives.algorithm import Algorithm, Request
    from commbench.collectives.schedule import Schedule
    from commbench.collectives.summary import Facts

__all__ = ["app"]

app = typer.Typer(help="List, show and verify collective algorithms, and compare them.", no_args_is_help=True)
app.command("crossover")(crossover)

_MOST_ROWS = 2**22  # operations: ten seconds to build and verify

Ranks = Annotated[int, typer.Option("--ranks", help="World size.")]
Group = Annotated[int, typer.Option("--group", help="Ranks per host, for hierarchical algorithms.")]
Root = Annotated[int, typer.Option("--root", help="Root rank of rooted collectives.")]


@app.command("list")
def list_algorithms(
    collective: Annotated[str | None, typer.Option("-c", "--collective", help="Of this collective only.")] = None,
    json: Jsonl = False,
) -> None:
    """Every algorithm, with its steps and what its busiest rank sends for 8 ranks on 2 hosts."""
    from rich import box
    from rich.table import Table

    from commbench.collectives.summary import EXAMPLE, algorithms_of, facts

    rows = [facts(a) for a in algorithms_of(collective)]
    if json:
        for row in rows:
            typer.echo(json_line("algorithm", **_json_facts(row)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("collective", "algorithm"):
        table.add_column(title, no_wrap=True)
    table.add_column("world sizes", max_width=18)
    for title in ("steps", "sent"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("source")
    last = ""
    for row in rows:
        a = row.algorithm
        steps = "-" if row.steps is None else str(row.steps)
        sent = "-" if row.sent_share is None else f"{row.sent_share:.3f}"
        name = "\n".join([a.name, *(f"  or {alias}" for alias in a.aliases)]) + ("" if a.live else "\n  (sim only)")
        table.add_row("" if a.collective == last else a.collective, name, a.worlds, steps, sent, a.source)
        last = a.collective
    put(plain(table))
    words = f"steps, sent: {EXAMPLE.num_ranks} ranks, {EXAMPLE.group} per host, one slice; sent by the busiest rank, in"
    put(plain(f"{words} buffers"))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="An algorithm, or the path of a .txt, .xml or .py file.")],
    ranks: Annotated[int | None, typer.Option("--ranks", help="World size; 4, or that of a file.")] = None,
    slices: Annotated[int | None, typer.Option("--slices", help="Pieces to pipeline in.")] = None,
    channels: Annotated[int, typer.Option("--channels", help="Pieces that run side by side.")] = 1,
    collective: Annotated[
        str | None, typer.Option("-c", "--collective", help="Which collective; the first that has the algorithm.")
    ] = None,
    root: Root = 0,
    group: Group = 1,
    text: Annotated[bool, typer.Option("--text", help="The text form instead of the grid.")] = False,
    xml: Annotated[bool, typer.Option("--xml", help="MSCCL XML instead of the grid.")] = False,
    json: Jsonl = False,
) -> None:
    """The schedule as a step-by-rank grid: chunk>peer sends, chunk<peer receives, chunk+peer receives and adds."""
    from commbench.collectives.algorithm import Request
    from commbench.collectives.algorithms.load import is_path, load_any, load_file
    from commbench.collectives.grid import step_by_rank
    from commbench.collectives.msccl_write import to_msccl
    from commbench.collectives.registry import build
    from commbench.collectives.summary import EXAMPLE
    from commbench.collectives.text import to_text

    forms = [option for option, given in (("--text", text), ("--xml", xml), ("--json", json)) if given]
    if len(forms) > 1:
        raise InputError(f"{' and '.join(forms)}: give one of them, not {'both' if len(forms) == 2 else 'all'}")
    if is_path(name) and not name.endswith(".py"):
        if any(value is not None for value in (ranks, slices)) or (root, group, channels) != (0, 1, 1):
            raise InputError(f"{name}: a file holds one schedule; it takes no --ranks, --root, --group or slices")
        schedule = load_file(Path(name), collective)
    else:
        algorithm = load_any(_collective_of(name, collective), name)
        request = Request(
            num_ranks=4 if ranks is None else ranks,
            slices=algorithm.default_slices if slices is None else slices,
            channels=channels,
            root=root,
            group=group,
            num_elements=EXAMPLE.num_elements,
        )
        _require_shown(algorithm, request)
        schedule = build(algorithm, request)
    if json:
        typer.echo(json_line("schedule", **_json_schedule(schedule)))
        return
    form = to_text if text else to_msccl if xml else step_by_rank
    typer.echo(form(schedule), nl=not (text or xml))


def _require_shown(algorithm: "Algorithm", request: "Request") -> None:
    """Refuse a schedule that takes longer to build and verify than anyone waits to look at it."""
    from commbench.collectives.memory import worded
    from commbench.collectives.schedule import MOST_RANKS
    from commbench.collectives.work import job_of, rows_of

    counts = (request.num_ranks, request.slices, request.channels, request.group)
    if min(counts) < 1 or request.num_ranks > MOST_RANKS:
        return  # said where it is built
    if not algorithm.refuses(request) and (rows := rows_of(algorithm, request)) > _MOST_ROWS:
        raise InputError(
            f"{job_of(algorithm, request)}: up to {worded(rows)} operations are more than {_MOST_ROWS:,}, the most "
            "that is shown; give fewer --ranks, --slices or --channels"
        )


@app.command("verify")
def verify_file(
    file: Annotated[Path, typer.Argument(help="A schedule: .txt, MSCCL .xml, or .py with build(request).")],
    ranks: Ranks = 4,
    collective: Annotated[
        str | None, typer.Option("-c", "--collective", help="What a .py or a custom .xml implements [all-reduce].")
    ] = None,
    root: Root = 0,
    group: Group = 1,
    json: Jsonl = False,
) -> None:
    """Check that a schedule does what its collective promises; exit 2 and show where if not."""
    from commbench.collectives.algorithm import Request
    from commbench.collectives.algorithms.load import load_any, load_file
    from commbench.collectives.registry import build
    from commbench.collectives.summary import EXAMPLE

    if file.suffix == ".py":
        algorithm = load_any(collective or "all-reduce", f"./{file}" if not file.is_absolute() else str(file))
        request = Request(num_ranks=ranks, root=root, group=group, num_elements=EXAMPLE.num_elements)
        schedule = build(algorithm, request)
    else:
        schedule = load_file(file, collective)
    if json:
        typer.echo(json_line("verified", file=str(file), **_json_headline(schedule)))
        return
    typer.echo(
        f"{file}: right: {schedule.collective}/{schedule.algorithm}, {schedule.num_ranks} ranks, "
        f"{schedule.num_steps} steps, {len(schedule)} operations"
    )


def _collective_of(name: str, collective: str | None) -> str:
    """The collective asked for, or the first that has the algorithm; all-reduce for a file.

    Raises:
        InputError: no collective has an algorithm of this name.
    """
    from commbench.collectives.algorithms.load import is_path
    from commbench.collectives.registry import ALGORITHMS
    from commbench.collectives.spec import COLLECTIVES, get_collective

    if collective is not None:
        return get_collective(collective).name
    if is_path(name):
        return "all-reduce"
    for each in COLLECTIVES:
        if (each, name) in ALGORITHMS:
            return each
    near = did_you_mean(name, sorted({known for _, known in ALGORITHMS}), 3).rstrip()
    raise InputError(f"algorithm {name!r} is unknown; {near or '`commbench algorithm list` shows the names'}")


def _json_facts(row: "Facts") -> dict[str, object]:
    a = row.algorithm
    return {
        "collective": a.collective,
        "algorithm": a.name,
        "aliases": a.aliases,
        "worlds": a.worlds,
        "default_slices": a.default_slices,
        "sized": a.sized,
        "live": a.live,
        "steps_on_8": row.steps,
        "sent_share_on_8": row.sent_share,
        "source": a.source,
    }


def _json_headline(schedule: "Schedule") -> dict[str, object]:
    from commbench.collectives.text import digest

    return {
        "collective": schedule.collective,
        "algorithm": schedule.algorithm,
        "ranks": schedule.num_ranks,
        "steps": schedule.num_steps,
        "num_operations": len(schedule),
        "digest": digest(schedule),
    }


def _json_schedule(schedule: "Schedule") -> dict[str, object]:
    """The whole of it; an operation is a list of the values that ``columns`` names."""
    from commbench.collectives.schedule import COLUMNS, Kind

    kind = COLUMNS.index("kind")
    rows = [[*row[:kind], Kind(row[kind]).name.lower(), *row[kind + 1 :]] for row in schedule.table.tolist()]
    return {
        **_json_headline(schedule),
        "chunks": schedule.num_chunks,
        "weights": schedule.weights,
        "window": schedule.window,
        "root": schedule.root,
        "buffers": schedule.num_buffers,
        "output": schedule.output,
        "switches": schedule.num_switches,
        "columns": COLUMNS,
        "operations": rows,
    }
