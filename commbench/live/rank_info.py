# SPDX-License-Identifier: Apache-2.0
"""Which rank this process is, from the variables that launchers set; no torch here.

Several launchers may have left variables: mpirun's daemons are Slurm tasks, torchrun is often started by srun, and
wrappers set ``RANK`` themselves. The innermost one that is consistent counts:

1. torchrun (``TORCHELASTIC_RUN_ID``) is believed whatever is around it.
2. ``RANK`` and ``WORLD_SIZE`` set by anything else are believed where no launcher is, where one launcher (Open MPI,
   MVAPICH, MPICH and its relatives, Slurm, an indexed Job) gave this process that very rank, or where each task of one
   holds an equal block of the ranks, as when a wrapper starts one rank per GPU. Else they contradict, and are refused.
   One of the two alone must be what a launcher says.
3. Without them the MPI libraries come before Slurm, as their processes may be Slurm's tasks; srun itself sets MPICH's
   variables too (``--mpi=pmi2``).

The rank among those of the machine comes from ``LOCAL_RANK``, from the launcher that gave the rank, or from another one
that gave the same rank. Where nobody tells, ranks count those of their machine once they have met.

With none of them the process is no rank, and commbench starts the ranks itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commbench.errors import InputError

__all__ = ["RankInfo", "find_rank_info", "first_host"]


@dataclass(frozen=True, slots=True)
class RankInfo:
    """A rank's place in its world.

    Attributes:
        launcher: what started the ranks, and inside what other one; "env://": something that set RANK and
            WORLD_SIZE.
        rank, world_size: as in torch.distributed.
        local_rank: rank among those of this machine, None where nobody tells.
        local_size: ranks of this machine, None where the launcher does not tell.
        said: the variables that this was read from, for people; "" where commbench started the ranks.
        store: file through which the ranks meet; None: MASTER_ADDR and MASTER_PORT.
        rendezvous: variables to set before meeting, where the launcher did not set them.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int | None
    store: Path | None = None
    rendezvous: tuple[tuple[str, str], ...] = ()
    local_size: int | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class _Launcher:
    """Names of the variables that a launcher sets in each of its processes; of the last two the first that is set."""

    name: str
    rank: str
    size: str
    local: tuple[str, ...]
    local_size: tuple[str, ...]


