# SPDX-License-Identifier: Apache-2.0
"""The processes of ranks as their starter sees them: forked by a server (:mod:`commbench.live.fork_server`).

No torch here. However the starter ends, the kernel ends the server with it, and the ranks with the server.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from commbench.errors import CheckFailedError, CommbenchError, InputError, RunError
from commbench.live.blame import is_stopped
from commbench.live.rank_host import RankHost, hosts_to_json
from commbench.live.start import module_command

__all__ = ["ForkedRanks"]

_GRACE_S = 0.5  # from asking a rank to end to ending it
_POLL_S = 0.01
_ERRORS = {error.exit_code: error for error in (CheckFailedError, InputError, RunError)}


class ForkedRanks:
    """Ranks by number, from 0.

    Args:
        module: program of this package that calls :func:`~commbench.live.fork_server.serve`; with its arguments.
        hosts: of every rank.
        variables: environment of all ranks, on top of which each has its host's.
        output: where the server prints, and ranks whose hosts name no file.

    Raises:
        RunError: the server does not start.
    """

    def __init__(
        self, module: Sequence[str], hosts: Sequence[RankHost], variables: Mapping[str, str], output: IO[bytes]
    ) -> None:
        command = module_command(*module)
        try:
            # a session of its own: Ctrl-C reaches the supervisor alone, which then ends the ranks
            self._server = subprocess.Popen(
                command,
                env=dict(variables) | {"COMMBENCH_PARENT": str(os.getpid())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=[handle for host in hosts for handle in host.files],
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"ranks cannot start: {command[0]}: {error.strerror}") from error
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._reports = self._server.stdout
        os.set_blocking(self._reports.fileno(), False)
        self._heard = b""
        self._codes: list[int | None] = [None] * len(hosts)
        self._error: CommbenchError | None = None
        self.pids: tuple[int, ...] = ()
        with suppress(BrokenPipeError), self._server.stdin as pipe:  # its end is seen later
            pipe.write(hosts_to_json(hosts).encode())

    def codes(self) -> list[int | None]:
        """Exit code of every rank, None while it runs; one that a signal has ended has minus the signal's number.

        What ends the server ends all ranks.

        Raises:
            CommbenchError: ranks could not be started.
        """
        ended = self._server.poll()
        self._hear()
        if self._error is not None:
            raise self._error
        return [ended if code is None else code for code in self._codes]

    def wait_pids(self, within_s: float) -> tuple[int, ...]:
        """The processes of all ranks, once they are there; () if they are not in time."""
        deadline = time.monotonic() + within_s
        while not self.pids and time.monotonic() < deadline and None in self.codes():
            time.sleep(_POLL_S)
        return self.pids

    def running(self) -> list[int]:
        """Ranks that were running when last asked for codes."""
        return [rank for rank, code in enumerate(self._codes) if code is None and self.pids]

    def stopped(self) -> list[int]:
        """Ranks that are stopped, by a signal or a debugger: all while the one that loads torch for them is."""
        if not self.pids and is_stopped(self._server.pid):
            return list(range(len(self._codes)))
        return [rank for rank, pid in enumerate(self.pids) if is_stopped(pid)]

    def send(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to a rank, if it runs."""
        if self.pids and self._codes[rank] is None:
            with suppress(ProcessLookupError):
                os.kill(self.pids[rank], number)

    def end(self) -> None:
        """End the ranks that still run: ask, then insist. None is left on return."""
        self._hear()
        self._send_all(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while self.pids and self._server.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._hear()
        self._send_all(signal.SIGKILL)
        if self.pids:
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(_GRACE_S)  # ends when it has seen the last of them
        self._server.kill()
        self._server.wait()
        self._reports.close()

    def _send_all(self, number: signal.Signals) -> None:
        for rank in self.running():
            self.send(rank, number)

    def _hear(self) -> None:
        """Take in what the server has said by now."""
        with suppress(BlockingIOError):
            while said := os.read(self._reports.fileno(), 2**16):
                self._heard += said
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "pids" in told:
                self.pids = tuple(told["pids"])
            elif "ended" in told:
                self._codes[told["ended"]] = told["code"]
            else:
                self._error = _ERRORS[told["code"]](told["error"])
