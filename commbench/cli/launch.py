# SPDX-License-Identifier: Apache-2.0
"""``commbench launch``: what starts a run on a cluster, written for its launcher."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, require_collective, writable
from commbench.errors import InputError
from commbench.terminal import tell

__all__ = ["COMMAND", "launch"]

COMMAND = {"context_settings": {"allow_interspersed_args": False}}  # what follows `run` is the run's


def launch(
    words: Annotated[list[str], typer.Argument(metavar="run ...", help="The run, as one would type it.")],
    slurm: Annotated[bool, typer.Option("--slurm", help="A script for sbatch.")] = False,
    torchrun: Annotated[bool, typer.Option("--torchrun", help="A script to start on every node.")] = False,
    mpi: Annotated[bool, typer.Option("--mpi", help="A script with Open MPI's mpirun.")] = False,
    hydra: Annotated[bool, typer.Option("--hydra", help="The same for MPICH, Intel MPI, MVAPICH.")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="An indexed Job, a pod for each node.")] = False,
    mpijob: Annotated[bool, typer.Option("--mpijob", help="An MPIJob of Kubernetes' MPI operator.")] = False,
    nodes: Annotated[int, typer.Option("--nodes", "-N", help="Nodes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of a node; 0: ranks on CPUs.")] = 8,
    ranks_per_node: Annotated[int | None, typer.Option(help="Ranks of a node [one for each GPU].")] = None,
    folder: Annotated[str, typer.Option(help="For results, on storage that all nodes share [runs].")] = "",
    export: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for every rank: NCCL_DEBUG=INFO.")] = None,
    setup: Annotated[list[str] | None, typer.Option(help="A line of shell before it, such as an activation.")] = None,
    hosts: Annotated[str, typer.Option(help="The nodes, rank 0's first: node1,node2.")] = "",
    port: Annotated[int, typer.Option(help="Of rank 0's node, where ranks meet.")] = 29500,
    partition: Annotated[str, typer.Option(help="Slurm's.")] = "",
    account: Annotated[str, typer.Option(help="Slurm's.")] = "",
    time: Annotated[str, typer.Option(help="Slurm's limit: 10 (minutes), 1:00:00.")] = "",
    image: Annotated[str, typer.Option(help="Container image that has commbench and torch.")] = "",
    claim: Annotated[str, typer.Option(help="Kubernetes' persistent volume claim for --folder.")] = "",
    name: Annotated[str, typer.Option(help="Of the job.")] = "commbench",
    out: Annotated[Path | None, typer.Option("--out", callback=writable, help="The file to write [stdout].")] = None,
    json: Jsonl = False,
) -> None:
    """Write what starts `commbench run ...` on a cluster: for Slurm, torchrun, MPI or Kubernetes."""
    from commbench.launch.asked import LaunchAsked, default_ranks, exports_of, hosts_of
    from commbench.launch.recipes import RECIPES, write_recipe
    from commbench.results.outfile import write_whole

    flags = (slurm, torchrun, mpi, hydra, kubernetes, mpijob)  # in the order of RECIPES
    launcher = _the_one([name for name, given in zip(RECIPES, flags, strict=True) if given], tuple(RECIPES))
    asked = LaunchAsked(
        words=tuple(words),
        has_out=_names_out(words),
        nodes=nodes,
        gpus=gpus_per_node,
        ranks=default_ranks(gpus_per_node, ranks_per_node),
        name=name,
        folder=folder,
        exports=exports_of(tuple(export or ())),
        setup=tuple(setup or ()),
        hosts=hosts_of(hosts),
        port=port,
        partition=partition,
        account=account,
        time=time,
        image=image,
        claim=claim,
    )
    text = write_recipe(launcher, asked, f"{asked.world_size} ranks of {shlex.join(['commbench', *words])}")
    start = RECIPES[launcher].start.format(file=out or "FILE") + RECIPES[launcher].where
    if json:
        typer.echo(json_line("recipe", launcher=launcher, ranks=asked.world_size, start=start, text=text))
    elif out is None:
        typer.echo(text, nl=False)
    if out is not None:
        write_whole(out, text)
        tell(f"wrote {out}; start it with `{start}`")


def _the_one(given: Sequence[str], known: Sequence[str]) -> str:
    if len(given) != 1:
        told = " and ".join(f"--{name}" for name in given) or "no launcher"
        raise InputError(f"{told} is given; give one of {', '.join(f'--{name}' for name in known)}")
    return given[0]


def _names_out(words: Sequence[str]) -> bool:
    """Whether the run names its results file; found by reading the run's own options, before it waits in a queue.

    Raises:
        InputError: it is no run, or is to start ranks itself.
        TyperException: an option that ``run`` does not have.
    """
    from commbench.cli import run as verb
    from commbench.experiments.collective import EVERY

    if words[0] != "run" or len(words) < 2:
        raise InputError(f"{shlex.join(words)!r} is no run; give the command last: run all-reduce -b 8 -e 8G -f 2")
    what, rest = words[1], list(words[2:])
    if what not in verb.OTHERS and what != EVERY:
        require_collective(what, ", ".join((EVERY, *verb.OTHERS)))
    given = _options(verb.OTHERS.get(what), rest)
    if given.get("nproc") is not None:
        raise InputError(f"--nproc {given['nproc']}: the launcher starts the ranks; give --nodes and --ranks-per-node")
    return given.get("out") is not None


def _options(module: str | None, words: list[str]) -> dict[str, Any]:
    """What is given of a run's options, by name, without acting on any of them."""
    from importlib import import_module

    from commbench.cli.first_word import command_app
    from commbench.cli.run import run

    if module is None:
        application = command_app()
        application.command("run")(run)
        words = ["all-reduce", *words]
    else:
        application = import_module(f"commbench.cli.{module}").app
    command: Any = typer.main.get_command(application)
    context = command.make_context("commbench run", [], resilient_parsing=True)
    context.resilient_parsing = False
    parser = command.make_parser(context)
    given, left, _ = parser.parse_args(args=words)
    if left:
        raise InputError(f"{shlex.join(left)!r} means nothing to the run")
    return dict(given)
