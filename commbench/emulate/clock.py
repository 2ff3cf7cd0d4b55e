# SPDX-License-Identifier: Apache-2.0
"""A fault script applied to a running testbed, by a clock that starts with the first measured iteration."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

from commbench.emulate.testbed import Testbed
from commbench.errors import CommbenchError, InputError, RunError
from commbench.topology.faults import Background, Fault, FaultScript, KilledRank, LinkFault, SlowRank
from commbench.units import format_bytes, seconds

__all__ = ["FaultClock", "Throttle"]

_PERIOD_S = 0.01  # of a slow rank: within it the rank is stopped for a part and runs for the rest


class FaultClock:
    """Applies a script; a thread of its own from :meth:`start` to :meth:`close`.

    Args:
        testbed: to apply it to. script: what to apply; its background flows are numbered from ``first_plane`` on.
        pid_of: process of a rank of the topology; None while or where there is none.
        tell: hears of each fault as it is applied, and how late.
        fail: hears of a fault that could not be applied.

    Raises:
        InputError: a fault of a rank that runs in no job.
    """

    def __init__(
        self,
        testbed: Testbed,
        script: FaultScript,
        *,
        first_plane: int,
        pid_of: Callable[[int], int | None],
        tell: Callable[[str], None],
        fail: Callable[[CommbenchError], None],
    ) -> None:
        self._testbed = testbed
        self._script = script
        flows = [fault for fault in script.faults if isinstance(fault, Background)]
        self._planes: Mapping[int, int] = {id(flow): first_plane + i for i, flow in enumerate(flows)}
        self._pid_of = pid_of
        self._tell = tell
        self._fail = fail
        self._slow: dict[int, Throttle] = {}
        self._left = list(script.faults)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def start(self, began_s: float) -> None:
        """Start the clock, which showed zero at ``began_s`` of the monotonic clock; once only."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(began_s,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop; ranks that were slow run freely again."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if self._left:
            self._tell(
                f"warning: {len(self._left)} of the faults were not applied, the first at "
                f"{seconds(self._left[0].at_ps):g} s: the run ended before"
            )

    def _run(self, began_s: float) -> None:
        try:
            for fault in self._script.faults:
                if self._closed.wait(max(0.0, began_s + seconds(fault.at_ps) - time.monotonic())):
                    return
                self._apply(fault)
                self._left.remove(fault)
                late = time.monotonic() - began_s - seconds(fault.at_ps)
                self._tell(f"fault at {seconds(fault.at_ps):g} s, {late * 1e3:.0f} ms late: {_said(fault)}")
            self._closed.wait()  # the kernel ends a flow when the thread that started it has ended
        except CommbenchError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the faults that follow do not come
            self._fail(RunError(f"{self._script.origin}: the faults cannot go on: {type(error).__name__}: {error}"))
        finally:
            for throttle in self._slow.values():
                throttle.close()

    def _apply(self, fault: Fault) -> None:
        match fault:
            case LinkFault(_, src, dst, factor):
                self._testbed.set_factor(src, dst, factor)
            case Background(_, src, dst, num_bytes):
                self._testbed.start_flow(src, dst, num_bytes, self._planes[id(fault)])
            case KilledRank(_, rank):
                os.kill(self._pid(rank), signal.SIGKILL)
            case SlowRank(_, rank, factor):
                if rank in self._slow:
                    self._slow.pop(rank).close()
                if factor < 1:
                    self._slow[rank] = Throttle(self._pid(rank), factor)
            case _:
                raise RunError(f"{type(fault).__name__}: no emulated fabric can have this fault")

    def _pid(self, rank: int) -> int:
        pid = self._pid_of(rank)
        if pid is None:
            raise InputError(f"{self._script.origin}: rank {rank} runs in none of the jobs")
        return pid


class Throttle:
    """Lets a process run for a part of the time only, by stopping and continuing it."""

    def __init__(self, pid: int, share: float) -> None:
        self._pid = pid
        self._share = share
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let it run."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            began, before = time.monotonic(), _used_s(self._pid)
            while not self._closed.is_set():
                os.kill(self._pid, signal.SIGSTOP)
                time.sleep((1 - self._share) * _PERIOD_S)
                # a signal reaches a process on another processor late, by a millisecond on some machines
                ahead = (_used_s(self._pid) - before) / self._share - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
                began, before = time.monotonic(), _used_s(self._pid)
                os.kill(self._pid, signal.SIGCONT)
                self._closed.wait(self._share * _PERIOD_S)
        except OSError:  # it has ended
            return


def _used_s(pid: int) -> float:
    """Seconds of processors that a process has had, by its clock (clock_getcpuclockid(3), as Linux numbers it)."""
    return time.clock_gettime((~pid << 3) | 2)


def _said(fault: Fault) -> str:
    match fault:
        case LinkFault(_, src, dst, factor):
            return f"link {src} -> {dst} " + (f"at {factor:.0%} of its rate" if factor else "down")
        case Background(_, src, dst, num_bytes):
            return f"rank {src}'s host sends {format_bytes(num_bytes)} to rank {dst}'s"
        case KilledRank(_, rank):
            return f"rank {rank} killed"
        case SlowRank(_, rank, factor):
            return f"rank {rank} runs {factor:.0%} of the time"
        case _:
            return type(fault).__name__
