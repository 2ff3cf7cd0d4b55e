# SPDX-License-Identifier: Apache-2.0
"""What ranks started by :mod:`commbench.live.launch` run, as a program with argument ``FOLDER``.

Light on purpose: it can report before torch is loaded.
"""

import faulthandler
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from commbench.errors import CommbenchError, RunError
from commbench.live.files import SessionFiles
from commbench.live.fork_server import Rank, serve
from commbench.live.job import LiveJob
from commbench.live.kinds import job_of
from commbench.live.observe import Observer, SessionFacts
from commbench.live.progress import Progress, write_failure
from commbench.live.rank_host import RankHost
from commbench.live.rank_info import RankInfo

__all__ = ["load"]


def load(files: SessionFiles) -> Rank:
    """What a rank does, once all is there that it needs; a rank leaves its error in the folder for the supervisor.

    Raises:
        RunError: torch cannot be loaded. OSError: the folder is no place to write.
    """
    job = job_of(files.job.read_text(encoding="utf-8"))
    try:
        progress = [Progress(files.progress(rank)) for rank in range(job.ranks)]  # shared: forked ranks go on in it
    except OSError as error:  # where it is a write that fails, the system names no file
        raise OSError(error.errno, error.strerror, error.filename or str(files.folder)) from error
    for each in progress:
        each.reach("loading torch")
    try:
        from commbench.live.worker import measuring

        measuring(job)
    except ImportError as error:
        raise RunError(f"torch cannot be loaded ({error}); install it: pip install 'commbench[run]'") from error
    return partial(_run, files, job, progress)


def _run(files: SessionFiles, job: LiveJob, progress: list[Progress], rank: int, host: RankHost) -> int:
    # an exception, so that a record being written is written whole
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        stack = files.stack(rank).open("w", encoding="utf-8")  # stays open: written inside of a signal
        faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
        from commbench.live.worker import run_rank

        info = RankInfo("commbench", rank, job.ranks, local_rank=rank, store=files.store)
        timeout_s = job.torch_timeout_s
        run_rank(job, info, progress=progress[rank], observer=_Teller(files), timeout_s=timeout_s)
    except CommbenchError as error:
        return _leave(files.failure(rank), error)
    except OSError as error:
        where = error.filename or files.folder
        return _leave(files.failure(rank), RunError(f"rank {rank} failed: {where}: {error.strerror or error}"))
    except Exception as error:
        return _leave(files.failure(rank), RunError(f"rank {rank} failed: {type(error).__name__}: {error}"))
    return 0


def _leave(path: Path, error: CommbenchError) -> int:
    """Leave the error for the parent, and return the exit code; what is printed reaches it also from a full disk."""
    message = str(error).splitlines()[0]
    print(message, file=sys.stderr)
    with suppress(OSError):
        write_failure(path, type(error)(message))
    return error.exit_code


class _Teller(Observer):
    """Tells the parent that the ranks have met; records reach it through the journal."""

    def __init__(self, files: SessionFiles) -> None:
        self._files = files

    def started(self, facts: SessionFacts) -> None:
        partial = self._files.facts.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(facts)), encoding="utf-8")
        partial.rename(self._files.facts)


if __name__ == "__main__":
    os._exit(serve(partial(load, SessionFiles(Path(sys.argv[1])))))
