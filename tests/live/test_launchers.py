# SPDX-License-Identifier: Apache-2.0
"""The same run under other launchers: torchrun on two nodes (both here), Open MPI, tasks of Slurm, pods of a Job.

Where a launcher is not installed its environment is made up, as that launcher makes it, or the test is skipped aloud.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trials import free_port

from commbench.results.journal import read_records

pytestmark = pytest.mark.live
pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
OPTIONS = "-b 1K -e 1K -n 2 -w 1 --json --backend gloo --out r.jsonl --join-timeout 90"
RUN = ["-m", "commbench", "run", "all-reduce", *OPTIONS.split()]


def started(
    folder: Path, commands: list[list[str]], variables: list[dict[str, str]], *, quiet: bool = True
) -> tuple[list[str], list[str]]:
    """What these processes say on stdout and on stderr; all must end well, and with ``quiet`` nobody miss a store."""
    processes = [
        subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | own,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, own in zip(commands, variables, strict=True)
    ]  # fmt: skip
    said = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert not (quiet and "Exception raised from" in "".join(err for _, err in said)), said  # as torch says of a store
    return [out for out, _ in said], [err for _, err in said]


def judge(folder: Path, out: str, err: str, launcher: str, num_ranks: int, said: str) -> None:
    """One line of JSON and nothing beside it, one record, and what was detected."""
    (line,) = out.splitlines()
    assert (json.loads(line)["launcher"], json.loads(line)["ranks"]) == (launcher, num_ranks)
    assert [record.kind for record in read_records(folder / "r.jsonl")] == ["measured"]
    assert f"note: rank 0 on cpu: {said}" in err


def test_torchrun_on_two_nodes(tmp_path: Path) -> None:
    port = str(free_port())
    commands = [
        [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=2",
         "--master-addr=127.0.0.1", f"--master-port={port}", *RUN]
        for node in range(2)
    ]  # fmt: skip
    # an agent of torchrun may miss the other's store, if that one was faster out of the barrier at their end
    outs, errs = started(tmp_path, commands, [{}, {}], quiet=False)
    judge(tmp_path, outs[0], errs[0], "torchrun", 4, "RANK=0, WORLD_SIZE=4, LOCAL_RANK=0; MASTER_ADDR=127.0.0.1")
    assert outs[1] == ""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed (Debian: openmpi-bin)")
def test_open_mpi(tmp_path: Path) -> None:
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "4", sys.executable, *RUN]
    (out,), (err,) = started(tmp_path, [command], [{"MASTER_PORT": str(free_port())}])
    judge(tmp_path, out, err, "openmpi", 4, "OMPI_COMM_WORLD_RANK=0, OMPI_COMM_WORLD_SIZE=4")


def test_tasks_of_slurm_that_know_no_local_rank(tmp_path: Path) -> None:
    """As under ``srun``, two tasks on each of two nodes; that all are on one machine is found out by its boot id."""
    step = {"SLURM_JOB_ID": str(free_port() % 1000), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    nodes = {"SLURM_STEP_NODELIST": "localhost"}
    tasks = [step | nodes | {"SLURM_PROCID": str(task), "SLURM_NTASKS": "2"} for task in range(2)]
    outs, errs = started(tmp_path, [[sys.executable, *RUN]] * 2, tasks)
    said = "SLURM_PROCID=0, SLURM_STEP_NUM_TASKS=2, local rank 0 by counting the ranks of its machine; "
    judge(tmp_path, outs[0], errs[0], "slurm", 2, f"{said}MASTER_ADDR=localhost")


def test_pods_of_an_indexed_job(tmp_path: Path) -> None:
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pods = [job | {"JOB_COMPLETION_INDEX": str(index)} for index in range(2)]
    here = sorted(os.sched_getaffinity(0))
    bound = [str(here[rank % len(here)]) for rank in range(2)]  # as mpirun does: a core for each
    commands = [["taskset", "-c", core, sys.executable, *RUN] for core in bound]
    outs, errs = started(tmp_path, commands, pods)
    judge(tmp_path, outs[0], errs[0], "kubernetes", 2, "JOB_COMPLETION_INDEX=0, WORLD_SIZE=2")
    (record,) = read_records(tmp_path / "r.jsonl")
    assert record.environment["cores_usable"] == len(set(bound))
    assert ("oversubscribed" in errs[0]) == (len(set(bound)) < 2)


def test_what_libraries_print_does_not_break_json(tmp_path: Path) -> None:
    """NCCL_DEBUG=INFO goes to the file of stdout, past Python; here something else does in its place."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'RANK' in os.environ:\n    import atexit\n"
        "    from commbench.live import session\n    whole = session.own_cores\n"
        "    def loud():\n        os.write(1, b'host:1:1 [0] NCCL INFO Bootstrap\\n')\n        return whole()\n"
        "    session.own_cores = loud\n"
    )
    world = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    world["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    (out,), (err,) = started(tmp_path, [[sys.executable, *RUN]], [world])
    judge(tmp_path, out, err, "env://", 1, "RANK=0, WORLD_SIZE=1")
    assert "NCCL INFO Bootstrap" in err
