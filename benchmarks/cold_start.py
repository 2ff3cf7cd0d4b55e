# SPDX-License-Identifier: Apache-2.0
"""How long a user waits for an answer that takes no work: whole processes, in the order in which they were run.

The first run of each finds whatever the system and the compiler keep as the last run left it; after `make` the
compiled engine's code is there. The other repetitions show what is left when the disk has been read.
"""

import shlex
from collections.abc import Callable, Iterator

from benchmarks.commands import commbench, run_checked
from benchmarks.records import ColdStart

__all__ = ["cold_start"]

COMMANDS = (("--help",), ("sim", "all-reduce", "--topology", "dgx-h100"))


def cold_start(repeats: int, tell: Callable[[str], None]) -> Iterator[ColdStart]:
    """The walls of every command, the first one apart from the rest."""
    for arguments in COMMANDS:
        words = shlex.join(["commbench", *arguments])
        tell(words)
        walls = tuple(run_checked(commbench(*arguments)).wall_s for _ in range(repeats + 1))
        yield ColdStart(command=words, walls_s=walls)
