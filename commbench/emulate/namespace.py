# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by name: make, enter and remove them, where iproute2 keeps them too.

No process is forked for any of this, threads do it: a fork would inherit signal handlers, and with them the duty to
take the testbed away.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from commbench.live.system import call, enter_network

__all__ = ["NAMESPACES", "create", "enter", "inside", "remove"]

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h
_BIND = 0x1000  # MS_BIND, linux/mount.h
_DETACH = 2  # MNT_DETACH, linux/fs.h


def create(name: str) -> None:
    """Make a namespace.

    Raises:
        OSError: there is one of that name, or it is not permitted.
    """
    NAMESPACES.mkdir(parents=True, exist_ok=True)
    path = NAMESPACES / name
    path.touch(exist_ok=False)

    def unshare() -> None:
        call("unshare", _NEW_NETWORK)
        call("mount", b"/proc/thread-self/ns/net", str(path).encode(), None, _BIND, None)

    _in_thread(unshare)


def remove(name: str) -> None:
    """Let go of a namespace; the kernel takes it back when no process is in it. One that is not there is no error."""
    path = NAMESPACES / name
    if path.exists():
        if path.stat().st_dev != path.parent.stat().st_dev:  # else the empty file that nothing was mounted on
            call("umount2", str(path).encode(), _DETACH)
        path.unlink()


def enter(name: str) -> None:
    """Move the calling thread into a namespace; sockets stay where they were made.

    Raises:
        OSError: there is no such namespace, or it may not be entered.
    """
    enter_network(NAMESPACES / name)


def inside(name: str, do: Callable[[], T]) -> T:
    """Do something inside a namespace and return its result; this thread stays where it is."""

    def go() -> T:
        enter(name)
        return do()

    return _in_thread(go)


def _in_thread(do: Callable[[], T]) -> T:
    """The result of a function that leaves its thread in another namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def go() -> None:
        try:
            results.append(do())
        except BaseException as error:  # raised again by the caller
            errors.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
