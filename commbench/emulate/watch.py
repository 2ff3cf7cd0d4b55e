# SPDX-License-Identifier: Apache-2.0
"""Whether a testbed still is what its records say: records measured without a background flow are taken back."""

import json
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from commbench.live.blame import is_stopped
from commbench.results.failures import FailedRun

__all__ = ["BackgroundFlow", "blank", "size_of"]


@dataclass(frozen=True, slots=True)
class BackgroundFlow:
    """A background flow as it was started.

    Attributes:
        process: that has both ends. what: as it is called. num_bytes: 0 goes on until the testbed ends.
    """

    process: subprocess.Popen[str]
    what: str
    num_bytes: int
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def trouble(self) -> str:
        """What has happened to it, how long after its start and when; "" while it is well, or has sent all it had."""
        code = self.process.poll()
        if code is None:
            how = "was stopped by a signal" if is_stopped(self.process.pid) else ""
        elif code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        else:
            how = "" if self.num_bytes and code == 0 else f"ended with exit code {code}"
        if not how:
            return ""
        after = time.monotonic() - self._began_s
        return f"{self.what} {how}, {after:.1f} s after its start, at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def size_of(journal: Path) -> int:
    """Bytes that a journal has by now."""
    return journal.stat().st_size if journal.exists() else 0


def blank(journal: Path, since: int, runs: Collection[str]) -> int:
    """Take back what these runs have recorded since the journal had so many bytes; how many measurements.

    With them goes what blames a rank for an end that it had no part in. Their lines become blank where they are, so
    that others may write there meanwhile.
    """
    if size_of(journal) <= since:
        return 0
    count, place = 0, since
    with journal.open("r+b", buffering=0) as file:
        file.seek(since)
        for line in file.read().split(b"\n")[:-1]:
            record = json.loads(line) if line.strip() else {}
            if record.get("run") in runs:
                file.seek(place)
                file.write(b" " * len(line))
                count += record.get("kind") != FailedRun.kind
            place += len(line) + 1
    return count
