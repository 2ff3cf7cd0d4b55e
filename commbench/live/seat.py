# SPDX-License-Identifier: Apache-2.0
"""Which rank this process is, from the variables that launchers set; no torch here.

torchrun (or anything that sets ``RANK`` and ``WORLD_SIZE``) is believed first, then Open MPI, then MPICH and
its relatives, then Slurm: a launcher started inside another one overrides it. With none of them the process
is no rank, and commbench starts the ranks itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from commbench.errors import InputError

__all__ = ["Seat", "find_seat", "first_host"]


@dataclass(frozen=True, slots=True)
class Seat:
    """A rank's place in its world.

    Attributes:
        launcher: what started the ranks.
        rank, world_size: as in torch.distributed. local_rank: rank among those of this machine.
        local_size: ranks of this machine, None where the launcher does not tell.
        store: file through which the ranks meet; None: MASTER_ADDR and MASTER_PORT.
        rendezvous: variables to set before meeting, where the launcher did not set them.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    store: Path | None = None
    rendezvous: tuple[tuple[str, str], ...] = ()
    local_size: int | None = None


@dataclass(frozen=True, slots=True)
class _Launcher:
    """Names of the variables that a launcher sets in each of its processes."""

    name: str
    rank: str
    size: str
    local: str
    local_size: str


_LAUNCHERS = (
    _Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    _Launcher(
        "openmpi",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    _Launcher("mpich", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    # STEP: inside an sbatch script SLURM_PROCID and SLURM_NTASKS are set too, and that shell is no rank
    _Launcher("slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
)


def find_seat(variables: Mapping[str, str], num_ranks: int | None = None) -> Seat | None:
    """The seat that a launcher gave this process; None if no launcher did.

    Args:
        variables: the environment.
        num_ranks: world size that the user asked for, if any.

    Raises:
        InputError: variables that are incomplete, out of range or contradict each other or ``num_ranks``.
    """
    seats = [seat for launcher in _LAUNCHERS if (seat := _seat_of(launcher, variables)) is not None]
    if not seats:
        return None
    seat = seats[0]
    if seat.launcher == "torchrun" and "TORCHELASTIC_RUN_ID" not in variables:
        _require_agreement(seats)
    if num_ranks is not None and num_ranks != seat.world_size:
        raise InputError(f"--nproc {num_ranks}, but {seat.launcher} started {seat.world_size} ranks; leave --nproc out")
    return replace(seat, rendezvous=_rendezvous(seat, variables))


def _seat_of(launcher: _Launcher, variables: Mapping[str, str]) -> Seat | None:
    present = [name for name in (launcher.rank, launcher.size) if name in variables]
    if launcher.name == "slurm" and (len(present) < 2 or variables[launcher.size] == "1"):
        return None  # a batch script, or an interactive shell under srun
    if not present:
        return None
    if len(present) == 1:
        absent = launcher.size if present[0] == launcher.rank else launcher.rank
        raise InputError(f"{present[0]} is set, {absent} is not; {launcher.name} sets both: set both or none")
    rank, size = (_number(variables, name) for name in (launcher.rank, launcher.size))
    if not rank < size:
        raise InputError(f"{launcher.rank}={rank} must be below {launcher.size}={size}")
    local = _number(variables, launcher.local) if launcher.local in variables else rank
    return Seat(launcher.name, rank, size, local, local_size=_local_size(variables.get(launcher.local_size, "")))


def _local_size(text: str) -> int | None:
    """Ranks per host as a launcher says it: "8", or Slurm's "8(x2)"; None if hosts differ or nothing is said."""
    match = re.fullmatch(r"(\d+)(?:\(x\d+\))?", text)
    return int(match[1]) if match else None


def _number(variables: Mapping[str, str], name: str) -> int:
    text = variables[name]
    if not re.fullmatch(r"\d+", text):
        raise InputError(f"{name}={text!r} must be a whole number, zero or more")
    return int(text)


def _require_agreement(seats: list[Seat]) -> None:
    """RANK set by hand must be the rank that the launcher around it gave."""
    mine, *others = seats
    for other in others:
        if (other.rank, other.world_size) != (mine.rank, mine.world_size):
            raise InputError(
                f"RANK={mine.rank}, WORLD_SIZE={mine.world_size} contradict {other.launcher}'s rank "
                f"{other.rank} of {other.world_size}; unset RANK and WORLD_SIZE, or change the launch"
            )


def _rendezvous(seat: Seat, variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """MASTER_ADDR and MASTER_PORT where the launcher leaves them open and they can be known."""
    if "MASTER_ADDR" in variables and "MASTER_PORT" in variables:
        return ()
    if seat.launcher == "slurm":
        hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
        job = int(variables.get("SLURM_JOB_ID", "0")) * 7 + int(variables.get("SLURM_STEP_ID", "0"))
        known = {"MASTER_ADDR": first_host(hosts), "MASTER_PORT": str(20000 + job % 20000)}
    elif seat.launcher == "openmpi" and variables.get("OMPI_COMM_WORLD_LOCAL_SIZE") == str(seat.world_size):
        known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    else:
        known = {}
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not variables.get(name) and not known.get(name):
            raise InputError(f"{name} is not set and {seat.launcher} does not tell it; set it to where rank 0 runs")
    return tuple((name, value) for name, value in known.items() if name not in variables)


def first_host(node_list: str) -> str:
    """The first host of a Slurm node list such as "gpu[003-007,9],login1"."""
    match = re.match(r"([^\[,]*)(?:\[(\d+)[^\]]*\])?([^,\[]*)", node_list)
    return "".join(part or "" for part in match.groups()) if match else ""
