# SPDX-License-Identifier: Apache-2.0
"""What a run leaves of the processors' time: where that is little, the processors are what was measured."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.results.statistics import slowest

__all__ = ["IDLE", "ProcessorClock", "Spent", "idle_share", "processor_ticks"]

IDLE, _INTERRUPTS = 3, (5, 6)  # places in /proc/stat; interrupts and what they leave behind are the network's


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of processors' time.

    Attributes:
        own_s: of this process. busy_s: of all that ran on this machine. interrupts_s: of that, interrupts.
    """

    own_s: float
    busy_s: float
    interrupts_s: float


class ProcessorClock:
    """Counts from when it is made; Linux only."""

    def __init__(self) -> None:
        self._own_s, self._ticks = time.process_time(), processor_ticks()

    def spent(self) -> Spent:
        """Since then."""
        ticks = [now - then for now, then in zip(processor_ticks(), self._ticks, strict=True)]
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        return Spent(
            own_s=time.process_time() - self._own_s,
            busy_s=(sum(ticks) - ticks[IDLE]) * tick_s,
            interrupts_s=sum(ticks[place] for place in _INTERRUPTS) * tick_s,
        )


def idle_share(ranks: Sequence[Spent], samples_s: Sequence[Sequence[float]], num_ranks: int) -> float:
    """The part of the processors' time that a run did not need, from 0 to 1.

    That is what nobody used or what its ranks and the network left, whichever is more: other work counts only as far as
    it cannot be told from the run's.

    Args:
        ranks: of one run, all on one machine. samples_s: rank x iteration, seconds of the run; an iteration lasts until
            its last rank is through (the root of a small broadcast is when the kernel has its bytes), and what passed
            between them counts for nothing.
        num_ranks: of all runs at the time; those of the others are taken to need as much.
    """
    own_s = sum(rank.own_s for rank in ranks) * num_ranks / len(ranks)
    used_s = min(ranks[0].busy_s, own_s + ranks[0].interrupts_s)
    return max(0.0, 1 - used_s / (sum(slowest(samples_s)) * (os.cpu_count() or 1)))


def processor_ticks() -> list[int]:
    """Of all processors, by what they were spent on: user, nice, system, idle, ...; proc(5), /proc/stat."""
    return [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
