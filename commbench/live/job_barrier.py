# SPDX-License-Identifier: Apache-2.0
"""Where runs that go on at the same time wait for each other before each iteration, so that they do contend.

They meet by way of files, as they may have no network in common. Rank 0 of each run comes to the
barrier between jobs; its other ranks wait for it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["JobBarrier"]

_VARIABLE = "COMMBENCH_GATE"
_POLL_S = 0.01
_POLLS_TO_START = 3  # from the last run's coming until all go on: enough for each to have seen it


@dataclass(slots=True)
class JobBarrier:
    """One run's side of the barrier between jobs.

    Attributes:
        folder: private to these runs. run: number of this one. num_runs: how many there are.
    """

    folder: Path
    run: int
    num_runs: int
    _round: int = field(default=0, init=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "JobBarrier | None":
        """The barrier that the starter of this rank has named; None for a run alone."""
        if _VARIABLE not in environment:
            return None
        run, num_runs, folder = environment[_VARIABLE].split(":", 2)
        return cls(Path(folder), int(run), int(num_runs))

    @property
    def variables(self) -> dict[str, str]:
        """What to put into the environment of the ranks of this run."""
        return {_VARIABLE: f"{self.run}:{self.num_runs}:{self.folder}"}

    def wait(self, tick: Callable[[], None]) -> None:
        """Return when every run is here or has left, in all of them at one moment; ``tick`` is called while it waits.

        The moment is a little after the last mark was made, which is the same time for all who look.
        """
        self._mark(self._round, self.run).touch()
        while not all(
            self._mark(self._round, run).exists() or self._left(run).exists() for run in range(self.num_runs)
        ):
            tick()
            time.sleep(_POLL_S)
        marks = (self._mark(self._round, run) for run in range(self.num_runs))
        last_s = max(mark.stat().st_mtime for mark in marks if mark.exists())
        pause_s = _POLLS_TO_START * _POLL_S
        time.sleep(min(max(0.0, last_s + pause_s - time.time()), pause_s))
        self._round += 1

    def leave(self) -> None:
        """Nobody need wait for this run any longer."""
        self._left(self.run).touch()

    def _mark(self, number: int, run: int) -> Path:
        return self.folder / f"round{number}.{run}"

    def _left(self, run: int) -> Path:
        return self.folder / f"left.{run}"
