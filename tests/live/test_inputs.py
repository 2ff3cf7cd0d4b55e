# SPDX-License-Identifier: Apache-2.0
"""What a run is given: sizes, the plan, and the rank that a launcher gave; no rank is started here."""

import subprocess
import sys
from pathlib import Path

import pytest

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import InputError
from commbench.live.plan import Plan, default_out
from commbench.live.seat import find_seat, first_host

TWO = Schedule.from_ops("all-reduce", "one-way", 2, 1, [Op(0, 0, 0, Kind.SEND, 1, 0), Op(0, 1, 0, Kind.REDUCE, 0, 0)])


def plan(**changes: object) -> Plan:
    given = {
        "collective": "all-reduce",
        "ranks": 2,
        "sizes_bytes": (8, 16),
        "out": Path("r.jsonl"),
        "run": "r",
    }
    return Plan(**(given | changes))  # type: ignore[arg-type]


def test_a_plan_survives_the_way_to_a_rank() -> None:
    assert Plan.from_json(plan(schedule=TWO, slices=3, dtype="int64").to_json()) == plan(
        schedule=TWO, slices=3, dtype="int64"
    )
    assert Plan.from_json(plan().to_json()) == plan()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": 0}, "--nproc 0 must be at least 1"),
        ({"iters": 0}, "--iters 0 must be at least 1"),
        ({"warmup": -1}, "--warmup -1 must be at least 0"),
        ({"timeout_s": 0.0}, "--timeout 0 must be above 0"),
        ({"timeout_s": float("nan")}, "--timeout nan must be above 0"),
        ({"dtype": "float8"}, "--dtype 'float8' is unknown; known: float16"),
        ({"op": "max"}, "--op 'max' is unknown; known: sum"),
        ({"backend": "mpi"}, "--backend 'mpi' is unknown"),
        ({"timing": "best"}, "--timing 'best' is unknown"),
        ({"collective": "all-to-nobody"}, "collective 'all-to-nobody' is unknown"),
        ({"sizes_bytes": (6,)}, "size 6 bytes is not one or more whole elements"),
        ({"ranks": 3, "schedule": TWO}, "schedule 'one-way' is for 2 ranks, the run has 3"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(**changes)


def test_the_default_journal_names_time_collective_and_algorithm() -> None:
    assert default_out("all-reduce", "my/ring").name.endswith("Z-all-reduce-my_ring.jsonl")


MASTER = {"MASTER_ADDR": "h", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, ("torchrun", 1, 4, 1)),
        (
            {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            ("openmpi", 3, 4, 1),
        ),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, ("mpich", 0, 2, 0)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, ("slurm", 5, 8, 1)),
        # an sbatch script, and an interactive shell under srun: no ranks
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        # torchrun once per node under srun: the inner launcher counts
        (
            {
                "RANK": "5",
                "WORLD_SIZE": "8",
                "LOCAL_RANK": "1",
                "TORCHELASTIC_RUN_ID": "x",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            ("torchrun", 5, 8, 1),
        ),
    ],
)
def test_the_seat_that_a_launcher_gave(variables: dict[str, str], expected: tuple[object, ...] | None) -> None:
    seat = find_seat(variables | MASTER)
    assert (seat and (seat.launcher, seat.rank, seat.world_size, seat.local_rank)) == expected


@pytest.mark.parametrize(
    ("variables", "num_ranks", "message"),
    [
        ({"RANK": "0"}, None, "RANK is set, WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, None, "WORLD_SIZE is set, RANK is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, None, "RANK=2 must be below WORLD_SIZE=2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, None, "RANK='one' must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 4, "--nproc 4, but torchrun started 2 ranks"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
            None,
            "RANK=0, WORLD_SIZE=2 contradict openmpi's rank 1 of 2",
        ),
    ],
)
def test_variables_that_contradict_are_one_line(variables: dict[str, str], num_ranks: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_seat(variables | MASTER, num_ranks)
    assert "\n" not in str(caught.value)


def test_slurm_ranks_find_each_other_without_master_variables() -> None:
    step = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0"}
    seat = find_seat(step | {"SLURM_STEP_NODELIST": "gpu[003-004]"})
    other = find_seat(step | {"SLURM_STEP_NODELIST": "gpu[003-004]", "SLURM_PROCID": "0"})
    assert seat is not None
    assert other is not None
    assert dict(seat.rendezvous)["MASTER_ADDR"] == "gpu003"
    assert seat.rendezvous == other.rendezvous


def test_a_missing_master_is_named() -> None:
    with pytest.raises(InputError, match="MASTER_ADDR is not set and torchrun does not tell it"):
        find_seat({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("node_list", "host"),
    [("gpu[003-007,9],login1", "gpu003"), ("a,b", "a"), ("n1-[1-2].site", "n1-1.site"), ("solo", "solo")],
)
def test_first_host_of_a_slurm_list(node_list: str, host: str) -> None:
    assert first_host(node_list) == host


def test_the_supervisor_does_not_load_torch() -> None:
    code = (
        "import sys, commbench.live.launch, commbench.live.measure, commbench.live.console, commbench.cli.run; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
