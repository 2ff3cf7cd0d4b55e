# SPDX-License-Identifier: Apache-2.0
"""Where the ranks of a local run and their supervisor leave things for each other."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SessionFiles"]


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """Paths inside the private folder of one local run."""

    folder: Path

    @property
    def job(self) -> Path:
        """What to do, written before the ranks start."""
        return self.folder / "job.json"

    @property
    def store(self) -> Path:
        """The file that torch.distributed meets through: no port, so no race for one."""
        return self.folder / "store"

    @property
    def facts(self) -> Path:
        """Facts of the session, written by rank 0 once the ranks have met."""
        return self.folder / "facts.json"

    def progress(self, rank: int) -> Path:
        """Where the rank is."""
        return self.folder / f"progress.{rank}"

    def failure(self, rank: int) -> Path:
        """The error it ended in."""
        return self.folder / f"failure.{rank}"

    def output(self, rank: int) -> Path:
        """What it printed."""
        return self.folder / f"output.{rank}"

    def stack(self, rank: int) -> Path:
        """Where its threads were, when it was asked (SIGUSR1)."""
        return self.folder / f"stack.{rank}"