_EXPLICIT = _Launcher("env://", "RANK", "WORLD_SIZE", ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",))
_LAUNCHERS = (  # the inner ones first
    _Launcher(
        "openmpi",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        ("OMPI_COMM_WORLD_LOCAL_RANK",),
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    _Launcher(
        "mvapich",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        ("MV2_COMM_WORLD_LOCAL_RANK",),
        ("MV2_COMM_WORLD_LOCAL_SIZE",),
    ),
    # Hydra (MPICH, Intel MPI, newer MVAPICH) and Cray's PALS; each has its own words for what is local
    _Launcher("mpich", "PMI_RANK", "PMI_SIZE", ("MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID"),
              ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")),
    # STEP: inside an sbatch script SLURM_PROCID and SLURM_NTASKS are set too, and that shell is no rank
    _Launcher("slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_LOCALID",), ("SLURM_STEP_TASKS_PER_NODE",)),
    # an indexed Job of Kubernetes; it does not tell how many pods there are
    _Launcher("kubernetes", "JOB_COMPLETION_INDEX", "WORLD_SIZE", (), ()),
)  # fmt: skip

_SLURM_STEP = ("SLURM_JOB_ID", "SLURM_STEP_ID")
_LAST_PORT = 65535
_MOST_RANKS = 2**20


def find_rank_info(variables: Mapping[str, str], num_ranks: int | None = None) -> RankInfo | None:
    """What a launcher says of this process; None if no launcher does.

    Args:
        variables: the environment.
        num_ranks: world size that the user asked for, if any.

    Raises:
        InputError: variables that are incomplete, out of range or contradict each other or ``num_ranks``.
    """
    _require_pod(variables, num_ranks)
    around = _infos_around(variables)
    half = [name for name in (_EXPLICIT.rank, _EXPLICIT.size) if variables.get(name)]
    if len(half) == 1 and around:
        info = _info_that_says(half[0], _number(variables, half[0]), around)
    elif half:
        info = _explicit_info(variables, around)
    elif around:
        info = around[0]
    else:
        return None
    if num_ranks is not None and num_ranks != info.world_size:
        raise InputError(
            f"--nproc {num_ranks}, but there are {info.world_size} ranks, started by {info.launcher}; leave --nproc out"
        )
    info = _with_local(info, around)
    outer = [other.launcher for other in around if other.launcher != info.launcher]
    named = f"{info.launcher} inside {outer[-1]}" if outer else info.launcher
    return replace(info, launcher=named, rendezvous=_rendezvous(info, around, variables))


def _require_pod(variables: Mapping[str, str], num_ranks: int | None) -> None:
    """Refuse a pod that cannot know how many there are, unless it is to be a machine by itself."""
    index = variables.get("JOB_COMPLETION_INDEX")
    if index and num_ranks is None and not variables.get(_EXPLICIT.size) and not _infos_around(variables):
        raise InputError(
            f"JOB_COMPLETION_INDEX={index} says that this is a pod of an indexed Job, which does not tell how many "
            "there are; set WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or give --nproc for ranks of this pod alone"
        )


def _with_local(info: RankInfo, around: Sequence[RankInfo]) -> RankInfo:
    """With the local rank and size of another launcher that gave the same rank, where they are not told."""
    for other in around:
        if (other.rank, other.world_size) != (info.rank, info.world_size):
            continue
        if info.local_rank is None and other.local_rank is not None:
            info = replace(info, local_rank=other.local_rank, said=f"{info.said}; {other.said}")
        info = replace(info, local_size=info.local_size or other.local_size)
    if info.local_size is not None and info.local_rank is not None and info.local_rank >= info.local_size:
        raise InputError(
            f"local rank {info.local_rank} of {info.local_size} on this machine ({info.said}) cannot be; set "
            "LOCAL_RANK and LOCAL_WORLD_SIZE, or unset what contradicts"
        )
    return info


def _infos_around(variables: Mapping[str, str]) -> list[RankInfo]:
    """What launchers say, the inner ones first."""
    infos = [info for launcher in _LAUNCHERS if (info := _info_of(launcher, variables)) is not None]
    ranks = {info.launcher: (info.rank, info.world_size) for info in infos}
    return [s for s in infos if s.launcher != "mpich" or ranks["mpich"] != ranks.get("slurm")]


def _explicit_info(variables: Mapping[str, str], around: Sequence[RankInfo]) -> RankInfo:
    """What RANK and WORLD_SIZE say, named after the launcher that gave it."""
    info = _info_of(_EXPLICIT, variables)
    assert info is not None
    if "TORCHELASTIC_RUN_ID" in variables:
        return replace(info, launcher="torchrun")
    for other in around:
        if (other.rank, other.world_size) == (info.rank, info.world_size):
            return replace(info, launcher=other.launcher)
    if around and not any(_holds(other, info) for other in around):
        other = around[0]
        raise InputError(
            f"RANK={info.rank}, WORLD_SIZE={info.world_size} contradict {other.launcher}'s rank "
            f"{other.rank} of {other.world_size}; unset RANK and WORLD_SIZE, or change the launch"
        )
    return info


def _holds(task: RankInfo, info: RankInfo) -> bool:
    """Whether each task of a launcher holds an equal block of ranks, and this one that of the rank."""
    block, rest = divmod(info.world_size, task.world_size)
    return block > 1 and not rest and info.rank // block == task.rank and info.local_size in (None, block)


def _info_that_says(name: str, value: int, around: Sequence[RankInfo]) -> RankInfo:
    """What is said by the innermost launcher that gave this rank, or this size."""
    said = [info.rank if name == _EXPLICIT.rank else info.world_size for info in around]
    if value not in said:
        info = around[0]
        raise InputError(
            f"{name}={value} contradicts {info.launcher}'s rank {info.rank} of {info.world_size}; unset {name}, or set "
            f"both {_EXPLICIT.rank} and {_EXPLICIT.size}"
        )
    return around[said.index(value)]


def _info_of(launcher: _Launcher, variables: Mapping[str, str]) -> RankInfo | None:
    present = [name for name in (launcher.rank, launcher.size) if variables.get(name)]
    if launcher.name == "slurm" and (len(present) < 2 or variables[launcher.size] == "1"):
        return None  # a batch script, or an interactive shell under srun
    if launcher.name == "kubernetes" and (len(present) < 2 or variables.get(_EXPLICIT.rank)):
        return None  # ranks of this pod alone, or numbered by somebody else
    if not present:
        return None
    if len(present) == 1:
        absent = launcher.size if present[0] == launcher.rank else launcher.rank
        raise InputError(f"{present[0]} is set, {absent} is not; {launcher.name} needs both: set both or none")
    rank, size = (_number(variables, name) for name in (launcher.rank, launcher.size))
    if size > _MOST_RANKS:
        raise InputError(f"{launcher.size}={size} must be at most {_MOST_RANKS}")
    if not rank < size:
        raise InputError(f"{launcher.rank}={rank} must be below {launcher.size}={size}")
    local = next((name for name in launcher.local if variables.get(name)), None)
    number = None if local is None else _number(variables, local)
    sizes = (_local_size(variables.get(name, "")) for name in launcher.local_size)
    said = f"{launcher.rank}={rank}, {launcher.size}={size}" + (f", {local}={number}" if local else "")
    return RankInfo(launcher.name, rank, size, number, local_size=next(filter(None, sizes), None), said=said)


def _local_size(text: str) -> int | None:
    """Ranks per host as a launcher says it: "8", or Slurm's "8(x2)"; None if hosts differ or nothing is said."""
    match = re.fullmatch(r"(\d{1,9})(?:\(x\d+\))?", text)
    return int(match[1]) if match else None


def _number(variables: Mapping[str, str], name: str) -> int:
    text = variables[name]
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise InputError(f"{name}={text!r} must be a whole number, zero or more")
    return int(text)


def _rendezvous(
    info: RankInfo, around: Sequence[RankInfo], variables: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """MASTER_ADDR and MASTER_PORT where they are left open and can be known.

    Slurm's first host has rank 0 where Slurm gave the ranks, be it by way of another launcher's variables.
    """
    known = {}
    if any((o.launcher, o.rank, o.world_size) == ("slurm", info.rank, info.world_size) for o in around):
        hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
        job, step = (_number({name: "0", **variables}, name) for name in _SLURM_STEP)
        known = {"MASTER_ADDR": first_host(hosts), "MASTER_PORT": str(20000 + (7 * job + step) % 20000)}
    elif info.launcher == "openmpi" and info.local_size == info.world_size:
        known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    given = {name: variables[name] for name in ("MASTER_ADDR", "MASTER_PORT") if variables.get(name)}
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not (known | given).get(name):
            raise InputError(f"{name} is not set and {info.launcher} does not tell it; set it to where rank 0 runs")
    port = given.get("MASTER_PORT", "1")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= _LAST_PORT:
        raise InputError(f"MASTER_PORT={port!r} must be a port of rank 0's host, a whole number in 1..{_LAST_PORT}")
    return tuple((name, value) for name, value in known.items() if name not in given)


def first_host(node_list: str) -> str:
    """The first host of a Slurm node list such as "gpu[003-007,9],login1" or "rack[1-2]node[3-4]"."""
    match = re.match(r"(?:[^\[,]|\[[^\]]*\])*", node_list)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", match[0] if match else "")
