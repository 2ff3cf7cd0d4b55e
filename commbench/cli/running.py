# SPDX-License-Identifier: Apache-2.0
"""What the commands behind ``run`` share: options, the info and the journal of a run, and the run itself."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.first_word import command_app
from commbench.errors import InputError, RunError
from commbench.terminal import tell

if TYPE_CHECKING:
    from pathlib import Path

    from commbench.live.job import LiveJob
    from commbench.live.observe import Observer
    from commbench.live.rank_info import RankInfo
    from commbench.results.records import Record

__all__ = [
    "Backend",
    "Check",
    "Iters",
    "Nproc",
    "Warmup",
    "command_app",
    "journal",
    "ranks_of",
    "run_here",
]

_STDOUT, _STDERR = 1, 2
MOST_RANKS = 1024  # that are started here

Nproc = Annotated[
    int | None, typer.Option("--nproc", "-g", "--np", "-np", help="Ranks to start here.", show_default=False)
]
Iters = Annotated[int, typer.Option("--iters", "-n", help="Timed iterations.")]
Warmup = Annotated[int, typer.Option("--warmup", "-w", help="Warm-up iterations.")]
Backend = Annotated[str, typer.Option("--backend", help="gloo, nccl, strict (docs/live.md) or auto.")]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Check the values.")]


def ranks_of(nproc: int | None, default: int) -> "tuple[RankInfo | None, int]":
    """This process's info under a launcher, if any, and the world size.

    Raises:
        InputError: fewer than 1 rank, or another number than the launcher started.
    """
    from commbench.live.rank_info import find_rank_info

    info = find_rank_info(os.environ, nproc)
    ranks = info.world_size if info is not None else default if nproc is None else nproc
    if ranks < 1:
        raise InputError(f"--nproc {ranks} must be at least 1")
    if info is None and ranks > MOST_RANKS:
        raise InputError(f"--nproc {ranks} must be at most {MOST_RANKS}, processes of one machine")
    return info, ranks


def journal(out: "Path | None", what: str) -> "tuple[str, Path]":
    """A new run's identifier, and where its records go."""
    from commbench.live.plan import default_out
    from commbench.results.run_id import new_run_id

    run = new_run_id()
    return run, out or default_out(run, "run", what)


def run_here(job: "LiveJob", info: "RankInfo | None", observer: "Observer | None" = None) -> "list[Record]":
    """Run a job, say on stderr what runs and where the records are, however it ends.

    Args:
        job: what to run. info: this process's under a launcher, if any.
        observer: what shows the run; left out, one line on stderr says that it has started.
    """
    from commbench.live.ending import end_in_order
    from commbench.live.measure import run_job

    shown = observer or _told(job)
    if info is None:  # end by way of `finally`; a launcher's signal is taken by live.watch
        end_in_order()
    else:
        _keep_stdout_clean()
    try:
        return run_job(job, info=info, observer=shown)
    except RunError as error:
        if info is None:
            raise
        # a rank whose peers are gone must not hang in the destructors of their process groups
        tell(f"error: {error}")
        sys.stdout.flush()
        os._exit(error.exit_code)
    except KeyboardInterrupt:
        tell("interrupted: the ranks were ended, complete records are kept")
        raise SystemExit(130) from None
    finally:
        shown.close()
        if (info is None or info.rank == 0) and job.out.exists():
            tell(f"records: {job.out}")


def _keep_stdout_clean() -> None:
    """Send to stderr what libraries print past Python: NCCL_DEBUG=INFO goes to the file of stdout, and would stand
    among our lines there."""
    try:
        own = sys.stdout.fileno()
    except (OSError, ValueError):  # no file at all
        return
    if own == _STDOUT:
        sys.stdout.flush()
        sys.stdout = os.fdopen(os.dup(own), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
        os.dup2(_STDERR, _STDOUT)


def _told(job: "LiveJob") -> "Observer":
    """An observer that says what runs."""
    from commbench.live.console import tell_session
    from commbench.live.observe import Observer, SessionFacts

    class Told(Observer):
        """One line at the start."""

        def started(self, facts: SessionFacts) -> None:
            """Say what runs."""
            tell(f"backend {facts.backend}, {facts.ranks} ranks, started by {facts.launcher}")
            tell_session(facts, cores=getattr(job, "compute", "") != "delay")  # ranks that sleep need no core each

    return Told()
