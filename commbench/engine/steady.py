# SPDX-License-Identifier: Apache-2.0
"""Identical rounds: simulated until the state repeats, then fast-forwarded.

The state of a looped program is, for every task, how far it is ahead of a watched one, what it still waits for and
what is under way, with times told from now. If it is the same as some rounds before, bit by bit, everything that
follows is the same too, so many picoseconds later: rounds, times and counts can be moved on by whole periods. That is
exact, not an estimate. It needs rounds that are alike (equal chunks) and a setting that changes no more.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import counters as c
from commbench.engine.model import Model
from commbench.network.base import LAST_PS, too_long
from commbench.network.queue import BUCKETS, HEAP
from commbench.program.loop import LoopProgram

__all__ = ["Steady", "alike"]

_MIXED = -1


def alike(program: LoopProgram) -> bool:
    """Whether all rounds move the same bytes and compute for the same time (but for the end of the additions)."""
    return all(bool(np.all(amounts == amounts[0])) for amounts in (program.num_bytes, program.duration_ps))


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """The state when the watched task began ``round``."""

    round: int
    phase: int
    now_ps: int
    num_shares: int
    state: npt.NDArray[np.int64]


class Steady:
    """Watches a model on the fluid network and moves it on when it has come to repeat itself.

    The saved state is renewed at doubling distances, so that any period is found (R. P. Brent, "An improved Monte
    Carlo factorization algorithm", BIT 20 (1980) 176-184, section 2).
    """

    def __init__(self, model: Model, program: LoopProgram) -> None:
        self._model, self._program = model, program
        self._working = program.num_working if program.duration_ps[0] else 0
        self._saved: _Picture | None = None
        self.skipped = 0  # rounds that were not simulated
        model.n[c.WATCHED_ROUND] = 1

    def look(self) -> None:
        """To be called when the watched task begins its watched round: compare, move on, and watch for the next."""
        n = self._model.n
        now_in = int(self._model.tasks["round"][n[c.WATCHED]])
        n[c.WATCHED_ROUND] = now_in + 1
        phase = self._phase()
        if phase == _MIXED or n[c.NEXT_CHANGE] < len(self._model.changes):
            return
        picture = _Picture(now_in, phase, int(n[c.NOW]), int(n[c.SHARES]), self._state(now_in))
        saved = self._saved if self._saved is not None and self._saved.phase == phase else None
        if saved is not None and np.array_equal(saved.state, picture.state):
            self._move_on(saved, picture)
            self._saved = None
        elif saved is None or now_in >= 2 * saved.round:
            self._saved = picture

    def _phase(self) -> int:
        """0 while all instances begun are of rounds that add, 1 when none is any more."""
        rounds = self._model.tasks["round"]
        if rounds.max() <= self._working:
            return 0
        return 1 if rounds.min() > self._working else _MIXED

    def _state(self, now_in: int) -> npt.NDArray[np.int64]:
        """Everything that what follows depends on, times from now: 7 numbers per task, one per processor."""
        model, now = self._model, self._model.n[c.NOW]
        state = np.full((7, len(model.tasks)), -1, dtype=np.int64)
        state[0], state[1] = model.tasks["round"] - now_in, model.tasks["missing"]
        numbers = np.flatnonzero(model.slots["task"][: model.n[c.SLOTS]] >= 0)
        slots = model.slots[numbers]
        state[2, slots["task"]] = slots["state"]
        flowing = slots["state"] == c.FLOWING
        flows, waiting = slots[flowing], slots[~flowing]
        state[3, waiting["task"]] = model.queue.buckets["time"][waiting["bucket"]] - now
        state[3, flows["task"]] = model.network.flows["end"][numbers[flowing]] - now
        state[4, flows["task"]] = flows["since"] - now
        state[5, flows["task"]] = np.ascontiguousarray(flows["left"]).view(np.int64)
        state[6, flows["task"]] = np.ascontiguousarray(flows["rate"]).view(np.int64)
        free = np.sort(np.maximum(model.free - now, 0), axis=1)
        return np.concatenate([state.ravel(), free.ravel()])

    def _move_on(self, before: _Picture, after: _Picture) -> None:
        """Skip as many periods as stay in rounds of the same kind, short of the last."""
        model, n = self._model, self._model.n
        period, time_ps = after.round - before.round, after.now_ps - before.now_ps
        last = self._working if after.phase == 0 and self._working else self._program.num_rounds
        times = (last - 1 - int(model.tasks["round"].max())) // period
        if times < 1:
            return
        self.skipped += times * period
        model.tasks["round"] += times * period
        n[c.FINISHED] += times * period * len(model.tasks)
        n[c.SHARES] += times * (after.num_shares - before.num_shares)
        n[c.WATCHED_ROUND] += times * period
        later = times * time_ps
        for queue in (model.queue, model.network.queue):
            used = queue.buckets["time"][: queue.n[BUCKETS]]
            if int(used.max(initial=0)) + later > LAST_PS:
                raise too_long()
            used[used >= 0] += later
            queue.heap["key"][: queue.n[HEAP]] += later
        model.network.flows["end"][: n[c.SLOTS]] += later
        n[c.NOW] += later
        n[c.NETWORK] += later if n[c.NETWORK] >= 0 else 0
        model.slots["since"][: n[c.SLOTS]] += later
        model.free[:] += later
