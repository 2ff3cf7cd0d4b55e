# SPDX-License-Identifier: Apache-2.0
"""One command, start to end: wall-clock seconds of the whole process and the most memory it ever held.

Linux counts the memory of the process that starts another as that one's own until it has become its own program, so a
big parent would show as the peak of every small child. Commands are therefore started by a small process: this file
itself, run by a bare interpreter. What a command needs below that one's 13 MiB cannot be seen.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Finished", "run"]

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended: wall-clock and processor seconds, peak resident set, exit status, what it wrote."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    status: int
    stdout: str
    stderr: str


def run(command: Sequence[str]) -> Finished:
    """Run a command to its end and measure it."""
    starter = [sys.executable, "-I", "-S", __file__, *command]
    done = subprocess.run(starter, capture_output=True, text=True, check=True)
    return Finished(**json.loads(done.stdout))


def _measure(command: Sequence[str]) -> dict[str, object]:
    """Start, wait, and what the system says about the child: ru_maxrss is in KiB on Linux, in bytes on macOS."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else _KIB),
        "status": child.returncode,
        "stdout": texts[0],
        "stderr": texts[1],
    }


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1:])))
