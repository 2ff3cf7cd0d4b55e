# SPDX-License-Identifier: Apache-2.0
"""Passes: pure functions from schedule to schedule. What comes out is verified like anything else."""

import numpy as np

from commbench.collectives.schedule import COLUMNS, Schedule
from commbench.errors import ScheduleError

__all__ = ["add_channels", "pipeline"]

_STEP, _CHANNEL, _CHUNK, _COUNT = (COLUMNS.index(name) for name in ("step", "channel", "chunk", "count"))


def pipeline(schedule: Schedule, num_slices: int) -> Schedule:
    """Cut every chunk into slices that follow one another through the same schedule, ``window`` steps apart.

    Chunk c becomes chunks c * num_slices + j; slice j does in step s + j * window what the chunk did in step s. So a
    rank passes slice j on while slice j + 1 arrives. A schedule of T steps has T + (num_slices - 1) * window then.
    """
    return _sliced(schedule, num_slices, step_stride=schedule.window, channel_stride=0)


def add_channels(schedule: Schedule, num_channels: int) -> Schedule:
    """Cut every chunk into slices that run side by side, each on a channel of its own, not waiting for each other."""
    return _sliced(schedule, num_channels, step_stride=0, channel_stride=schedule.num_channels)


def _sliced(schedule: Schedule, num_slices: int, *, step_stride: int, channel_stride: int) -> Schedule:
    if num_slices < 1:
        raise ScheduleError(f"schedule {schedule.algorithm}: slices must be at least 1, not {num_slices}")
    if num_slices == 1:
        return schedule
    if len(schedule) and schedule.column("count").max() > 1:
        raise ScheduleError(f"schedule {schedule.algorithm}: operations on several chunks at once cannot be sliced")
    copies = []
    for j in range(num_slices):
        copy = schedule.table.copy()
        copy[:, _STEP] += j * step_stride
        copy[:, _CHANNEL] += j * channel_stride
        copy[:, _CHUNK] = copy[:, _CHUNK] * num_slices + j
        copies.append(copy)
    return Schedule(
        schedule.collective,
        schedule.algorithm,
        schedule.num_ranks,
        schedule.num_chunks * num_slices,
        np.concatenate(copies),
        schedule.window,
        schedule.root,
    )
