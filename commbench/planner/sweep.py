# SPDX-License-Identifier: Apache-2.0
"""Many plans: one after the other here, or on Dask's workers; each is a record as soon as it is there.

A plan is known by the digest of what asked for it (:attr:`Planned.task`), so that a sweep that was cut can go on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any

from commbench.errors import CommbenchError, InputError
from commbench.planner.plan import Wishes, make_plan
from commbench.planner.search import Say, silent
from commbench.results.kinds import record_from_json
from commbench.results.plans import Planned

__all__ = ["Failed", "PlanTask", "sweep", "tasks_of"]


@dataclass(frozen=True, slots=True)
class PlanTask:
    """One plan to be made: options by name, and wishes."""

    given: Mapping[str, Any]
    wishes: Wishes

    @property
    def digest(self) -> str:
        """The same for the same options and wishes."""
        text = json.dumps([self.given, asdict(self.wishes)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Failed:
    """A plan that could not be made, and why."""

    task: PlanTask
    problem: str


def tasks_of(every: Sequence[Mapping[str, Any]], wishes: Wishes, known: Sequence[object]) -> list[PlanTask]:
    """What of a sweep is left; ``known``: records that are there."""
    done = {one.task for one in known if isinstance(one, Planned)}
    return [task for task in (PlanTask(given, wishes) for given in every) if task.digest not in done]


def sweep(
    tasks: Sequence[PlanTask], *, workers: int | None = None, scheduler: str | None = None, say: Say = silent
) -> Iterator[Planned | Failed]:
    """Make plans, in the order in which they are done.

    Args:
        tasks: see tasks_of. workers: processes to start on this machine. scheduler: of Dask, such as tcp://head:8786.
        say: is told how far each search is, where it is made here.

    Raises:
        InputError: both or a number below 1; Dask is not installed, or its scheduler does not answer.
    """
    if workers is None and scheduler is None:
        yield from (_read(task, _made(task.given, asdict(task.wishes), say)) for task in tasks)
        return
    if not tasks:
        return
    with _client(workers, scheduler) as (dask, client):
        futures = client.map(
            _made, [dict(task.given) for task in tasks], [asdict(task.wishes) for task in tasks], pure=False
        )
        of = dict(zip((future.key for future in futures), tasks, strict=True))
        for future in dask.as_completed(futures):
            task = of[future.key]
            if future.status == "finished":
                yield _read(task, future.result())
            else:  # killed more often than Dask tries anew
                yield Failed(task, str(future.exception()))


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[tuple[Any, Any]]:
    """Dask and a client of it, of workers of its own or of a scheduler that runs; closed behind."""
    if workers is not None and scheduler is not None:
        raise InputError("--workers and --scheduler: give one of them, not both")
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError(f"--workers {workers}: must be 1 to 1024")
    try:
        dask: Any = import_module("distributed")
    except ImportError:
        raise InputError("--workers and --scheduler need Dask: pip install 'commbench[dask]'") from None
    try:
        if scheduler is not None:
            cluster, client = None, dask.Client(scheduler, timeout=10)
        else:
            cluster = dask.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            )
            client = dask.Client(cluster)
    except (OSError, ValueError) as error:
        raise InputError(f"--scheduler {scheduler}: {error}") from None
    try:
        yield dask, client
    finally:
        client.close(timeout=2)
        if cluster is not None:
            cluster.close(timeout=10)


def _made(given: Mapping[str, Any], wishes: Mapping[str, Any], say: Say = silent) -> tuple[bool, str]:
    """Whether the plan could be made, and its record as JSON or the problem; what workers run."""
    task = PlanTask(given, Wishes(**wishes))
    try:
        return True, replace(make_plan(given, task.wishes, say), task=task.digest).to_json()
    except CommbenchError as error:
        return False, str(error)


def _read(task: PlanTask, made: tuple[bool, str]) -> Planned | Failed:
    good, text = made
    if not good:
        return Failed(task, text)
    record = record_from_json(text, "a worker's answer")
    assert isinstance(record, Planned)
    return record
