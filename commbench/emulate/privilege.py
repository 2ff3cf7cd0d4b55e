# SPDX-License-Identifier: Apache-2.0
"""The right to make network namespaces: root has it, and others may have it inside a user namespace of their own."""

import os
import sys
from pathlib import Path

from commbench.errors import RunError
from commbench.live.system import call

__all__ = ["gain", "missing"]

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x20000, 0x10000000, 0x40000000  # CLONE_*, linux/sched.h
_RECURSIVE, _PRIVATE = 0x4000, 0x40000  # MS_REC, MS_PRIVATE, linux/mount.h
_CAP_SYS_ADMIN, _CAP_NET_ADMIN = 21, 12  # linux/capability.h


def missing() -> str:
    """What this process lacks to make a testbed; "" if nothing."""
    if sys.platform != "linux":
        return f"network namespaces are Linux's; this is {sys.platform}"
    try:
        import pyroute2  # noqa: F401  only asks whether it is there
    except ImportError:
        return "pyroute2 is not installed: pip install 'commbench[emulate]'"
    have = _capabilities()
    lacks = [
        name for name, bit in (("SYS_ADMIN", _CAP_SYS_ADMIN), ("NET_ADMIN", _CAP_NET_ADMIN)) if not have >> bit & 1
    ]
    return f"not permitted: needs the capabilities {' and '.join(lacks)} (root has them)" if lacks else ""


def gain() -> None:
    """Make sure that this process may make a testbed: as it is, else by moving it into a user namespace.

    Must be called before the process has threads. In a user namespace the testbed is this process's own: gone with
    the process, and ``emulate --clean`` has nothing to do.

    Raises:
        RunError: it may not, with what is missing.
    """
    lacks = missing()
    if not lacks:
        return
    if "capabilities" not in lacks:
        raise RunError(f"no testbed can be made: {lacks}")
    try:
        _enter_user_namespace()
    except OSError as error:
        raise RunError(f"no testbed can be made: {lacks}; nor a user namespace: {error.strerror} ({_why()})") from error


def _enter_user_namespace() -> None:
    """Be root of a user namespace, with mounts of its own and an empty /run to keep namespaces in."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", _NEW_USER | _NEW_MOUNTS | _NEW_NETWORK)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    call("mount", b"tmpfs", b"/run", b"tmpfs", 0, None)


def _capabilities() -> int:
    """The effective ones, as bits; proc(5), /proc/pid/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("CapEff:")]
    return int(line.split()[1], 16)


def _why() -> str:
    """The settings that forbid user namespaces, as far as the system has them."""
    names = (
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
        "user/max_user_namespaces",
    )
    paths = (Path("/proc/sys", name) for name in names)
    found = [f"{path.name} is {path.read_text().strip()}" for path in paths if path.exists()]
    return ", ".join(found) or "the kernel has no user namespaces"
