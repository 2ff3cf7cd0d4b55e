# SPDX-License-Identifier: Apache-2.0
"""One process that loads what ranks need, torch above all, and forks every rank from itself.

Loading torch takes seconds of a processor, as long as hundreds of small collectives: so it is paid once a command and
not once a rank, and ranks share the memory that holds it. The server is told on stdin where its ranks run
(:mod:`commbench.live.rank_host`), and says on stdout what becomes of them, a line of JSON each: ``pids`` of all ranks,
then ``ended`` and ``code`` of each, or ``error`` and ``code``; :mod:`commbench.live.forked` is the other side.

What makes a fork here as good as a fresh process: the server has one thread, has opened neither a device nor a
connection, and nothing that differs between ranks is read while torch is loaded.
"""

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from commbench.errors import CommbenchError, RunError
from commbench.live.rank_host import RankHost, hosts_from_json
from commbench.live.system import die_with_parent

__all__ = ["Handlers", "Rank", "serve"]

Rank = Callable[[int, RankHost], int]
"""What a rank does, given its number and where it is; returns its exit code."""
Handlers = Mapping[signal.Signals, Callable[[int, FrameType | None], Any] | int | None]
_SUPERVISORS = (signal.SIGINT, signal.SIGTERM)  # a group of processes that is told to end has a supervisor for that


def serve(load: Callable[[], Rank]) -> int:
    """Fork ranks and return the exit code when all have ended.

    Args:
        load: loads what ranks need, once for all, and returns what they do.
    """
    die_with_parent(int(os.environ["COMMBENCH_PARENT"]))
    handlers: Handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _SUPERVISORS}
    reports = os.dup(1)
    os.dup2(2, 1)  # what libraries print while they are loaded is no report
    hosts = hosts_from_json(sys.stdin.buffer.read())
    pids: list[int] = []
    try:
        rank = load()
        gc.freeze()  # what is loaded by now is nobody's garbage, and stays shared
        for number in range(len(hosts)):
            pids.append(_fork(number, hosts, rank, handlers, reports))
    except Exception as error:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        told = error if isinstance(error, CommbenchError) else RunError(f"ranks cannot start: {_why(error)}")
        _report(reports, error=str(told).splitlines()[0], code=told.exit_code)
        return told.exit_code
    _report(reports, pids=pids)
    for _ in pids:
        pid, status = os.wait()
        _report(reports, ended=pids.index(pid), code=os.waitstatus_to_exitcode(status))
    return 0


def _fork(number: int, hosts: Sequence[RankHost], rank: Rank, handlers: Handlers, reports: int) -> int:
    """The process of a rank, which has all of its own from here on."""
    server = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        for handle in hosts[number].files:
            os.close(handle)
        return pid
    os.close(reports)
    for other in hosts[number + 1 :]:
        for handle in other.files:
            os.close(handle)
    _become(number, hosts[number], rank, handlers, server)


def _become(number: int, host: RankHost, rank: Rank, handlers: Handlers, server: int) -> NoReturn:
    """Be a rank to the end. Destructors of process groups are not waited for: their peers may be gone."""
    code = RunError.exit_code
    try:
        die_with_parent(server)
        os.setsid()  # Ctrl-C reaches the supervisor alone
        for signal_number, handler in handlers.items():
            signal.signal(signal_number, handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            host.move_in()
        except OSError as error:
            sys.exit(f"rank {number} cannot start: {_why(error)}")
        code = rank(number, host)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _why(error: Exception) -> str:
    """What the system says, with the file that it is about; else what the error is."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _report(to: int, **what: object) -> None:
    os.write(to, json.dumps(what).encode() + b"\n")
