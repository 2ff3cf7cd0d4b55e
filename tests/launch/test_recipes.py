# SPDX-License-Identifier: Apache-2.0
"""What ``commbench launch`` writes: every script runs here, by its launcher or one that acts as it does; manifests have
the fields that their APIs want, and what they run in a pod runs."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from commbench.launch.recipes import RECIPES
from commbench.results.journal import read_records
from tests.cli.commands import commbench

ROOT = Path(__file__).parents[2]
RUN = ["run", "all-reduce", "-b", "1K", "-e", "1K", "-n", "2", "-w", "1", "--backend", "gloo", "--join-timeout", "90"]
HERE = ["--gpus-per-node", "0", "--ranks-per-node", "2"]
POD = ["--image", "ghcr.io/me/commbench:1", "--folder", "/results", "--claim", "shared"]
SRUN = """
import os, subprocess, sys
assert sys.argv[1] == "--cpu-bind=none"
step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
tasks = [subprocess.Popen(sys.argv[2:], env=os.environ | step | {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)})
         for n in range(2)]
sys.exit(max(task.wait() for task in tasks))
"""


def recipe(*words: str) -> str:
    done = commbench("launch", *words, folder=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def programs(folder: Path) -> dict[str, str]:
    """An environment in which the programs that scripts name are those of this Python."""
    (folder / "bin").mkdir()
    (folder / "srun.py").write_text(SRUN)
    for name, words in (("commbench", "-m commbench"), ("torchrun", "-m torch.distributed.run"),
                        ("srun", str(folder / "srun.py"))):  # fmt: skip
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    as_root = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
    own = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **as_root, "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def run_nodes(folder: Path, commands: list[list[str]], own: list[dict[str, str]], launcher: str) -> None:
    """Start what every node starts; the results of the one run, of two ranks, must be there."""
    around = programs(folder)
    nodes = [
        subprocess.Popen(command, cwd=folder, env=around | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
        for command, more in zip(commands, own, strict=True)
    ]  # fmt: skip
    said = [node.communicate(timeout=180)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0] * len(nodes), said
    (results,) = (folder / "runs").glob("commbench-*.jsonl")
    (record,) = read_records(results)
    assert (record.launcher, record.ranks, record.kind) == (launcher, 2, "measured")  # type: ignore[attr-defined]
    assert record.environment["variables"]["NCCL_DEBUG"] == "INFO and more"  # type: ignore[attr-defined]


def one_node(flag: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        pytest.importorskip("torch")
        text = recipe(flag, *HERE, *(["--port", free_port()] if flag == "--mpi" else []), "--export",
                      "NCCL_DEBUG=INFO and more", *RUN)  # fmt: skip
        (folder / "job.sh").write_text(text)
        launcher = {"--slurm": "slurm", "--mpi": "openmpi"}[flag]
        run_nodes(folder, [["bash", "job.sh"]], [{"SLURM_JOB_ID": str(int(free_port()) % 1000)}], launcher)

    return run


@pytest.mark.live
def test_the_script_for_sbatch_runs_where_srun_starts_its_tasks(tmp_path: Path) -> None:
    one_node("--slurm")(tmp_path)
    assert list((tmp_path / "runs").glob("commbench-[0-9]*.jsonl"))


@pytest.mark.live
@pytest.mark.skipif(
    not shutil.which("mpirun")
    or "Open MPI" not in subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout,
    reason="Open MPI is not installed (Debian: openmpi-bin)",
)
def test_the_script_for_open_mpi_runs(tmp_path: Path) -> None:
    one_node("--mpi")(tmp_path)


@pytest.mark.live
def test_the_script_for_torchrun_runs_on_two_nodes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    text = recipe("--torchrun", "--nodes", "2", "--gpus-per-node", "0", "--ranks-per-node", "1", "--port", free_port(),
                  "--hosts", "127.0.0.1,localhost", "--export", "NCCL_DEBUG=INFO and more", *RUN)  # fmt: skip
    (tmp_path / "job.sh").write_text(text)
    run_nodes(tmp_path, [["bash", "job.sh"]] * 2, [{}, {}], "torchrun")


@pytest.mark.live
def test_what_pods_of_an_indexed_job_run_runs(tmp_path: Path) -> None:
    """The pods' command as it stands, but for the names that Kubernetes' name server and mounts would give."""
    pytest.importorskip("torch")
    _, job = manifests("--kubernetes", "--gpus-per-node", "0", "--ranks-per-node", "1", "--port", free_port())
    command = container(job["spec"]["template"])["command"]
    here = [word.replace("commbench-0.commbench", "127.0.0.1").replace("/results", "runs") for word in command]
    given = {"NCCL_DEBUG": "INFO and more"}
    run_nodes(tmp_path, [here] * 2, [given | {"JOB_COMPLETION_INDEX": str(node)} for node in range(2)],
              "torchrun")  # fmt: skip


def manifests(flag: str, *words: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(recipe(flag, "--nodes", "2", *POD, *words, "--export", "NCCL_DEBUG=INFO", *RUN)))


def container(template: dict[str, Any]) -> dict[str, Any]:
    (one,) = template["spec"]["containers"]
    return one  # type: ignore[no-any-return]


def test_an_indexed_job_has_what_its_api_wants() -> None:
    service, job = manifests("--kubernetes")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert service["spec"]["clusterIP"] == "None"  # headless, and the text: null would give it an address
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert pod["restartPolicy"] == "Never"  # batch/v1 takes Never and OnFailure
    # pods are called NAME-INDEX.SUBDOMAIN where a headless service of that name selects them
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": "commbench"}
    runs = container(spec["template"])
    assert "--master-addr commbench-0.commbench " in runs["command"][-1]
    assert runs["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    check_pod(pod)


def test_an_mpi_job_has_what_its_api_wants() -> None:
    (job,) = manifests("--mpijob")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    kinds = job["spec"]["mpiReplicaSpecs"]
    assert {name: kind["replicas"] for name, kind in kinds.items()} == {"Launcher": 1, "Worker": 2}
    assert job["spec"]["slotsPerWorker"] == 8
    assert "mpirun -np 16 --map-by ppr:8:node" in container(kinds["Launcher"]["template"])["command"][-1]
    assert "resources" not in container(kinds["Launcher"]["template"])
    assert "command" not in container(kinds["Worker"]["template"])
    for kind in kinds.values():
        check_pod(kind["template"]["spec"])


@pytest.mark.parametrize("line", ["node-7 slots=8\nnode-8 slots=8", "node-7:8\nnode-8:8"])
def test_ranks_of_an_mpi_job_meet_at_the_first_host_of_its_hostfile(line: str, tmp_path: Path) -> None:
    (job,) = manifests("--mpijob")
    text = container(job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"])["command"][-1]
    (first,) = [one for one in text.splitlines() if "MASTER_ADDR=" in one]
    (tmp_path / "hostfile").write_text(line)
    script = first.replace("/etc/mpi/hostfile", str(tmp_path / "hostfile")) + "\necho $MASTER_ADDR $MASTER_PORT"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == "node-7 29500\n"


def check_pod(pod: dict[str, Any]) -> None:
    """Results are on the claim, variables are set, mounts have volumes."""
    one = container({"spec": pod})
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in one["env"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in one["volumeMounts"]} == set(volumes)
    assert volumes["results"]["persistentVolumeClaim"] == {"claimName": "shared"}
    assert {"name": "results", "mountPath": "/results"} in one["volumeMounts"]


HOSTILE = ["--export", "A=it's $HOME; `x`", "--setup", "source my env/bin/activate", "--folder", "/a b/$c", *RUN]


@pytest.mark.parametrize("flag", ["--slurm", "--torchrun", "--mpi", "--hydra"])
def test_a_script_is_one_that_bash_reads_and_quotes_what_it_was_given(flag: str, tmp_path: Path) -> None:
    text = recipe(flag, *HOSTILE)
    (tmp_path / "job.sh").write_text(text)
    subprocess.run(["bash", "-n", "job.sh"], cwd=tmp_path, check=True)
    *_, last = text.splitlines()
    harmless = text.replace(last, 'printf %s "$A"').replace("mkdir -p", ": ").replace("source", ":")
    (tmp_path / "see.sh").write_text(harmless)
    seen = subprocess.run(["bash", "see.sh"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert seen.stdout == "it's $HOME; `x`"
    assert "'/a b/$c'/commbench-" in last


def test_settings_of_slurm_stand_before_all_commands() -> None:
    text = recipe("--slurm", "--nodes", "2", "--partition", "gpu", "--account", "me", "--time", "1:00:00", "--image",
                  "me/commbench:1", "--folder", "/shared", "--setup", "module load x", *RUN)  # fmt: skip
    lines = text.splitlines()
    told = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash"
    assert all(line.startswith("#") for line in lines[: told[-1]])
    for setting in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "partition=gpu", "account=me", "time=1:00:00"):
        assert f"#SBATCH --{setting}" in lines
    assert "--container-image=me/commbench:1 --container-mounts=/shared:/shared" in lines[-1]


REFUSED = {
    "no launcher": (RUN, "no launcher is given; give one of --slurm, --torchrun"),
    "two launchers": (["--slurm", "--mpi", *RUN], "--slurm and --mpi is given; give one of"),
    "no run": (["--slurm", "sim", "all-reduce"], "'sim all-reduce' is no run; give the command last: run all-reduce"),
    "no such collective": (["--slurm", "run", "all-redcue"], "did you mean all-reduce?"),
    "no such option": (["--slurm", *RUN, "--itres", "3"], "No such option: --itres"),
    "its own ranks": (["--slurm", *RUN, "--nproc", "4"], "--nproc 4: the launcher starts the ranks; give --nodes"),
    "a word too many": (["--slurm", *RUN, "again"], "'again' means nothing to the run"),
    "two places": (["--slurm", "--folder", "/x", *RUN, "--out", "r.jsonl"], "has an --out of its own; give one"),
    "of another launcher": (["--torchrun", "--partition", "gpu", *RUN], "--partition means nothing with --torchrun; "
                            "leave it out (it is for --slurm)"),
    "hosts not known": (["--torchrun", "--nodes", "2", *RUN], "torchrun is not told where rank 0 is; give --hosts"),
    "hosts missing": (["--mpi", "--nodes", "3", "--hosts", "a,b", *RUN], "--hosts names 2, --nodes says 3"),
    "no ranks": (["--slurm", "--gpus-per-node", "0", *RUN], "say how many ranks a node has, such as --ranks"),
    "too many ranks": (["--slurm", "--ranks-per-node", "9", *RUN], "--ranks-per-node 9 is more than --gpus-per-node 8"),
    "no image": (["--kubernetes", *RUN], "Kubernetes needs --image"),
    "results lost": (["--kubernetes", "--image", "x", "--folder", "/r", *RUN], "give --folder, where results are kept, "
                     "and --claim"),
    "relative": (["--mpijob", "--image", "x", "--claim", "c", "--folder", "r", *RUN], "absolute path of shared storage "
                 "in it, not 'r'"),
    "no variable": (["--slurm", "--export", "NCCL_DEBUG", *RUN], "'NCCL_DEBUG' must be NAME=VALUE"),
    "twice": (["--slurm", "--export", "A=1", "--export", "A=2", *RUN], "--export A stands there twice: '1' and '2'"),
    "two lines": (["--slurm", "--setup", "a\nb", *RUN], "must be one line of text"),
    "time": (["--slurm", "--time", "soon", *RUN], "--time 'soon' must be as sbatch has it"),
    "name": (["--slurm", "--name", "My Job", *RUN], "--name 'My Job' must be 1 to 40 of a-z"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_input_is_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    from commbench.cli.main import outcome

    words, says = REFUSED[case]
    assert outcome(["launch", *words]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""
    assert len(told.err.splitlines()) == 1


PAGE = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
(SHOWN,) = re.findall(r"<!-- tested recipes -->\n```console\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("command", [line.removeprefix("$ commbench ") for line in SHOWN.splitlines()])
def test_a_command_of_the_page_writes_what_it_says(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from commbench.cli.main import outcome

    monkeypatch.chdir(tmp_path)
    assert outcome(shlex.split(command)) in (0, None)
    told = capsys.readouterr()
    assert "commbench run " in (told.out or (tmp_path / "job.sh").read_text())


def test_the_page_has_every_launcher() -> None:
    assert all(f"launch --{name} " in SHOWN and f"`--{name}`" in PAGE for name in RECIPES)


def test_every_launcher_has_json_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from commbench.cli.main import outcome

    for name in RECIPES:
        extra = POD if name in ("kubernetes", "mpijob") else []
        assert outcome(["launch", f"--{name}", *extra, "--out", str(tmp_path / name), "--json", *RUN]) in (0, None)
        told = capsys.readouterr()
        line = json.loads(told.out)
        assert line["kind"] == "recipe"
        assert line["ranks"] == 8
        assert line["text"] == (tmp_path / name).read_text()
        assert f"wrote {tmp_path / name}; start it with `{line['start']}`" in told.err
