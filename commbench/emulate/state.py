# SPDX-License-Identifier: Apache-2.0
"""What a testbed has made, on record before it is made, so that it can be taken away whoever is left to do it.

One file per testbed names its namespaces, its interfaces and its processes. It takes them away itself at its end, and
:func:`clean` does for those whose owner is gone: the same function for both. Links live in the namespaces and go with
them; processes are found by the namespaces they are in, so one that nobody could record is found too.

A record is believed only as far as it can be checked: it is this user's own file, names namespaces as they are named,
and of its processes those are ended that are this user's, are commbench's and began when it says.
"""

import json
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from commbench.emulate import namespace
from commbench.emulate.namespace import NAMESPACES
from commbench.errors import RunError

__all__ = [
    "NAMESPACES",
    "STATE_VARIABLE",
    "Process",
    "TestbedState",
    "clean",
    "list_testbeds",
    "process",
    "remove",
    "state_folder",
    "write",
]

STATE_VARIABLE = "COMMBENCH_STATE"
_END_S = 5.0  # for the kernel to take back what a killed process had
_LARGEST_BYTES = 2**24  # of a record; that of 1024 hosts has a quarter of a MiB
_LAB = r"cb[0-9a-f]+"
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Process:
    """A process by its number and the time it was started at (clock ticks since boot), for numbers come back."""

    __pydantic_config__ = _STRICT

    pid: Annotated[int, Field(gt=1, lt=2**31)]  # pid_t
    started: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    what: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return _started(self.pid) == self.started

    @property
    def ours(self) -> bool:
        """Whether it still runs, is this user's, and is one that commbench has started."""
        proc = Path(f"/proc/{self.pid}")
        try:
            mine = proc.stat().st_uid == os.geteuid() and b"commbench" in proc.joinpath("cmdline").read_bytes()
        except OSError:
            return False
        return mine and self.alive


def process(pid: int, what: str) -> Process:
    """A process that runs now; one that has just ended never counts as alive."""
    return Process(pid, _started(pid) or -1, what)


@dataclass(frozen=True, slots=True)
class TestbedState:
    """What is on record of one testbed.

    Attributes:
        lab: its name. owner: the process that made it. namespaces: by name. interfaces: by namespace.
        processes: that were started for it.
    """

    __pydantic_config__ = _STRICT

    lab: Annotated[str, Field(pattern=f"^{_LAB}$")]
    owner: Process
    namespaces: tuple[str, ...]
    interfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()

    def with_processes(self, found: Iterable[Process]) -> "TestbedState":
        """The state with more processes."""
        return replace(self, processes=(*self.processes, *found))


_RECORD = TypeAdapter(TestbedState)


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """``$COMMBENCH_STATE``, else ``/run/commbench``."""
    return Path(environment.get(STATE_VARIABLE) or "/run/commbench")


def write(state: TestbedState, folder: Path) -> None:
    """Put the state on record; returns when it is on disk.

    Raises:
        RunError: it cannot be written.
    """
    path = _path(state.lab, folder)
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(state), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise RunError(f"{path}: the testbed cannot be put on record: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def list_testbeds(folder: Path) -> list[TestbedState]:
    """The testbeds on record, by name.

    Raises:
        RunError: a file that is no testbed's record; names it.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def clean(folder: Path, tell: Callable[[str], None]) -> int:
    """Take away the testbeds whose owner is gone; how many there were. Calling it again finds nothing to do.

    Raises:
        RunError: after all others: files that are no record of this user's testbed, or what could not be taken away.
    """
    count, refused = 0, []
    for path in sorted(folder.glob("*.json")):
        try:
            state = _read(path)
            if state.owner.alive:
                tell(f"{state.lab}: left alone, process {state.owner.pid} is using it")
                continue
            ended = remove(state, folder)
        except RunError as error:
            refused.append(str(error))
            continue
        tell(f"{state.lab}: {len(state.namespaces)} namespaces removed, {ended} processes ended")
        count += 1
    if refused:
        raise RunError("; ".join(refused))
    return count


def remove(state: TestbedState, folder: Path) -> int:
    """Take one testbed away: its processes, its namespaces with all links in them, its record; how many processes.

    Raises:
        RunError: a process or a namespace stays; names it. The record stays too.
    """
    paths = [NAMESPACES / name for name in state.namespaces]
    ended = _kill({*_inside(paths), *(p.pid for p in state.processes if p.ours)} - {os.getpid()})
    for path in paths:
        try:
            namespace.remove(path.name)
        except OSError as error:
            raise RunError(f"namespace {path.name} cannot be removed: {error.strerror}") from error
    _path(state.lab, folder).unlink(missing_ok=True)
    return ended


def _kill(pids: set[int]) -> int:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + _END_S
    while left := [pid for pid in pids if _started(pid) is not None]:
        if time.monotonic() > deadline:
            raise RunError(f"processes {', '.join(map(str, left))} of the testbed cannot be ended")
        time.sleep(0.01)
    return len(pids)


def _inside(paths: Iterable[Path]) -> set[int]:
    """Processes in these namespaces, which are not that of the machine, nor the one that we are in."""
    own = (_identity(Path(f"/proc/{pid}/ns/net")) for pid in (1, "self"))
    wanted = {_identity(path) for path in paths} - {None, *own}
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if _identity(Path(f"/proc/{pid}/ns/net")) in wanted}


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a namespace from others, however it is called; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _started(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if it has ended. proc(5), /proc/pid/stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _path(testbed: str, folder: Path) -> Path:
    return folder / f"{testbed}.json"


def _read(path: Path) -> TestbedState:
    """One testbed's record.

    Raises:
        RunError: it is none, or not this user's; names it.
    """
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_BYTES:
            raise RunError(f"{path}: is no record of a testbed, which is a small file; look what it is and delete it")
        if about.st_uid != os.geteuid():
            raise RunError(f"{path}: left alone, it is the file of user {about.st_uid}")
        state = _RECORD.validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = ".".join(map(str, first["loc"])) + f": {first['msg']}" if first["loc"] else first["msg"]
        raise RunError(f"{path}: is no record of a testbed ({why}); look what it is and delete it") from error
    if path.stem != state.lab:
        raise RunError(f"{path}: is the record of another testbed, {state.lab}; look what it is and delete it")
    for name in state.namespaces:  # what is removed is never more than what this testbed made
        if not re.fullmatch(rf"{state.lab}-[\w-]+", name, re.ASCII):
            raise RunError(f"{path}: namespace {name!r} is not named after the testbed {state.lab}")
    return state
