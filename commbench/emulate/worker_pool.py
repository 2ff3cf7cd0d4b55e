# SPDX-License-Identifier: Apache-2.0
"""One process in every host of a testbed that stays for many runs, so that torch is loaded once and not for each.

``run_jobs`` starts ranks anew for each run, as users do; a campaign of a hundred runs would spend its time on that.
The ranks take real-time priority where they may: they mostly wait, and then want to run at once, also on a machine that
has other work.
"""

import json
import os
import select
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from commbench.emulate.testbed import Testbed
from commbench.errors import RunError
from commbench.live.forked import ForkedRanks
from commbench.live.job_barrier import JobBarrier
from commbench.live.plan import Plan
from commbench.live.rank_host import RankHost
from commbench.results.journal import read_records
from commbench.results.records import Measured

__all__ = ["Task", "WorkerPool"]

_START_S = 180.0  # sixteen ranks load torch on two busy cores
_BEYOND_S = 60.0  # torch's own timeout comes later than the pool's, which knows more


@dataclass(frozen=True, slots=True)
class Task:
    """One run: ``plan`` on the hosts of ``ranks`` of the topology, in that order. Records go to a file of the pool."""

    plan: Plan
    ranks: tuple[int, ...]


class WorkerPool:
    """The processes of a testbed's hosts, while the ``with`` block runs.

    Args:
        testbed: to run in; it is made before and taken away after.
        ranks: of the topology, whose hosts have a process.

    Raises:
        RunError: on entry: a process does not start.
    """

    def __init__(self, testbed: Testbed, ranks: Sequence[int]) -> None:
        self._testbed = testbed
        self._ranks = tuple(ranks)
        self._folder = tempfile.TemporaryDirectory(prefix="commbench-pool-")
        self._workers: ForkedRanks | None = None
        self._orders: dict[int, int] = {}
        self._replies: dict[int, int] = {}
        self._runs = 0

    def __enter__(self) -> "WorkerPool":
        try:
            self._workers = self._start()
            self._wait(self._ranks, _START_S)
            self._testbed.note_processes(self._workers.wait_pids(_START_S), "rank")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def pid_of(self, rank: int) -> int | None:
        """Process of a rank of the topology, None where there is none."""
        if self._workers is None or rank not in self._ranks:
            return None
        number = self._ranks.index(rank)
        return self._workers.pids[number] if self._workers.codes()[number] is None else None

    def run(self, tasks: Sequence[Task], timeout_s: float) -> list[list[Measured]]:
        """Run tasks at the same time, on hosts that no two share, and return the records of each.

        Raises:
            RunError: a rank failed, or did not answer in time; the pool is of no use any longer.
        """
        self._runs += 1
        folder = Path(self._folder.name, f"run{self._runs}")
        folder.mkdir()
        barriers = [JobBarrier(folder, number, len(tasks)) for number in range(len(tasks))]
        for number, task in enumerate(tasks):
            order = {
                "plan": task.plan.to_json(),
                "store": str(folder / f"store{number}"),
                "out": str(folder / f"records{number}.jsonl"),
                "timeout_s": timeout_s + _BEYOND_S,
                "variables": dict(barriers[number].variables) if len(tasks) > 1 else {},
            }
            for own, rank in enumerate(task.ranks):
                self._send(rank, {**order, "rank": own})
        self._wait([rank for task in tasks for rank in task.ranks], timeout_s)
        files = [folder / f"records{number}.jsonl" for number in range(len(tasks))]
        return [[r for r in read_records(file) if isinstance(r, Measured)] for file in files]

    def _start(self) -> ForkedRanks:
        hosts = self._testbed.rank_hosts(self._ranks)
        places = [self._equipped(rank, host) for rank, host in zip(self._ranks, hosts, strict=True)]
        try:
            with Path(self._folder.name, "output").open("wb") as output:
                variables = os.environ | {"OMP_NUM_THREADS": "1"}
                return ForkedRanks(("commbench.emulate.worker",), places, variables, output)
        finally:
            for handle in (handle for place in places for handle in place.files):
                os.close(handle)

    def _equipped(self, rank: int, host: RankHost) -> RankHost:
        """The host of a worker, with the pipes that orders come by and answers go to."""
        takes, self._orders[rank] = os.pipe()
        self._replies[rank], says = os.pipe()
        output = self._output(rank)
        output.touch()
        return replace(host, realtime=True, output=str(output), files=(takes, says))

    def _output(self, rank: int) -> Path:
        return Path(self._folder.name, f"output{rank}")

    def _send(self, rank: int, order: dict[str, object]) -> None:
        try:
            os.write(self._orders[rank], json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise RunError(f"rank {rank} of the testbed has ended") from None

    def _wait(self, ranks: Sequence[int], timeout_s: float) -> None:
        """Return when each of them has said that all is well."""
        waiting = {self._replies[rank]: rank for rank in ranks}
        deadline = time.monotonic() + timeout_s
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                late = sorted(waiting.values())
                raise RunError(f"ranks {late} of the testbed have not answered for {timeout_s:.0f} s")
            for pipe in ready:
                rank = waiting.pop(pipe)
                said = os.read(pipe, 4096).decode().strip()
                if said != "ok":
                    if self._workers is not None:
                        self._workers.codes()  # raises where none could be started
                    raise RunError(f"rank {rank} of the testbed: {said or self._last_words(rank)}")

    def _last_words(self, rank: int) -> str:
        lines = self._output(rank).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "ended without a word"

    def _end(self) -> None:
        if self._workers is not None:
            self._workers.end()
        for pipe in (*self._orders.values(), *self._replies.values()):
            os.close(pipe)
        self._folder.cleanup()
