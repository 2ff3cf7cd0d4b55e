# SPDX-License-Identifier: Apache-2.0
"""What a rank started by :mod:`commbench.live.launch` runs, as a program with arguments ``FOLDER RANK``.

Light on purpose: the rank ties its life to its parent's and can report before it loads torch.
"""

import ctypes
import faulthandler
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from commbench.errors import CommbenchError, RunError
from commbench.live.files import SessionFiles
from commbench.live.kinds import job_of
from commbench.live.observe import Observer, SessionFacts
from commbench.live.progress import Progress, write_failure
from commbench.live.rank_info import RankInfo

__all__ = ["die_with_parent", "main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(folder: Path, rank: int) -> int:
    """Run one rank and return its exit code; an error is left in the folder for the parent."""
    die_with_parent()
    # an exception, so that a record being written is written whole
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    files = SessionFiles(folder)
    try:
        stack = files.stack(rank).open("w", encoding="utf-8")  # stays open: written inside of a signal
        faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
        _run(files, rank)
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


def _run(files: SessionFiles, rank: int) -> None:
    progress = Progress(files.progress(rank))
    job = job_of(files.job.read_text(encoding="utf-8"))
    timeout_s = float(os.environ["COMMBENCH_GROUP_TIMEOUT"])
    progress.reach("loading torch")
    try:
        from commbench.live.worker import run_rank
    except ImportError as error:
        raise RunError(f"rank {rank} cannot load torch ({error}); install it: pip install 'commbench[run]'") from error
    info = RankInfo("commbench", rank, job.ranks, local_rank=rank, store=files.store)
    run_rank(job, info, progress=progress, observer=_Teller(files), timeout_s=timeout_s)


class _Teller(Observer):
    """Tells the parent that the ranks have met; records reach it through the journal."""

    def __init__(self, files: SessionFiles) -> None:
        self._files = files

    def started(self, facts: SessionFacts) -> None:
        partial = self._files.facts.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(facts)), encoding="utf-8")
        partial.rename(self._files.facts)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != os.environ["COMMBENCH_PARENT"]:
        sys.exit(128 + signal.SIGKILL)  # it ended before the kernel was told


if __name__ == "__main__":
    # os._exit: a rank that failed must not hang in the destructors of process groups whose peers are gone
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
