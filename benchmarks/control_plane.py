# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.control_plane [RANKS ...]``: what the control plane of a live run costs, by number of ranks.

Every rank is a thread that does what the process of a rank does beside the data, by the same code: it joins, tells what
it is to do, tells where it runs, meets, and says twice a second where it is. Rank 0 and the store have a process of
their own; the others share some. Then, as far as this machine lets, the mesh that a process group of gloo makes.
"""

import argparse
import ctypes
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch.distributed as dist

from commbench.live.agree import describe, require_agreement
from commbench.live.control import Control
from commbench.live.hosts import own_cores
from commbench.live.job import OverlapJob
from commbench.live.judge import DONE
from commbench.live.progress import Progress
from commbench.live.watch import Watch
from commbench.results.environment import collect_environment

RANKS = (64, 256, 1024)
MESH = (16, 64, 128)
BARRIERS, BEATS_S = 10, 5.0
PROCESSES = 3
_LIMIT = timedelta(seconds=120)
_NEW_MOUNTS, _PRIVATE, _BIND, _ALL_BELOW = 0x20000, 1 << 18, 4096, 16384  # linux/sched.h, linux/mount.h


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds as rank 0 sees them.

    Attributes:
        join_s: from the first connection until all ranks are there and known to do the same. gather_s: of every rank's
            host, cores and environment. barrier_s: each. leave_s: until rank 0 may go.
        gather_cpu_s, barrier_cpu_s: of these, the processor's time of rank 0's process, the store's with it. The rest
            is that all other ranks share the machine.
        beat_cpu_s: the same for each second of heartbeats, with the judge's; they begin after the barriers.
        connections: sockets of rank 0's process.
    """

    ranks: int
    join_s: float
    gather_s: float
    gather_cpu_s: float
    barrier_s: float
    barrier_cpu_s: float
    beat_cpu_s: float
    leave_s: float
    connections: int


class _Rank:
    """What one rank does."""

    def __init__(self, port: int, rank: int, ranks: int, beats_s: float, master: Any = None) -> None:
        self._port, self._rank, self._ranks, self._beats_s, self._master = port, rank, ranks, beats_s, master
        self._job = OverlapJob(ranks=ranks, out=Path(os.devnull), run="bench", size_bytes=4)
        self._environment = collect_environment() if rank == 0 else {}

    def _connect(self, name: str) -> Any:
        store = self._master or dist.TCPStore("127.0.0.1", self._port, is_master=False, timeout=_LIMIT)
        return dist.PrefixStore(name, store)

    def join(self) -> None:
        store = self._connect("run")
        require_agreement(store, self._rank, self._ranks, describe(self._job, ""), _LIMIT.total_seconds())
        self._store = store
        self._control = Control(dist.PrefixStore("control", store), self._rank, self._ranks, _LIMIT.total_seconds())
        self._master = None  # the heartbeat has a connection of its own, of rank 0 too
        self._other = self._connect("watch")

    def gather(self) -> None:
        self._control.gather((own_cores(), None, self._environment or dict(os.environ)))
        self._control.tell(lambda: list(range(self._ranks)))

    def barriers(self) -> None:
        for _ in range(BARRIERS):
            self._control.meet()

    def begin(self) -> None:
        self._watch = Watch(self._job, self._rank, "benchmark", Progress())
        self._watch.begin(self._other, "here", self._store)
        self._control.meet()

    def beat(self) -> None:
        time.sleep(self._beats_s)

    def leave(self) -> None:
        self._watch._leave(DONE)


PHASES = ("join", "gather", "barriers", "begin", "beat", "leave")


