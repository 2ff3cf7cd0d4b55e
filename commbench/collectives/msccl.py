# SPDX-License-Identifier: Apache-2.0
"""A schedule from MSCCL XML: the file is checked (msccl_file), then its threadblocks become steps (msccl_lower)."""

from pathlib import Path

from commbench.collectives.msccl_file import parse
from commbench.collectives.msccl_lower import lower
from commbench.collectives.schedule import Schedule
from commbench.errors import ScheduleError

__all__ = ["from_msccl", "read_msccl"]


def read_msccl(path: Path, collective: str | None = None) -> Schedule:
    """The schedule in an MSCCL XML file; ``collective`` says what a "custom" one implements.

    Raises:
        ScheduleError: the file cannot be read, or breaks a rule of the format; names file, gpu, threadblock and step.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(f"{path}: cannot be read: {error}") from error
    return from_msccl(text, str(path), collective)


def from_msccl(text: str, place: str = "MSCCL XML", collective: str | None = None) -> Schedule:
    """The schedule that an XML text describes; ``place`` (a file name) opens every error message.

    It is not verified yet: that it is well formed does not make it right.

    Raises:
        ScheduleError: as :func:`read_msccl`.
    """
    return lower(parse(text, place, collective))
