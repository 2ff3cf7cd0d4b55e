# SPDX-License-Identifier: Apache-2.0
"""Runs whose ranks others started, and what may befall one of them: killed, stopped, or cut off from all others."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from commbench.live.judge import GONE, process_state
from commbench.live.watch import BEAT_S

ROOT = Path(__file__).parents[2]
# the second size takes tens of seconds: time enough to interfere
LONG = "run all-reduce -b 4K -e 16M -f 4096 -n 1000 -w 0 --no-check --out r.jsonl --join-timeout 90"
TIMEOUT_S, WITHIN_S = 3.0, 10.0  # the run's own limit, and how much later all must be over

_CUT = signal.SIGUSR2
_CUT_OFF = f"""
import os
if "RANK" in os.environ:
    import signal, socket
    def cut(number, frame):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                with socket.socket(fileno=os.dup(fd)) as one:
                    one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
    signal.signal({int(_CUT)}, cut)
"""
FATES = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "cut off": _CUT}


@dataclass
class Ended:
    """How a run ended: seconds after the deed, exit codes by rank (torchrun: its own alone), what was said."""

    seconds: float
    codes: list[int]
    said: list[str]
    left: list[int] = field(default_factory=list)

    @property
    def errors(self) -> set[str]:
        return {line for text in self.said for line in text.splitlines() if line.startswith("error: ")}

    def named(self) -> set[int]:
        """The rank that each error names first."""
        return {int(match[1]) for line in self.errors if (match := re.search(r"ranks? (\d+)", line))}


def family(tops: Iterable[int]) -> list[int]:
    """These processes and all below them."""
    below: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            below[int(path.read_text().rpartition(")")[2].split()[1])].append(int(path.parent.name))
    found = list(tops)
    for pid in found:
        found += below[pid]
    return found


def children(pid: int) -> list[int]:
    """Of the first thread of a process, in the order in which it started them."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def rank_of(pid: int) -> int | None:
    """The rank that a process was given, if it was given one."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((int(one[5:]) for one in variables if one.startswith(b"RANK=")), None)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def ranks_of_others(folder: Path, num_ranks: int, arguments: str, *, torchrun: bool) -> Iterator["Run"]:
    """A run in its second size, its ranks started by torchrun or by hand; nothing of it is left afterwards."""
    (folder / "sitecustomize.py").write_text(_CUT_OFF)
    env = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = ["-m", "commbench", *arguments.split()]
    if torchrun:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
        seats = [({}, [*launcher, *words])]
    else:
        world = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        seats = [(world | {"RANK": str(r), "LOCAL_RANK": str(r)}, [sys.executable, *words]) for r in range(num_ranks)]
    logs = [(folder / f"log.{number}").open("w+") for number in range(len(seats))]
    processes = [
        subprocess.Popen(command, cwd=folder, env=env | more, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for (more, command), log in zip(seats, logs, strict=True)
    ]
    run = Run(folder, processes)
    try:
        yield run
    finally:
        run.clear()
        for log in logs:
            log.close()


@dataclass
class Run:
    """Processes of a run: ranks, or torchrun alone."""

    folder: Path
    processes: list[subprocess.Popen[bytes]]
    ranks: list[int] = field(default_factory=list)  # process ids, in rank order

    def begin(self, seconds: float = 120) -> None:
        """Return when the first size is done, the ranks are known, and their heartbeats tell of the second."""
        deadline, results = time.monotonic() + seconds, self.folder / "r.jsonl"
        while not (results.exists() and results.read_text().endswith("\n")):
            assert time.monotonic() < deadline, self.said()
            assert all(process.poll() is None for process in self.processes), self.said()
            time.sleep(0.05)
        numbers = {number: pid for pid in family(p.pid for p in self.processes) if (number := rank_of(pid)) is not None}
        self.ranks = [numbers[rank] for rank in sorted(numbers)]
        time.sleep(2 * BEAT_S)

    def befall(self, rank: int, fate: str) -> Ended:
        """Do it to a rank, and wait until the run is over, or for long enough."""
        began = time.monotonic()
        os.kill(self.ranks[rank], FATES[fate])
        deadline = began + TIMEOUT_S + WITHIN_S
        watched = [p for r, p in enumerate(self.processes) if not (fate == "stopped" and p.pid == self.ranks[rank])]
        while any(process.poll() is None for process in watched) and time.monotonic() < deadline:
            time.sleep(0.02)
        ended = Ended(time.monotonic() - began, [], self.said())
        others = [p for p in self.processes if p.pid != self.ranks[rank]]
        ended.codes = [-999 if (code := p.poll()) is None else code for p in others]
        ended.left = [pid for pid in self.ranks if process_state(pid) != GONE]
        return ended

    def said(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("log.*"))]

    def clear(self) -> None:
        for pid in self.ranks:
            if process_state(pid) != GONE:
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.kill()
            process.wait()
