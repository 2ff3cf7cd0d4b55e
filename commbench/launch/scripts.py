# SPDX-License-Identifier: Apache-2.0
"""Shell scripts: for sbatch, for torchrun, for the mpirun of Open MPI and that of Hydra (MPICH, Intel MPI, MVAPICH)."""

from collections.abc import Sequence
from shlex import join, quote

from commbench.errors import InputError
from commbench.launch.asked import LaunchAsked

__all__ = ["NOW", "hydra", "openmpi", "program", "slurm", "torchrun", "torchrun_words"]

NOW = "$(date +%Y%m%dT%H%M%S)"


def slurm(asked: LaunchAsked) -> str:
    """For sbatch. Ranks learn from Slurm who they are, and where rank 0 is.

    Tasks see all GPUs of their node, of which each takes that of its local rank: with ``--gpus-per-task`` each sees one
    alone, and NCCL of some versions then finds no way between them but through the host. They may use all cores, as
    Slurm would give each task one, and NCCL binds its threads itself.
    """
    settings = {
        "job-name": asked.name,
        "nodes": asked.nodes,
        "ntasks-per-node": asked.ranks,
        "gpus-per-node": asked.gpus or "",
        "partition": asked.partition,
        "account": asked.account,
        "time": asked.time,
        "output": "%x-%j.log",  # where it is submitted: Slurm makes no folder, and would lose the log
    }
    told = [f"#SBATCH --{name}={value}" for name, value in settings.items() if value != ""]
    step = ["srun", "--cpu-bind=none"]
    if asked.image:
        step += [f"--container-image={asked.image}", f"--container-mounts={asked.folder}:{asked.folder}"]
    head = [*told, "#SBATCH --exclusive", "", *_beginning(asked)]
    return _script([*head, f"{join(step)} {program(asked, '$SLURM_JOB_ID')}"])


def torchrun(asked: LaunchAsked) -> str:
    """To be started on every node; torchrun makes the ranks, and they meet at the first node.

    Raises:
        InputError: there are several nodes, and the first one's name is not known.
    """
    return _script([*_beginning(asked), f"exec {torchrun_words(asked)} -m {program(asked, NOW)}"])


def torchrun_words(asked: LaunchAsked, first: str = "", node: str = "") -> str:
    """``torchrun`` and its options.

    Args:
        first: the first node, where that is another than the first of the hosts. node: this node's number, in shell.
    """
    first = first or _first(asked, "torchrun")
    words = ["torchrun", "--nnodes", str(asked.nodes), "--nproc-per-node", str(asked.ranks), "--max-restarts", "0"]
    if node:
        return f"{join(words)} --node-rank {node} --master-addr {first} --master-port {asked.port}"
    meeting = f"{first}:{asked.port}" if asked.nodes > 1 else "localhost:0"
    return join([*words, "--rdzv-backend", "c10d", "--rdzv-id", asked.name, "--rdzv-endpoint", meeting])


def openmpi(asked: LaunchAsked) -> str:
    """For Open MPI's mpirun; errors as of :func:`torchrun`."""
    words = ["mpirun", "-np", str(asked.world_size), "--map-by", f"ppr:{asked.ranks}:node", "--bind-to", "none"]
    if asked.hosts:
        words += ["--host", ",".join(f"{host}:{asked.ranks}" for host in asked.hosts)]
    for name, value in _meeting(asked, "mpirun"):
        words += ["-x", f"{name}={value}"]
    for name in ("PATH", *dict(asked.exports)):
        words += ["-x", name]
    return _script([*_beginning(asked), f"exec {join(words)} {program(asked, NOW)}"])


def hydra(asked: LaunchAsked) -> str:
    """For the mpirun of MPICH, Intel MPI and newer MVAPICH; errors as of :func:`torchrun`."""
    words = ["mpirun", "-n", str(asked.world_size), "-ppn", str(asked.ranks)]
    if asked.hosts:
        words += ["-hosts", ",".join(asked.hosts)]
    for name, value in (*_meeting(asked, "mpirun"), *asked.exports):
        words += ["-genv", name, value]
    return _script([*_beginning(asked), f"exec {join(words)} {program(asked, NOW)}"])


def program(asked: LaunchAsked, when: str) -> str:
    """The run itself, in shell.

    Args:
        when: what tells the run's results file from those of other runs, in shell.
    """
    out = "" if asked.has_out else f' --out {quote(asked.folder or "runs")}/{asked.name}-"{when}".jsonl'
    return f"commbench {join(asked.words)}{out}"


def _meeting(asked: LaunchAsked, launcher: str) -> list[tuple[str, str]]:
    return [("MASTER_ADDR", _first(asked, launcher)), ("MASTER_PORT", str(asked.port))]


def _first(asked: LaunchAsked, launcher: str) -> str:
    if asked.hosts:
        return asked.hosts[0]
    if asked.nodes > 1:
        raise InputError(f"--nodes {asked.nodes}: {launcher} is not told where rank 0 is; give --hosts node1,node2,...")
    return "localhost"


def _beginning(asked: LaunchAsked) -> list[str]:
    """What comes before the ranks."""
    lines = [*asked.setup, *(f"export {name}={quote(value)}" for name, value in asked.exports)]
    return lines if asked.has_out else [*lines, f"mkdir -p {quote(asked.folder or 'runs')}"]


def _script(lines: Sequence[str]) -> str:
    """A shell script; lines for sbatch must stand before all commands."""
    told = [line for line in lines if line.startswith("#SBATCH")]
    rest = [line for line in lines if not line.startswith("#SBATCH") and line]
    return "\n".join(["#!/bin/bash", *told, "set -euo pipefail", *rest, ""])
