# SPDX-License-Identifier: Apache-2.0
"""A progress bar on stderr for work that takes more than a second, when a terminal watches."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

_SHOW_AFTER_S = 1.0


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with the share of the work that is done; the bar estimates the time left."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=1.0)
    began = time.monotonic()

    def update(share: float) -> None:
        bar.update(task, completed=share)
        if not bar.live.is_started and time.monotonic() - began > _SHOW_AFTER_S:
            bar.start()

    try:
        yield update
    finally:
        bar.stop()
