# SPDX-License-Identifier: Apache-2.0
"""What a user gives to ``--algorithm``: a name from the registry, or the path of a schedule, verified before use."""

from pathlib import Path

from commbench.collectives.registry import get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.text import read_schedule
from commbench.collectives.verify import verify
from commbench.errors import ScheduleError

__all__ = ["load_algorithm"]


def load_algorithm(collective: str, name_or_path: str) -> str | Schedule:
    """The algorithm's proper name, or the verified schedule that stands in the file.

    Raises:
        InputError: neither a known name nor a file.
        ScheduleError: the file holds no right schedule of this collective.
    """
    if "/" not in name_or_path and not name_or_path.endswith(".txt"):
        return get_algorithm(collective, name_or_path).name
    schedule = read_schedule(Path(name_or_path))
    if schedule.collective != collective:
        raise ScheduleError(f"{name_or_path}: a schedule for {schedule.collective}, not for {collective}")
    verify(schedule)
    return schedule
