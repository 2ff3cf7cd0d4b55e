# SPDX-License-Identifier: Apache-2.0
"""What a rank of a job runs: ``python -m commbench.live.job_child FOLDER RANK``; the twin of :mod:`live.child`."""

import os
import signal
import sys
from pathlib import Path

from commbench.errors import CommbenchError, RunError
from commbench.live.child import _Teller, die_with_parent
from commbench.live.files import SessionFiles
from commbench.live.job import job_of
from commbench.live.progress import Progress, write_failure
from commbench.live.seat import Seat

__all__ = ["main"]


def main(folder: Path, rank: int) -> int:
    """Run one rank and return its exit code; an error is left in the folder for the parent."""
    die_with_parent()
    # an exception, so that a record being written is written whole
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    files = SessionFiles(folder)
    try:
        _run(files, rank)
    except CommbenchError as error:
        write_failure(files.failure(rank), error)
        return error.exit_code
    except Exception as error:
        failure = RunError(f"rank {rank} failed: {type(error).__name__}: {error}".splitlines()[0])
        write_failure(files.failure(rank), failure)
        return failure.exit_code
    return 0


def _run(files: SessionFiles, rank: int) -> None:
    progress = Progress(files.progress(rank))
    job = job_of(files.plan.read_text(encoding="utf-8"))
    timeout_s = float(os.environ["COMMBENCH_GROUP_TIMEOUT"])
    progress.reach("loading torch")
    try:
        from commbench.live.job_worker import run_job_rank
    except ImportError as error:
        raise RunError(f"rank {rank} cannot load torch ({error}); install it: pip install 'commbench[run]'") from error
    seat = Seat("commbench", rank, job.ranks, local_rank=rank, store=files.store)
    run_job_rank(job, seat, progress=progress, observer=_Teller(files), timeout_s=timeout_s)


if __name__ == "__main__":
    # os._exit: a rank that failed must not hang in the destructors of process groups whose peers are gone
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
