# SPDX-License-Identifier: Apache-2.0
"""What packets say of a point that was measured in a lab: the same queues, the same TCP, the messages that gloo writes.

Simulated is what a timed iteration follows: the iteration before it, whose last packets the token buckets still owe,
the barrier in between, and then the iteration that counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.collectives.sizes import buffer_elements
from commbench.collectives.spec import get_collective
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.libraries.gloo import BARRIER, GlooLibrary, transport_for
from commbench.network.packet.tcp.settings import Tcp
from commbench.network.transport import Transport
from commbench.program.flat import COMPUTE, FlatProgram
from commbench.program.operations import Collective, Program, ProgramBuilder
from commbench.results.records import Measured
from commbench.units import seconds
from commbench.validate.lab_predict import DRAWS, burst_bytes, lab_network

__all__ = ["PacketPrediction", "is_fair", "predict_packets", "tcp_of"]

IntArray = npt.NDArray[np.int64]

_HEADERS = 52  # of IPv4 and TCP with timestamps, in the MTU: as GLOO_TCP has them


@dataclass(frozen=True, slots=True)
class PacketPrediction:
    """Simulated seconds of one job; packets lost and sent again, of the last draw."""

    time_s: float
    drops: int
    repeated: int


def is_fair(record: Measured) -> bool:
    """Whether the ports of the record's lab had a queue for every pair of hosts."""
    return bool(record.environment["emulated"]["shaping"].get("fair", True))


def tcp_of(lab: dict[str, Any], transport: Transport) -> Tcp:
    """The network of a lab, as its record tells how it was shaped.

    Connections have been warmed up: their windows of congestion have grown to what their buffers hold.
    """
    mss = lab["mtu"] - _HEADERS
    return Tcp(
        congestion=lab["shaping"]["congestion"],
        mss_bytes=mss,
        header_bytes=transport.packet_bytes,
        window_bytes=transport.buffer_bytes,
        first_window=-(-transport.buffer_bytes // mss),
        queue_packets=lab["shaping"]["queue_packets"],
        fair=lab["shaping"]["fair"],
        burst_bytes=burst_bytes(lab),
    )


def predict_packets(record: Measured, transport: Transport) -> PacketPrediction:
    """Simulate by packets what a record was measured on.

    Args:
        record: measured in a lab. transport: of its messages.
    """
    lab = record.environment["emulated"]
    jobs = [tuple(job) for job in lab["jobs"]]
    chance = transport_for(transport, record.collective, record.algorithm)
    hosts = [host for job in jobs for host in job]
    cluster, connections = lab_network(record.environment, hosts, chance)
    library = GlooLibrary(
        connections=connections, algorithm=record.algorithm, channels=lab["channels"], group=lab["group"]
    )
    program = _twice(record, [len(job) for job in jobs])
    how = Run(network=tcp_of(lab, transport).text)
    done = simulate(program, cluster, library, how)
    times = [_lasted(done, len(jobs), lab["job"])]
    if chance.answers_late or int(done.tasks.channel.max()) >= connections.rails:  # who is first is left to chance
        for seed in range(1, DRAWS):
            done = simulate(program, cluster, library, how, seed=seed)
            times.append(_lasted(done, len(jobs), lab["job"]))
    drops, repeated = (int(done.trace.counted[name].sum()) for name in ("drops", "repeated"))
    return PacketPrediction(seconds(round(median(times))), drops, repeated)


def _twice(record: Measured, sizes: Sequence[int]) -> Program:
    """Jobs of so many ranks that do what was measured, meet in a barrier, all jobs together, and do it again."""
    item = record.size_bytes // record.num_elements
    ranks = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    elements = buffer_elements(get_collective(record.collective), record.ranks, record.num_elements)
    build = ProgramBuilder(sum(sizes))
    each = [Collective(record.collective, job[None, :], elements, item) for job in ranks]
    for what in each:
        build.communicate(what)
    met = [build.communicate(Collective(BARRIER, job[None, :], 1, 1)) for job in ranks]
    for what in each:
        build.communicate(what, after=met)
    return build.build()


def _lasted(done: Result, num_jobs: int, job: int) -> int:
    """Picoseconds of the second time, on the rank that needed longest, as records have it."""
    begun, ended = (_ends(done, half * num_jobs + job) for half in (1, 2))
    return int((ended - begun).max())


def _ends(done: Result, operation: int) -> IntArray:
    """When every rank had done an operation; 0 where it has no part in it."""
    program = done.tasks
    assert isinstance(program, FlatProgram)
    mine = (program.operation == operation) & (program.kind == COMPUTE)
    found = np.zeros(program.num_ranks, dtype=np.int64)
    np.maximum.at(found, program.rank[mine], done.trace.end_ps[mine])
    return found