def _others(port: int, ranks: Sequence[int], count: int, beats_s: float, ready: Any) -> None:
    """The process of some ranks, a thread for each."""
    ranks_here = [_Rank(port, rank, count, beats_s) for rank in ranks]
    threads = [threading.Thread(target=lambda one=one: [getattr(one, name)() for name in PHASES]) for one in ranks_here]  # type: ignore[misc]
    ready.wait()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cost(count: int, beats_s: float = BEATS_S) -> Cost:
    """Try it with so many ranks, of whose heartbeats so many seconds."""
    context = get_context("forkserver")  # torch is loaded once for all of them
    context.set_forkserver_preload(["commbench.live.session", "commbench.live.watch"])
    ready = context.Barrier(PROCESSES + 1)
    master = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_LIMIT, multi_tenant=True)
    shares = [list(range(1 + n, count, PROCESSES)) for n in range(PROCESSES)]
    processes = [context.Process(target=_others, args=(master.port, share, count, beats_s, ready)) for share in shares]
    for process in processes:
        process.start()
    first, spent, cpu = _Rank(master.port, 0, count, beats_s, master), dict[str, float](), dict[str, float]()
    ready.wait()
    connections = 0
    for name in PHASES:
        begin, busy = time.perf_counter(), time.process_time()
        getattr(first, name)()
        spent[name], cpu[name] = time.perf_counter() - begin, time.process_time() - busy
        if name == "begin":  # all are there, and none leaves before its heartbeats are over
            connections = _sockets()
    for process in processes:
        process.join()
    return Cost(
        ranks=count,
        join_s=spent["join"],
        gather_s=spent["gather"],
        gather_cpu_s=cpu["gather"],
        barrier_s=spent["barriers"] / BARRIERS,
        barrier_cpu_s=cpu["barriers"] / BARRIERS,
        beat_cpu_s=cpu["beat"] / beats_s,
        leave_s=spent["leave"],
        connections=connections,
    )


def _sockets() -> int:
    """Connections of this process, without the ends that it has with itself."""
    kinds = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return sum(kind.startswith("socket:") for kind in kinds)


def mesh(count: int) -> tuple[float, int]:
    """Seconds until a gloo group of so many ranks stands, all in this process, and sockets that it has."""
    store, groups = dist.HashStore(), [None] * count

    def connect(rank: int) -> None:
        groups[rank] = dist.ProcessGroupGloo(store, rank, count, timeout=_LIMIT)  # type: ignore[call-overload]

    begin, before = time.perf_counter(), _sockets()
    threads = [threading.Thread(target=connect, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, _sockets() - before


def _know_names() -> None:
    """Answer from a file of this process's own who 127.0.0.1 is.

    torch asks that of each connection (socket.cpp), by an address that no /etc/hosts has. On a cluster every host asks
    its name server; one host that asks a thousand times at once is answered after 5 s, or 10.
    """
    libc, hosts = ctypes.CDLL(None, use_errno=True), Path(tempfile.mkdtemp()) / "hosts"
    hosts.write_text(Path("/etc/hosts").read_text() + "::ffff:127.0.0.1 localhost\n")
    own = libc.unshare(_NEW_MOUNTS) == 0 and libc.mount(None, b"/", None, _PRIVATE | _ALL_BELOW, None) == 0
    if not own or libc.mount(os.fsencode(hosts), b"/etc/hosts", None, _BIND, None):
        print("not root: the name server is asked for every connection, and may make joining slow", file=sys.stderr)


def _print(make: Callable[[int], str], counts: Sequence[int]) -> None:
    for count in counts:
        print(make(count), flush=True)


def main(words: Sequence[str]) -> int:
    """Print the table, as Markdown."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.control_plane", description=__doc__.splitlines()[0])
    asked.add_argument("ranks", nargs="*", type=int, default=list(RANKS), help="numbers of ranks, 2 or more")
    asked.add_argument("--mesh", nargs="*", type=int, default=list(MESH), help="the same for gloo's mesh")
    given = asked.parse_args(words)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _know_names()
    print("| ranks | join | gather (of it rank 0) | barrier (of it rank 0) | heartbeats, of a core | leave | sockets |")
    print("|---|---|---|---|---|---|---|")

    def row(count: int) -> str:
        one = cost(count)
        gather = f"{one.gather_s * 1e3:.0f} ms ({one.gather_cpu_s * 1e3:.0f})"
        barrier = f"{one.barrier_s * 1e3:.0f} ms ({one.barrier_cpu_s * 1e3:.1f})"
        times = f"{one.join_s * 1e3:.0f} ms | {gather} | {barrier}"
        return f"| {count} | {times} | {one.beat_cpu_s:.1%} | {one.leave_s * 1e3:.0f} ms | {one.connections} |"

    _print(row, given.ranks)
    if given.mesh:
        print("\n| ranks | gloo's mesh stands after | sockets |\n|---|---|---|")
        _print(lambda count: "| {} | {:.1f} s | {} |".format(count, *mesh(count)), given.mesh)
    return 0


if __name__ == "__main__":
    from benchmarks import control_plane  # under its own name, by which its processes know it

    sys.exit(control_plane.main(sys.argv[1:]))
