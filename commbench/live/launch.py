# SPDX-License-Identifier: Apache-2.0
"""Start the ranks of a run on this machine and let none outlive it.

No torch here, as in :mod:`commbench.live.supervise`, which watches over them. Ranks end with their parent however it
ends, for the kernel kills them when the thread that started them is gone (see :mod:`commbench.live.child`).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from commbench.errors import RunError
from commbench.live.files import SessionFiles
from commbench.live.job import LiveJob
from commbench.live.kept import beside, keep_by_rank
from commbench.live.observe import Observer
from commbench.live.start import module_command
from commbench.live.supervise import JournalTail, supervise
from commbench.results.records import Record
from commbench.terminal import tell

__all__ = ["RankHost", "launch_ranks"]

_GRACE_S = 0.5  # from asking a rank to end to ending it
_POLL_S = 0.01
_GLOO_MET = "[Gloo] Rank "  # gloo tells of every group that it has connected


@dataclass(frozen=True, slots=True)
class RankHost:
    """Where one rank runs, if not plainly here.

    Attributes:
        prefix: command that executes the rest of its arguments in its own place (exec, no child), for example
            ``("ip", "netns", "exec", "host0")``.
        variables: environment variables for this rank alone.
    """

    prefix: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def launch_ranks(job: LiveJob, *, observer: Observer, hosts: Sequence[RankHost] = ()) -> list[Record]:
    """Run a job on ``job.ranks`` processes of this machine and return its records.

    Args:
        job: what to run.
        observer: hears of the run as it goes on.
        hosts: one per rank where ranks do not simply run here.

    Raises:
        InputError: the ranks found the job unusable.
        RunError: a rank died, hung or failed; names the rank, how, where, and what is in the journal.
    """
    with tempfile.TemporaryDirectory(prefix="commbench-") as folder:
        files = SessionFiles(Path(folder))
        try:
            files.job.write_text(job.to_json(), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{files.job}: {error.strerror}; ranks meet there: set TMPDIR to another folder") from error
        tail = JournalTail(job, observer)
        with _ranks(files, job, hosts or [RankHost()] * job.ranks) as processes:
            observer.launched([process.pid for process in processes])
            try:
                supervise(job, files, processes, tail, observer)
            finally:
                _keep_output(job, files)
        return tail.records


def _keep_output(job: LiveJob, files: SessionFiles) -> None:
    """What ranks have printed, such as NCCL's debug log, goes beside the results file."""
    texts = {}
    for rank in range(job.ranks):
        with suppress(OSError):
            lines = files.output(rank).read_text(encoding="utf-8", errors="replace").splitlines()
            texts[rank] = "\n".join(line for line in lines if not line.startswith(_GLOO_MET))
    if name := keep_by_rank(beside(job.out, job.run, "output"), texts):
        tell(f"note: what ranks have printed is in {job.out.with_name(name)}")


@contextmanager
def _ranks(files: SessionFiles, job: LiveJob, hosts: Sequence[RankHost]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The ranks' processes; none is left when the block ends."""
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as outputs:
        try:
            for rank, host in enumerate(hosts):
                output = outputs.enter_context(_open_output(files.output(rank)))
                processes.append(_start(files, job, rank, host, output))
            yield processes
        finally:
            _end(processes)


def _open_output(path: Path) -> IO[bytes]:
    """A file for what a rank prints; in memory on Linux, for a full disk must not swallow why the rank failed."""
    if not hasattr(os, "memfd_create"):
        return path.open("wb")
    output = os.fdopen(os.memfd_create(path.name), "wb")
    path.symlink_to(f"/proc/{os.getpid()}/fd/{output.fileno()}")
    return output


def _start(files: SessionFiles, job: LiveJob, rank: int, host: RankHost, output: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [*host.prefix, *module_command("commbench.live.child", str(files.folder), str(rank))]
    variables = _variables(job, rank) | dict(host.variables)
    try:
        # a session of its own: Ctrl-C reaches the supervisor alone, which then ends the ranks
        return subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(f"rank {rank} cannot start: {command[0]}: {error.strerror}") from error


def _variables(job: LiveJob, rank: int) -> dict[str, str]:
    """The environment of a rank: the user's, and what the user left open."""
    defaults = {"OMP_NUM_THREADS": "1"} | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})
    return (
        defaults
        | os.environ
        | {
            "RANK": str(rank),
            "WORLD_SIZE": str(job.ranks),
            "LOCAL_RANK": str(rank),
            "COMMBENCH_PARENT": str(os.getpid()),
            "COMMBENCH_GROUP_TIMEOUT": str(job.torch_timeout_s),
        }
    )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run: ask, then insist."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for process in running:
        process.kill()
        process.wait()
