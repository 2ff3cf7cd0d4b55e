# SPDX-License-Identifier: Apache-2.0
"""What Linux does for a process that Python has no call for. Light: every rank and every flow of a testbed has it."""

import ctypes
import os
import signal
import sys
from pathlib import Path

__all__ = ["call", "die_with_parent", "enter_network", "take_realtime_priority"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h
_PRIORITY = 1  # the lowest that is real-time: above all that is not, below what the system itself needs


def call(name: str, *arguments: object) -> None:
    """Call a function of libc that returns 0 if all is well.

    Raises:
        OSError: it did not.
    """
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that ends (Linux only).

    Args:
        parent: the process that started this one.
    """
    if sys.platform != "linux":
        return
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it ended before the kernel was told


def enter_network(path: Path) -> None:
    """Move the calling thread into the network namespace of this file; sockets stay where they were made.

    Raises:
        OSError: there is no such namespace, or it may not be entered.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("setns", handle, _NEW_NETWORK)
    finally:
        os.close(handle)


def take_realtime_priority() -> None:
    """Real-time priority, for threads to come as well, for ranks that mostly wait and then want to run at once.

    Also on a machine that has other work. Without the right to it, the usual one.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError:
        print("no right to real-time priority; on a busy machine times will be too long", file=sys.stderr)
