# SPDX-License-Identifier: Apache-2.0
"""What is kept beside the results file of a run that went wrong, or whose ranks printed something."""

import faulthandler
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from commbench.errors import ResultsError
from commbench.live.job import LiveJob
from commbench.results.failures import FailedRun
from commbench.results.journal import Journal

__all__ = ["beside", "keep_by_rank", "own_stack", "record_failure"]


def beside(out: Path, run: str, what: str) -> Path:
    """``<results file>.<what>.txt``, with the run's name where the file has another: two runs never share it."""
    stem = out.stem if run in out.stem else f"{out.stem}.{run}"
    return out.with_name(f"{stem}.{what}.txt")


def own_stack() -> str:
    """Where all threads of this process are, also inside calls of C++."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")


def keep_by_rank(path: Path, texts: Mapping[int, str]) -> str:
    """Write what ranks have to say, those that have, one below the other; the file's name, "" if there is nothing.

    A full disk is no reason to lose the error that is on its way: then nothing is kept.
    """
    told = {rank: text.strip() for rank, text in sorted(texts.items()) if text.strip()}
    if not told:
        return ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"=== rank {rank} ===\n{text}\n" for rank, text in told.items()), encoding="utf-8")
    except OSError:
        return ""
    return path.name


def record_failure(
    job: LiveJob, launcher: str, message: str, guilty: Sequence[int], places: Sequence[str], stacks: str
) -> None:
    """Append a record of the failure to the job's results file, if that can be written."""
    failed = FailedRun(
        run=job.run,
        job=getattr(job, "collective", job.kind),
        backend=job.backend,
        ranks=job.ranks,
        launcher=launcher,
        message=message,
        guilty=tuple(guilty),
        places=tuple(places),
        stacks=stacks,
        failed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    try:
        Journal(job.out).append(failed)
    except ResultsError:
        return
