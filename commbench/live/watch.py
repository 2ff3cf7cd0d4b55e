# SPDX-License-Identifier: Apache-2.0
"""Watch over ranks that others started, from inside each of them: heartbeats through the store they met at.

Every rank says twice a second where it is. Rank 0 judges (``live.judge``); rank 1 does in its stead where rank 0 is at
fault. Then all living ranks leave their stacks, a ``failed`` record is written, and every rank ends with the same line
and exit code, also one that stands in a call of gloo or NCCL from which it would never return.

Two threads: one talks to the store; the other watches over that one, for a store whose host is stopped lets callers
wait for ever, and takes the signal by which launchers end ranks, so that the cause can still be told.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from commbench.errors import CommbenchError, RunError
from commbench.live.job import LiveJob
from commbench.live.judge import (
    DONE,
    FAILED,
    GRACE_S,
    RUNNING,
    STOPPED,
    TOLD,
    Beat,
    Judge,
    RunVerdict,
    Who,
    own_place,
    process_state,
)
from commbench.live.kept import beside, keep_by_rank, own_stack, record_failure
from commbench.live.progress import Progress

__all__ = ["Watch"]

BEAT_S = 0.5
_LATE_S = 3.0  # a store that has not answered for so long beyond the run's own limit never will
_STACKS_S, _HEARD_S = 1.5, 1.5  # how long the judge waits for the others' stacks, and for them to know
_LEAVE_S = 10.0  # how long rank 0 stays for ranks that are not done yet
_YIELD_S = 1.0  # how long the main thread has to raise the verdict before the process is ended from beside it


class Watch:
    """One rank's side; entered around all that the rank does.

    Args:
        job: what is run. rank: this process's. launcher: what started it. progress: where it is.
    """

    def __init__(self, job: LiveJob, rank: int, launcher: str, progress: Progress) -> None:
        self._job, self._rank, self._launcher, self._progress = job, rank, launcher, progress
        self._store: Any = None
        self._kept: Any = None
        self._who, self._first = Who(rank), Who(0)
        self._judge: Judge | None = None
        self._state, self._error, self._code, self._order = RUNNING, "", RunError.exit_code, 0
        self._count = 0
        self._stack_sent = False
        self._turned_at = time.monotonic()
        self._troubled_at: float | None = None
        self._verdict: RunVerdict | None = None
        self._known, self._taken, self._over = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._talker = threading.Thread(target=self._serve, daemon=True, name="heartbeat")
        self._takes_signals = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._takes_signals:
            signal.signal(signal.SIGTERM, lambda *_: self._told())
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads made from now on inherit it
        threading.Thread(target=self._guard, daemon=True, name="guard").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._leave(DONE)
        elif isinstance(error, CommbenchError):
            raise self._conclude(error) from None
        else:  # Ctrl-C, or exit
            self._leave(TOLD)

    def begin(self, store: Any, host: str, kept: Any) -> None:
        """From now on the rank is heard.

        Args:
            store: a connection of its own to where the ranks meet. host: this machine's name.
            kept: the connection of the run, in rank 0's process the store itself: to be there until all have left.
        """
        self._kept = kept
        self._who = Who(self._rank, host, "", os.getpid(), own_place())
        store.set(f"who{self._rank}", json.dumps(asdict(self._who)))
        self._first = Who(**json.loads(store.get("who0")))  # while its store can be asked
        self._store = store
        self._turn()
        self._talker.start()

    def on(self, device: str) -> None:
        """The rank's device is known."""
        self._who = Who(self._rank, self._who.host, device, self._who.pid, self._who.place)
        if self._store is not None:
            self._store.set(f"who{self._rank}", json.dumps(asdict(self._who)))

    def _leave(self, state: str) -> None:
        """Say a last time how the rank is; nothing more is heard of it."""
        self._state = state
        self._over.set()
        if self._store is not None:
            self._talker.join(2 * BEAT_S)  # whatever it asked of the store is answered before rank 0 may leave
            with suppress(RuntimeError):
                self._beat()
                if state == DONE:
                    self._store.add("done", 1)
                    self._see_off()
        if self._takes_signals:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _see_off(self) -> None:
        """Rank 0, whose process may have the store, leaves last; the others ask nothing of it after they are done."""
        deadline = time.monotonic() + _LEAVE_S
        while self._rank == 0 and self._store.add("done", 0) < self._job.ranks and time.monotonic() < deadline:
            time.sleep(BEAT_S / 50)

    def _conclude(self, error: CommbenchError) -> CommbenchError | SystemExit:
        """What to raise for an error of this rank's: the verdict over all ranks, or itself where there is none."""
        if self._store is None:
            self._leave(FAILED)
            return error
        with suppress(RuntimeError):
            self._order = self._store.add("failures", 1)
        self._error, self._code, self._state = str(error).splitlines()[0], error.exit_code, FAILED
        known = self._known.wait(2 * GRACE_S + _STACKS_S + _HEARD_S)
        self._taken.set()
        self._over.set()
        return self._verdict.error() if known and self._verdict is not None else error

    # the thread that talks to the store

    def _serve(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self._turn()
            except RuntimeError:  # torch's, for a store that is gone
                if not self._over.wait(GRACE_S):  # else the rank is done itself
                    self._lost("does not answer any longer")
                return

    def _turn(self) -> None:
        """One round with the store."""
        store = self._store
        self._beat()
        news = store.check(["news"])  # one question instead of two: every rank asks it twice a second
        if news and not self._stack_sent and store.check(["stacks"]):
            store.set(f"stack{self._rank}", own_stack())
            self._stack_sent = True
        if news and store.check(["verdict"]):
            store.add("heard", 1)
            self._finish(RunVerdict(**{k: _frozen(v) for k, v in json.loads(store.get("verdict")).items()}))
        elif self._rank <= 1:
            self._judge_all()
        self._turned_at = time.monotonic()

    def _beat(self) -> None:
        with self._lock:
            self._count += 1
            place = self._progress.place
            beat = Beat(self._count, place.ticks, place.started, str(place), self._state, self._error, self._code,
                        self._order)  # fmt: skip
            self._store.set(f"beat{self._rank}", json.dumps(asdict(beat)))

    def _judge_all(self) -> None:
        """Look at all ranks; as rank 1, act only where rank 0 cannot."""
        ranks, store = range(self._job.ranks), self._store
        if self._judge is None:
            if not store.check([f"{key}{rank}" for rank in ranks for key in ("who", "beat")]):
                return
            whos = [Who(**json.loads(store.get(f"who{rank}"))) for rank in ranks]
            self._judge = Judge(whos, self._job.timeout_s, self._job.join_timeout_s, self._who.place)
        beats = [json.loads(text) for text in store.multi_get([f"beat{rank}" for rank in ranks])]
        verdict = self._judge.hear([Beat(**beat) for beat in beats])
        if verdict is None or verdict.code == 0:
            return
        if self._rank == 0 or 0 in verdict.guilty or self._judge.seen_s_ago(0) > GRACE_S:
            self._act(self._judge, verdict)

    def _act(self, judge: Judge, verdict: RunVerdict) -> None:
        """Have all that live leave their stacks, write down what was found, and tell everybody."""
        store = self._store
        judge.whos = [Who(**json.loads(store.get(f"who{who.rank}"))) for who in judge.whos]
        store.set("news", "")
        stacks = ""
        if verdict.code == RunError.exit_code:
            stacks = self._stacks(verdict)
            places, guilty = judge.places, verdict.guilty
            record_failure(self._job, self._launcher, verdict.message, guilty, places, stacks)
        told = f"{verdict.message}; stacks: {stacks}" if stacks else verdict.message
        final = RunVerdict(verdict.code, told, verdict.guilty, verdict.living)
        store.set("verdict", json.dumps(asdict(final)))
        deadline = time.monotonic() + _HEARD_S
        while store.add("heard", 0) < len(verdict.living) - 1 and time.monotonic() < deadline:
            time.sleep(BEAT_S / 10)
        self._finish(final)

    def _finish(self, verdict: RunVerdict) -> None:
        """End ranks of this machine that are stopped, for their launcher would wait for them; then this one."""
        for rank in verdict.guilty:
            self._end_stopped(Who(**json.loads(self._store.get(f"who{rank}"))))
        self._close(verdict)

    def _end_stopped(self, who: Who) -> None:
        if who.place and who.place == self._who.place and process_state(who.pid) == STOPPED:
            with suppress(OSError):
                os.kill(who.pid, signal.SIGKILL)

    def _stacks(self, verdict: RunVerdict) -> str:
        """The name of the file of all living ranks' stacks."""
        store, found = self._store, {self._rank: own_stack()}
        store.set("stacks", "")
        deadline = time.monotonic() + _STACKS_S
        awaited = [rank for rank in verdict.living if rank != self._rank]
        while awaited and time.monotonic() < deadline:
            for rank in [rank for rank in awaited if store.check([f"stack{rank}"])]:
                found[rank] = store.get(f"stack{rank}").decode()
                awaited.remove(rank)
            time.sleep(BEAT_S / 10)
        return keep_by_rank(beside(self._job.out, self._job.run, "stacks"), found)

    def _lost(self, how: str) -> None:
        """The store is gone, and with it rank 0 or its host."""
        where = f"MASTER_ADDR={os.environ.get('MASTER_ADDR', '?')}"
        message = f"{self._first}, or its host, is gone or stopped: the store at {where} {how} (rank {self._rank} was "
        message += f"at {self._progress.place})"
        self._end_stopped(self._first)
        if self._rank == 1:
            stacks = keep_by_rank(beside(self._job.out, self._job.run, "stacks"), {1: own_stack()})
            record_failure(self._job, self._launcher, message, (0,), (), stacks)
        self._close(RunVerdict(RunError.exit_code, message, (0,)))

    def _close(self, verdict: RunVerdict) -> None:
        """The end is known: let the main thread raise it, or end the process beside it."""
        self._verdict = verdict
        self._known.set()
        if self._taken.wait(_YIELD_S) or self._over.is_set():
            return
        if verdict.code in (1, 2, 3):
            sys.stderr.write(f"error: {verdict.message}\n")
            sys.stderr.flush()
        os._exit(verdict.code)

    # the thread that watches over the other

    def _told(self) -> None:
        """A launcher ends this rank: mostly since another one has failed, which is to be found out."""
        self._troubled_at = self._troubled_at or time.monotonic()
        if self._state == RUNNING:
            self._state = TOLD

    def _guard(self) -> None:
        while not self._over.is_set():
            if signal.sigtimedwait({signal.SIGTERM}, BEAT_S / 2) is not None:
                self._told()
            now = time.monotonic()
            told_s = 0.0 if self._troubled_at is None else now - self._troubled_at
            if told_s and (self._store is None or told_s > 2 * GRACE_S + _STACKS_S):
                os._exit(128 + signal.SIGTERM)
            limit = max(self._job.timeout_s, GRACE_S) + _LATE_S
            if self._store is not None and now - self._turned_at > limit and not self._known.is_set():
                self._lost(f"has not answered for {limit:.0f} s")
                return


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
