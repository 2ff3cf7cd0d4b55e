# SPDX-License-Identifier: Apache-2.0
"""Commands to measure: commbench's own, and what to do when one fails."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import process
from commbench.errors import InputError, RunError

__all__ = ["commbench", "run_checked"]

_BAD_INPUT = 2
_LAST = 400  # characters of a failed command's words to show


def commbench(*arguments: str) -> list[str]:
    """The command line as a user has it: the script beside this Python, or the module where there is no script."""
    script = Path(sys.executable).with_name("commbench")
    return [str(script), *arguments] if script.exists() else [sys.executable, "-m", "commbench", *arguments]


def run_checked(command: Sequence[str], *, allowed: Sequence[int] = (0,)) -> process.Finished:
    """Run and measure a command.

    Raises:
        InputError: it refuses its input (exit code 2): this commbench cannot do what was asked.
        RunError: it ends in any other way that is not allowed.
    """
    done = process.run(command)
    if done.status in allowed:
        return done
    words = " ".join(done.stderr.split())[-_LAST:]
    kind = InputError if done.status == _BAD_INPUT else RunError
    raise kind(f"{shlex.join([Path(command[0]).name, *command[1:]])}: exit code {done.status}: {words}")
