# SPDX-License-Identifier: Apache-2.0
"""What people read: results on stdout, everything else on stderr, coloured where a terminal shows it.

A pipe, a file, NO_COLOR and TERM=dumb get the text as it is; JSON does not come through here.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

__all__ = ["put", "sparing", "tell"]

_RESULTS: Mapping[str, str] = {
    r"(?m)^#.*$": "dim",  # nccl-tests' headers
    r"(?m)^.*\n ?─+$": "dim",  # the head of a table with a rule below it
    r"FELL SHORT|(?m:^DOES NOT FIT)": "not dim bold red",
    r"(?m)(?<=: )ok$": "not dim green",
}
_MESSAGES: Mapping[str, str] = {r"(?s)^error: .*": "red", r"(?m)^(note|warning): .*$": "yellow"}


def put(text: str, *, bad: bool = False) -> None:
    """A table, a row or a verdict on stdout; a ``bad`` one, with wrong values for example, is red."""
    _write(text, sys.stdout, _RESULTS, "red" if bad else "")


def tell(text: str) -> None:
    """A line of progress, a note, a warning or an error: on stderr, so that stdout stays for results."""
    _write(text, sys.stderr, _MESSAGES)


def sparing(
    say: Callable[[str], None], every_s: float = 2.0, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], None]:
    """The same for work that could speak at any time: what comes sooner than ``every_s`` after the last words, or
    after the beginning, is left out.
    """
    last = clock()

    def now_and_then(text: str) -> None:
        nonlocal last
        if clock() - last >= every_s:
            last = clock()
            say(text)

    return now_and_then


def _write(text: str, stream: TextIO, styles: Mapping[str, str], whole: str = "") -> None:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        print(text, file=stream, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    painted = Text(text, whole)
    for pattern, style in styles.items():
        painted.highlight_regex(pattern, style)
    Console(file=stream).print(painted, soft_wrap=True)  # the terminal breaks long lines, as it does plain ones
