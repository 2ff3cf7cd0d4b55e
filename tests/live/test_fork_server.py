# SPDX-License-Identifier: Apache-2.0
"""Ranks are forked by one process that has loaded torch: each is one of its own, and none is left behind."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from commbench.errors import RunError
from commbench.live.forked import ForkedRanks
from commbench.live.job import LiveJob, TensorParallelJob
from commbench.live.measure import run_job
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.rank_host import RankHost
from tests.live.test_run import ROOT, alive, long_run, measured, one_error, ranks_of, started, until

pytestmark = pytest.mark.live
pytest.importorskip("torch")

# a program of the package that is not: what it says of itself as the server, and as rank 0 and 1
PROGRAM = """
import json, os, sys, threading
from commbench.live.fork_server import serve
def load():
    if os.environ.get("LOADS") == "nothing":
        raise OSError(28, "No space left on device", "/full")
    print("loading")
    return rank
def rank(number, host):
    tied = sorted(os.listdir("/proc/self/fd"))
    print(json.dumps({"rank": number, "own": os.environ["OWN"], "session": os.getsid(0) == os.getpid(),
        "stdin": os.readlink("/proc/self/fd/0"), "files": [str(file) in tied for file in FILES],
        "threads": len(os.listdir("/proc/self/task"))}))
    if number == 1:
        sys.exit("it is broken")
    return 5
FILES = json.loads(os.environ["FILES"])
os._exit(serve(load))
"""


def forked(folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[ForkedRanks, list[Path]]:
    """Two ranks of PROGRAM, and where each prints; each has a file of its own."""
    monkeypatch.setattr("commbench.live.forked.module_command", lambda *_: (sys.executable, "-c", PROGRAM))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    outputs = [folder / f"output{rank}" for rank in range(2)]
    for path in outputs:
        path.touch()
    hosts = [
        RankHost(variables={"OWN": f"of {rank}"}, output=str(outputs[rank]), files=(files[rank],)) for rank in range(2)
    ]
    variables = {"FILES": json.dumps(files), **variables}
    with outputs[0].open("ab") as output:
        ranks = ForkedRanks(("any",), hosts, os.environ | variables, output)
    for file in files:
        os.close(file)
    return ranks, outputs


def test_a_rank_has_its_own_output_variables_files_and_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks, outputs = forked(tmp_path, monkeypatch)
    try:
        assert until(lambda: None not in ranks.codes(), 30)
        assert ranks.codes() == [5, RunError.exit_code]
        first, second = (path.read_text().splitlines() for path in outputs)
        assert (first[0], second[-1]) == ("loading", "it is broken")
        for rank, line in enumerate((first[1], second[0])):
            own = {"rank": rank, "own": f"of {rank}", "session": True, "stdin": "/dev/null", "threads": 1}
            assert json.loads(line) == own | {"files": [rank == 0, rank == 1]}
    finally:
        ranks.end()


def test_what_keeps_ranks_from_starting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, _ = forked(tmp_path, monkeypatch, LOADS="nothing")
    try:
        with pytest.raises(RunError, match=r"^ranks cannot start: /full: No space left on device$"):
            until(lambda: None not in ranks.codes(), 30)
    finally:
        ranks.end()


class Servers(Observer):
    """Looks at the process that the ranks come from."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.modules: set[str] = set()

    def launched(self, pids: Sequence[int]) -> None:
        parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
        (server,) = parents
        self.threads.append(len(os.listdir(f"/proc/{server}/task")))
        maps = Path(f"/proc/{server}/maps").read_text()
        self.modules |= {name for name in ("libtorch_cpu", "libcuda.so") if name in maps}


BLOCK = {"hidden": 8, "heads": 2, "ffn": 8, "sequence": 4, "micro_batch": 1}


@pytest.mark.parametrize(
    ("kind", "given"),
    [(Plan, {"collective": "all-reduce", "sizes_bytes": (1024,), "backend": "gloo"}), (TensorParallelJob, BLOCK)],
)
def test_the_server_has_torch_and_one_thread_and_no_device(
    kind: type[LiveJob], given: dict[str, Any], tmp_path: Path
) -> None:
    observer = Servers()
    asked = kind(ranks=2, out=tmp_path / "r.jsonl", run="r", iters=1, **given)
    assert run_job(asked, observer=observer)[0].wrong == 0
    assert (observer.threads, observer.modules) == ([1], {"libtorch_cpu"})


def test_a_server_that_is_killed_ends_its_ranks_and_the_run(tmp_path: Path) -> None:
    with long_run(tmp_path) as (process, ranks):
        server = int(Path(f"/proc/{ranks[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        stderr = process.communicate(timeout=15)[1]
        assert process.returncode == 3
        assert "rank 0 was killed by signal 9 (SIGKILL) at 64 MiB" in one_error(stderr)
        assert len(measured(tmp_path / "r.jsonl")) == 1
        assert not any(map(alive, ranks))


RANK_1_STOPS_AT_BIRTH = """
import os, signal, sys
if "commbench.live.child" in sys.orig_argv:
    forks = []
    os.register_at_fork(
        after_in_parent=lambda: forks.append(0),
        after_in_child=lambda: os.kill(os.getpid(), signal.SIGSTOP) if len(forks) == 1 else None,
    )
"""


def test_a_hung_rank_is_named_while_ranks_join(tmp_path: Path) -> None:
    """The limit of its own holds, and not the one for later, which says so when it has passed."""
    (tmp_path / "sitecustomize.py").write_text(RANK_1_STOPS_AT_BIRTH)  # a signal from here would often come too late
    limits = ("--timeout", "1", "--join-timeout", "6")
    process = started(tmp_path, "--nproc", "2", "-b", "1K", "-e", "1K", *limits, path=f"{tmp_path}{os.pathsep}{ROOT}")
    assert until(lambda: len(ranks_of(process.pid)) == 2, 20)
    ranks = ranks_of(process.pid)
    _, stderr = process.communicate(timeout=40)
    assert process.returncode == 3
    assert "rank 1 made no progress for 6 s (--join-timeout) at " in one_error(stderr)
    assert "stopped" in one_error(stderr)
    assert stderr.count("--timeout 1 has passed; until every rank has reached its first size --join-timeout 6") == 1
    assert not any(map(alive, ranks))


def test_torch_that_cannot_be_loaded_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plan = Plan(collective="all-reduce", ranks=2, sizes_bytes=(1024,), out=tmp_path / "r.jsonl", run="r", iters=1)
    said = r"torch cannot be loaded \(libtorch.so: cannot open .*\); install it: pip install 'commbench\[run\]'; 0 comp"
    with pytest.raises(RunError, match=said):
        run_job(plan)
