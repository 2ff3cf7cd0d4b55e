# SPDX-License-Identifier: Apache-2.0
"""What people read: results on stdout, everything else on stderr, coloured where a terminal shows it.

A pipe, a file, NO_COLOR and TERM=dumb get the text as it is; JSON does not come through here.
"""

import os
import sys
from collections.abc import Mapping
from typing import TextIO

__all__ = ["put", "tell"]

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
