# SPDX-License-Identifier: Apache-2.0
"""However a process that has ranks or a fabric is told to end, it ends by way of ``finally``, and whole."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["end_in_order", "undisturbed"]

# What the system does with a signal by default, where it is not to end the process; signal(7). A fault of the process
# itself cannot be handled in Python, and SIGKILL nowhere.
_NO_END = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGINFO", "SIGKILL"}
_FAULTS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGEMT"}
_ENDING = tuple(number for number in signal.Signals if number.name not in _NO_END | _FAULTS)


def end_in_order() -> None:
    """Let every signal that would end this process raise SystemExit, or KeyboardInterrupt, in its main thread.

    What somebody has told the process to ignore (nohup) stays ignored. After the first signal all others are: nothing
    disturbs what is done at the end. A reader that has gone away is an error where something is written.
    """
    for number in _ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back signals of the main thread until the block is over: what it takes away is taken away whole."""
    came: list[int] = []
    held = {}
    if threading.current_thread() is threading.main_thread():
        held = {number: signal.getsignal(number) for number in _ENDING}
        held = {number: handler for number, handler in held.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda which, _: came.append(which))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
