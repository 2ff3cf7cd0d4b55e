# SPDX-License-Identifier: Apache-2.0
"""What a run is given: sizes, the plan, and the rank that a launcher gave; no rank is started here."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.live.kinds import job_of
from commbench.live.plan import Plan, default_out, rounded_sizes
from commbench.live.rank_info import find_rank_info, first_host
from commbench.results.run_id import new_run_id

STAR = Schedule.from_ops("all-reduce", "star", 2, 1, [], num_switches=3)
ROOT_1 = Schedule.from_ops("broadcast", "b", 2, 1, [Op(0, 1, 0, Kind.SEND, 0, 0), Op(0, 0, 0, Kind.RECV, 1, 0)], root=1)
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
    by_size = plan(schedule=(TWO, replace(TWO, window=2)))
    assert Plan.from_json(by_size.to_json()) == by_size
    rooted = plan(collective="broadcast", schedule=ROOT_1, root=1)
    assert Plan.from_json(rooted.to_json()) == rooted
    assert job_of(by_size.to_json()) == by_size  # as a rank reads it, which knows no kind before


def test_each_size_has_its_schedule() -> None:
    other = replace(TWO, window=2)
    by_size = plan(schedule=(TWO, other))
    assert [by_size.schedule_for(size) for size in (8, 16)] == [TWO, other]
    assert [plan(schedule=TWO).schedule_for(size) for size in (8, 16)] == [TWO, TWO]
    assert plan().schedule_for(8) is None


def test_results_stand_in_place_out_of_place_or_both() -> None:
    """Out of place comes first, as in nccl-tests. torch has some collectives in one way only; a schedule has both."""
    ways = {
        (collective, place): plan(collective=collective, place=place).in_places
        for collective, places in (("all-reduce", ("", "in", "both")), ("all-gather", ("", "in", "out", "both")))
        for place in places
    }
    assert ways["all-reduce", ""] == ways["all-reduce", "in"] == ways["all-reduce", "both"] == (True,)
    assert ways["all-gather", ""] == ways["all-gather", "in"] == (True,)
    assert (ways["all-gather", "out"], ways["all-gather", "both"]) == ((False,), (False, True))
    both = plan(schedule=TWO, place="both")
    assert both.in_places == (False, True)
    aside = both.schedule_for(8, in_place=False)
    assert aside is not None
    assert (aside.output, aside.num_buffers) == (1, 2)
    assert both.schedule_for(8, in_place=True) == TWO
    assert Plan.from_json(both.to_json()) == both


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"place": "out"}, "--place out: torch has no all-reduce out of place; give --place both"),
        ({"collective": "all-to-all", "place": "in"}, "--place in: torch has no all-to-all in place"),
        ({"place": "here"}, "--place 'here' is unknown; known: in, out, both"),
    ],
)
def test_a_place_that_there_is_not_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        plan(**changes)


def test_sizes_that_round_to_the_same_are_measured_once() -> None:
    assert rounded_sizes(get_collective("all-gather"), 3, (12, 16, 20, 24, 1024), 4) == (12, 24, 1020)
    assert rounded_sizes(get_collective("broadcast"), 3, (12, 16), 4) == (12, 16)
    with pytest.raises(InputError, match="size 8 B is smaller than one element of 4 B for each of 3 ranks"):
        rounded_sizes(get_collective("all-gather"), 3, (8,), 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": 0}, "--nproc 0 must be at least 1"),
        ({"iters": 0}, "--iters 0 must be at least 1"),
        ({"warmup": -1}, "--warmup -1 must be at least 0"),
        ({"timeout_s": 0.0}, "--timeout 0 must be above 0"),
        ({"timeout_s": float("nan")}, "--timeout nan must be above 0"),
        ({"timeout_s": float("inf")}, "--timeout inf must be above 0 and at most 1000000 seconds"),
        ({"timeout_s": -1.0}, "--timeout -1 must be above 0"),
        ({"join_timeout_s": float("inf")}, "--join-timeout inf must be above 0 and at most 1000000 seconds"),
        ({"join_timeout_s": 0.0}, "--join-timeout 0 must be above 0"),
        ({"iters": 10**9}, "--iters 1000000000 must be at most 1000000"),
        ({"warmup": 10**9}, "--warmup 1000000000 must be at most 1000000"),
        ({"dtype": "float8"}, r"--dtype 'float8' is unknown; did you mean float64\? known: float16"),
        ({"op": "median"}, "--op 'median' is unknown; did you mean min"),
        ({"backend": "mpi"}, "--backend 'mpi' is unknown"),
        ({"timing": "best"}, "--timing 'best' is unknown"),
        ({"collective": "all-to-nobody"}, "collective 'all-to-nobody' is unknown"),
        ({"sizes_bytes": (6,)}, "size 6 bytes is not one or more whole elements"),
        ({"ranks": 3, "schedule": TWO}, "schedule 'one-way' is for 2 ranks, the run has 3"),
        ({"collective": "reduce", "schedule": TWO}, "schedule 'one-way' is of all-reduce, the run of reduce"),
        ({"schedule": (TWO,)}, "1 schedules for 2 sizes: give one for each"),
        ({"schedule": (TWO, STAR)}, "schedule 'star' adds inside 3 switches: it can be simulated, not run"),
        ({"collective": "broadcast", "schedule": ROOT_1}, "schedule 'b' has root 1, the run has root 0"),
        ({"collective": "broadcast", "root": 2}, "--root 2 is outside the ranks 0..1"),
        ({"root": 1}, "--root 1 has no meaning for all-reduce"),
        ({"ranks": 3, "collective": "all-gather"}, "size 8 B is smaller than one element of 4 B for each of 3 ranks"),
        ({"ranks": 3, "collective": "gather", "sizes_bytes": (12, 16)}, "size 16 bytes is not as many elements for"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(**changes)


def test_the_default_journal_names_run_collective_and_algorithm() -> None:
    run = new_run_id()
    assert default_out(run, "all-reduce", "my/ring").name == f"{run}-all-reduce-my_ring.jsonl"


MASTER = {"MASTER_ADDR": "h", "MASTER_PORT": "1"}
TASK = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}
DAEMON = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}
OMPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, ("env://", 1, 4, 1)),
        (
            {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            ("openmpi", 3, 4, 1),
        ),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, ("mpich", 0, 2, None)),  # ranks of a machine count, once they have met
        ({"RANK": "11", "WORLD_SIZE": "16"}, ("env://", 11, 16, None)),
        # Cray's PALS, and MVAPICH before its third version
        ({"PMI_RANK": "9", "PMI_SIZE": "12", "PMI_LOCAL_RANK": "3", "PMI_LOCAL_SIZE": "6"}, ("mpich", 9, 12, 3)),
        ({"PMI_RANK": "9", "PMI_SIZE": "12", "PALS_LOCAL_RANKID": "3"}, ("mpich", 9, 12, 3)),
        (
            {"MV2_COMM_WORLD_RANK": "3", "MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_LOCAL_RANK": "1"},
            ("mvapich", 3, 4, 1),
        ),
        # a pod of an indexed Job, by itself and with what a training operator or a wrapper adds
        ({"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "4"}, ("kubernetes", 3, 4, None)),
        ({"JOB_COMPLETION_INDEX": "1", "WORLD_SIZE": "16", "RANK": "9", "LOCAL_RANK": "1"}, ("env://", 9, 16, 1)),
        # the local rank of whoever gave the same rank: srun --mpi=pmi2 below a wrapper that exports RANK
        (TASK | {"PMI_RANK": "5", "PMI_SIZE": "8", "RANK": "5", "WORLD_SIZE": "8"}, ("slurm", 5, 8, 1)),
        (TASK | {"MV2_COMM_WORLD_RANK": "5", "MV2_COMM_WORLD_SIZE": "8"}, ("mvapich inside slurm", 5, 8, 1)),
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
            ("torchrun inside slurm", 5, 8, 1),
        ),
        # mpirun inside a Slurm allocation starts its daemons with srun; a wrapper may set RANK from its variables
        (DAEMON | OMPI, ("openmpi inside slurm", 2, 4, 0)),
        (DAEMON | OMPI | {"RANK": "2", "WORLD_SIZE": "4"}, ("openmpi inside slurm", 2, 4, 0)),
        (DAEMON | {"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0"}, ("mpich inside slurm", 2, 4, 0)),
        # a wrapper inside srun that takes RANK from Slurm's variables, one or both
        (TASK | {"RANK": "5", "WORLD_SIZE": "8"}, ("slurm", 5, 8, 1)),
        (TASK | {"WORLD_SIZE": "8"}, ("slurm", 5, 8, 1)),
        (TASK | {"RANK": "5"}, ("slurm", 5, 8, 1)),
        (TASK | {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "3"}, ("slurm", 5, 8, 3)),
        # srun --mpi=pmi2 sets MPICH's variables too, but not the local rank
        (TASK | {"PMI_RANK": "5", "PMI_SIZE": "8"}, ("slurm", 5, 8, 1)),
        # a launcher that is not torchrun, once per host under srun
        (DAEMON | {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, ("env:// inside slurm", 5, 8, 1)),
        (OMPI | {"RANK": "21", "WORLD_SIZE": "32", "LOCAL_RANK": "5"}, ("env:// inside openmpi", 21, 32, 5)),
        ({"RANK": "", "WORLD_SIZE": ""} | TASK, ("slurm", 5, 8, 1)),
    ],
)
def test_the_seat_that_a_launcher_gave(variables: dict[str, str], expected: tuple[object, ...] | None) -> None:
    info = find_rank_info(variables | MASTER)
    assert (info and (info.launcher, info.rank, info.world_size, info.local_rank)) == expected


@pytest.mark.parametrize(
    ("variables", "num_ranks", "message"),
    [
        ({"RANK": "0"}, None, "RANK is set, WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, None, "WORLD_SIZE is set, RANK is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, None, "RANK=2 must be below WORLD_SIZE=2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, None, "RANK='one' must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 4, "--nproc 4, but there are 2 ranks, started by env://"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
            None,
            "RANK=0, WORLD_SIZE=2 contradict openmpi's rank 1 of 2",
        ),
        (DAEMON | {"RANK": "0", "WORLD_SIZE": "2"}, None, "RANK=0, WORLD_SIZE=2 contradict slurm's rank 1 of 2"),
        (DAEMON | {"RANK": "1", "WORLD_SIZE": "4"}, None, "RANK=1, WORLD_SIZE=4 contradict slurm's rank 1 of 2"),
        (DAEMON | {"RANK": "1", "WORLD_SIZE": "1"}, None, "RANK=1 must be below WORLD_SIZE=1"),
        (OMPI | {"RANK": "3"}, None, "RANK=3 contradicts openmpi's rank 2 of 4; unset RANK, or set both"),
        (TASK | {"WORLD_SIZE": "2"}, None, "WORLD_SIZE=2 contradicts slurm's rank 5 of 8"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, None, "RANK='-1' must be a whole number, zero or more"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, None, "WORLD_SIZE='x' must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, None, "must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "99999999"}, None, "WORLD_SIZE=99999999 must be at most 1048576"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "abc"}, None, "MASTER_PORT='abc' must be a port of rank 0's"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "70000"}, None, r"'70000' must be .* in 1\.\.65535"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "0"}, None, "MASTER_PORT='0' must be a port"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "-5"}, None, "MASTER_PORT='-5' must be a port"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": ""}, None, "MASTER_ADDR is not set"),
        (TASK | {"SLURM_JOB_ID": "x", "MASTER_PORT": ""}, None, "SLURM_JOB_ID='x' must be a whole number"),
    ],
)
def test_variables_that_contradict_are_one_line(variables: dict[str, str], num_ranks: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_rank_info(MASTER | variables, num_ranks)
    assert "\n" not in str(caught.value)


def test_slurm_ranks_find_each_other_without_master_variables() -> None:
    step = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0"}
    info = find_rank_info(step | {"SLURM_STEP_NODELIST": "gpu[003-004]"})
    other = find_rank_info(step | {"SLURM_STEP_NODELIST": "gpu[003-004]", "SLURM_PROCID": "0"})
    assert info is not None
    assert other is not None
    assert dict(info.rendezvous)["MASTER_ADDR"] == "gpu003"
    assert info.rendezvous == other.rendezvous


@pytest.mark.parametrize(
    ("variables", "local_size"),
    [
        ({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"RANK": "0", "WORLD_SIZE": "4"}, None),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 4),
        ({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "1"}, 1),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 4),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "5,3"}, None),
    ],
)
def test_ranks_per_host_as_the_launcher_says(variables: dict[str, str], local_size: int | None) -> None:
    info = find_rank_info(variables | MASTER)
    assert info is not None
    assert info.local_size == local_size


def test_a_pod_that_cannot_know_how_many_there_are_is_told_what_to_set() -> None:
    """It would start ranks of its own, as every other pod; which is what --nproc asks for."""
    with pytest.raises(InputError, match=r"JOB_COMPLETION_INDEX=3 says that this is a pod .* set WORLD_SIZE"):
        find_rank_info({"JOB_COMPLETION_INDEX": "3"})
    assert find_rank_info({"JOB_COMPLETION_INDEX": "3"}, 2) is None


def test_a_local_rank_beyond_its_machines_ranks_is_refused() -> None:
    local = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "4"}
    with pytest.raises(InputError, match=r"local rank 5 of 4 on this machine \(RANK=3, WORLD_SIZE=8, LOCAL_RANK=5\)"):
        find_rank_info(MASTER | local)


def test_what_a_rank_was_read_from_is_kept_for_people() -> None:
    info = find_rank_info(MASTER | TASK | {"RANK": "5", "WORLD_SIZE": "8"})
    assert info is not None
    assert info.said == "RANK=5, WORLD_SIZE=8; SLURM_PROCID=5, SLURM_STEP_NUM_TASKS=8, SLURM_LOCALID=1"


def test_a_missing_master_is_named() -> None:
    with pytest.raises(InputError, match="MASTER_ADDR is not set and env:// does not tell it"):
        find_rank_info({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("node_list", "host"),
    [
        ("gpu[003-007,9],login1", "gpu003"),
        ("a,b", "a"),
        ("n1-[1-2].site", "n1-1.site"),
        ("solo", "solo"),
        ("rack[1-2]node[3-4]", "rack1node3"),
        ("r[2,4-5]n[010-012,14],x[1-2]", "r2n010"),
    ],
)
def test_first_host_of_a_slurm_list(node_list: str, host: str) -> None:
    assert first_host(node_list) == host


def test_the_supervisor_does_not_load_torch() -> None:
    code = (
        "import sys, commbench.live.launch, commbench.live.measure, commbench.live.console, commbench.cli.run; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
