# SPDX-License-Identifier: Apache-2.0
"""What a user gives to ``--algorithm``: a name from the registry, or a file, verified before use.

Files: ``.txt`` (a schedule in text form), ``.xml`` (MSCCL XML), and ``.py``, a Python file that defines
``build(request) -> Schedule`` with a :class:`commbench.collectives.algorithm.Request`. The Python file is executed: it
can do whatever its user can do.
"""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from os.path import isfile
from pathlib import Path
from types import ModuleType

import numpy as np

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import MOST_CONTRIBUTIONS, contributions, get_collective
from commbench.collectives.text import read_schedule
from commbench.errors import InputError, ScheduleError

__all__ = ["FILES", "is_path", "load_any", "load_file"]

FILES = (".txt", ".xml", ".py")


def is_path(name_or_path: str) -> bool:
    """Whether this means a file, not a name."""
    return "/" in name_or_path or name_or_path.endswith(FILES)


def load_any(collective: str, name_or_path: str) -> Algorithm:
    """The algorithm of this name, or the one that stands in the file.

    What a file builds is verified: a schedule at once, that of a Python file whenever it is built. It serves the one
    world, root and number of slices that it was written for, a Python file those that its ``build`` can.

    Raises:
        InputError: neither a known name nor a file.
        ScheduleError: the file holds no right schedule of this collective.
    """
    collective = get_collective(collective).name
    if not is_path(name_or_path):
        return get_algorithm(collective, name_or_path)
    path = Path(name_or_path)
    return _python(collective, path) if path.suffix == ".py" else _fixed(collective, path)


def load_file(path: Path, collective: str | None = None) -> Schedule:
    """The verified schedule in a .txt or .xml file, of ``collective`` if one is given.

    Raises:
        InputError: no such kind of file.
        ScheduleError: the file holds no right schedule, or one of another collective.
    """
    if path.suffix not in (".txt", ".xml"):
        raise InputError(f"{path}: a file of an algorithm ends in {', '.join(FILES)}")
    from commbench.collectives.msccl import read_msccl  # loads networkx

    collective = collective and get_collective(collective).name
    schedule = read_schedule(path) if path.suffix == ".txt" else read_msccl(path, collective)
    if collective not in (None, schedule.collective):
        raise ScheduleError(f"{path}: a schedule for {schedule.collective}, not for {collective}")
    _verify(path, schedule)
    return schedule


def _verify(path: Path, schedule: Schedule) -> None:
    from commbench.collectives.verify import verify

    n, table = schedule.num_ranks + schedule.num_switches, schedule.table.astype(np.int64)
    lanes = np.zeros(0, np.int64) if not len(table) else np.unique(table[:, 1] * schedule.num_channels + table[:, 2])
    for what, number in (
        ("contributions to its results", contributions(get_collective(schedule.collective), n, schedule.num_chunks)),
        ("chunks on all ranks", n * schedule.num_slots),
        ("steps on all ranks and channels", len(lanes) * schedule.num_steps),
    ):
        if number > MOST_CONTRIBUTIONS:
            raise ScheduleError(f"{path}: {number} {what} are too many to verify; at most {MOST_CONTRIBUTIONS}")
    try:
        verify(schedule)
    except ScheduleError as error:
        raise ScheduleError(f"{path}: {error}", grid=error.grid) from None


def _fixed(collective: str, path: Path) -> Algorithm:
    schedule = load_file(path, collective)

    def refuses(request: Request) -> str:
        if request.num_ranks != schedule.num_ranks:
            return f"in {path} is for {schedule.num_ranks} ranks, not {request.num_ranks}"
        if request.root != schedule.root:
            return f"in {path} has root {schedule.root}, not {request.root}"
        if request.slices > 1 or request.channels > 1:
            return f"in {path} cannot be cut into {request.slices} slices and {request.channels} channels"
        return ""

    return Algorithm(
        collective=collective,
        name=schedule.algorithm,
        build=lambda request: schedule,
        source=str(path),
        refuses=refuses,
        worlds=f"{schedule.num_ranks} ranks",
        live=schedule.num_switches == 0,
    )


def _python(collective: str, path: Path) -> Algorithm:
    """The algorithm of a Python file; it counts as one that depends on the size, because its ``build`` may."""
    module = _module(path)
    make = getattr(module, "build", None)
    if not callable(make):
        raise ScheduleError(f"{path}: it must define a function build(request) that returns a Schedule")

    @lru_cache(maxsize=64)
    def build(request: Request) -> Schedule:
        schedule = _guarded(path, f"build({request})", lambda: make(request))
        if not isinstance(schedule, Schedule):
            raise ScheduleError(f"{path}: build returned {type(schedule).__name__}, not a Schedule")
        if (schedule.collective, schedule.num_ranks) != (collective, request.num_ranks):
            raise ScheduleError(
                f"{path}: build returned {schedule.collective} on {schedule.num_ranks} ranks, "
                f"not {collective} on {request.num_ranks}"
            )
        _verify(path, schedule)
        return schedule

    return Algorithm(
        collective=collective, name=path.stem, build=build, source=str(path), worlds="what its build can", sized=True
    )


def _module(path: Path) -> ModuleType:
    if not isfile(path):
        raise ScheduleError(f"{path}: cannot be read: there is no such file")
    name = f"commbench_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScheduleError(f"{path}: cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    loader = spec.loader
    _guarded(path, "loading it", lambda: loader.exec_module(module))
    return module


def _guarded(path: Path, what: str, call: Callable[[], object]) -> object:
    """What a call into the user's file returns.

    Raises:
        InputError: what the user's code raised itself on purpose.
        ScheduleError: anything else that it raised, sys.exit among it, with the line.
    """
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results alone
            return call()
    except (InputError, KeyboardInterrupt):  # Ctrl-C ends an endless loop there too
        raise
    except BaseException as error:
        import traceback

        own = (str(path), str(path.absolute()))
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
        line = f", line {lines[-1]}" if lines else ""
        raise ScheduleError(f"{path}{line}: {what} {_did(error)}") from error


def _did(error: BaseException) -> str:
    """What code did that raised this, in one line."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)}); it must not end the program"
    try:
        said = " ".join(str(error).split())
    except Exception:  # the user's own class may do anything
        said = "an error that cannot be shown"
    return f"raised {type(error).__name__}: {said}"
