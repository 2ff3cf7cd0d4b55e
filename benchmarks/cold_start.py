# SPDX-License-Identifier: Apache-2.0
"""How long a user waits for an answer that takes no work: whole processes, all commands in turns.

Python alone and with numpy stand beside them: the ratio to numpy's import, of processor time, holds on a busy or slow
machine too. The first run of each finds whatever the system and the compiler keep as the last run left it; after
`make` the compiled engine's code is there. The other repetitions show what is left when the disk has been read.
"""

import shlex
import sys
from collections.abc import Callable, Iterator

from benchmarks.commands import commbench, run_checked
from benchmarks.process import Finished
from benchmarks.records import ColdStart

__all__ = ["NUMPY", "cold_start"]

NUMPY = "python -c 'import numpy'"
"""The command that others are told as multiples of."""

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    NUMPY: [sys.executable, "-c", "import numpy"],
} | {
    shlex.join(["commbench", *words]): commbench(*words)
    for words in (
        ("--help",),
        ("sim", "all-reduce", "--topology", "dgx-h100"),
        ("sim", "all-reduce", "--topology", "fat-tree-64", "--detail", "transfer"),  # loads the compiled engine
    )
}


def cold_start(repeats: int, tell: Callable[[str], None]) -> Iterator[ColdStart]:
    """The seconds of every command, the first run apart from the rest."""
    tell(", ".join(COMMANDS))
    runs: dict[str, list[Finished]] = {words: [] for words in COMMANDS}
    for _ in range(repeats + 1):
        for words, command in COMMANDS.items():
            runs[words].append(run_checked(command))
    for words, done in runs.items():
        yield ColdStart(
            command=words, walls_s=tuple(each.wall_s for each in done), cpus_s=tuple(each.cpu_s for each in done)
        )
