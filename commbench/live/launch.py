# SPDX-License-Identifier: Apache-2.0
"""Start the ranks of a run on this machine and let none outlive it.

No torch here, as in :mod:`commbench.live.supervise`, which watches over them.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from commbench.errors import RunError
from commbench.live.files import SessionFiles
from commbench.live.forked import ForkedRanks
from commbench.live.job import LiveJob
from commbench.live.kept import beside, keep_by_rank
from commbench.live.observe import Observer
from commbench.live.rank_host import RankHost
from commbench.live.supervise import JournalTail, supervise
from commbench.results.records import Record
from commbench.terminal import tell

__all__ = ["launch_ranks"]

_GLOO_MET = "[Gloo] Rank "  # gloo tells of every group that it has connected


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
        with _ranks(files, job, hosts or [RankHost()] * job.ranks) as ranks:
            try:
                supervise(job, files, ranks, tail, observer)
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
def _ranks(files: SessionFiles, job: LiveJob, hosts: Sequence[RankHost]) -> Iterator[ForkedRanks]:
    """The ranks' processes; none is left when the block ends."""
    with ExitStack() as stack:
        outputs = [stack.enter_context(_open_output(files.output(rank))) for rank in range(job.ranks)]
        places = [
            replace(
                host,
                variables={"RANK": str(rank), "LOCAL_RANK": str(rank), **host.variables},
                output=str(files.output(rank)),
            )
            for rank, host in enumerate(hosts)
        ]
        ranks = ForkedRanks(("commbench.live.child", str(files.folder)), places, _variables(job), outputs[0])
        try:
            yield ranks
        finally:
            ranks.end()


def _open_output(path: Path) -> IO[bytes]:
    """A file for what a rank prints; in memory on Linux, for a full disk must not swallow why the rank failed."""
    if not hasattr(os, "memfd_create"):
        return path.open("wb")
    output = os.fdopen(os.memfd_create(path.name), "wb")
    path.symlink_to(f"/proc/{os.getpid()}/fd/{output.fileno()}")
    return output


def _variables(job: LiveJob) -> dict[str, str]:
    """The environment of ranks: the user's, and what the user left open."""
    defaults = {"OMP_NUM_THREADS": "1"} | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})
    return defaults | os.environ | {"WORLD_SIZE": str(job.ranks)}
