# SPDX-License-Identifier: Apache-2.0
"""``commbench sim trace``: a recorded step on another fabric, compute as measured, communication simulated."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commbench.cluster import Cluster
from commbench.collectives.registry import DEFAULTS
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.experiments.library_choice import IDEAL, named_library
from commbench.experiments.simulated import CollectiveOptions, cluster_of
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.program.operations import NOTHING
from commbench.topology.load import load_fabric
from commbench.units import PS_PER_S, seconds
from commbench.workload.traces.read import read_trace
from commbench.workload.traces.recorded import RecordedTrace, program_of

__all__ = ["SimulatedTrace", "simulate_trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTrace:
    """A trace on a fabric.

    Attributes:
        trace, trace_kind: the file, and whose it is. rank: that was recorded. topology, library: on what it ran.
        ranks: of the world. operations: of a rank.
        steps: training steps that are marked in it; 0: none.
        recorded_s: its own length; None where it has no starts. simulated_s: on the fabric.
        compute_s: measured, of all streams together.
        collectives: by kind: their number, bytes (full buffers), recorded and simulated seconds of a rank.
        notes: what it does not hold, and what was assumed.
    """

    trace: str
    trace_kind: str
    rank: int
    topology: str
    library: str
    ranks: int
    operations: int
    steps: int
    recorded_s: float | None
    simulated_s: float
    compute_s: float
    collectives: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "simulated-trace", "schema": 1, **asdict(self)}


def simulate_trace(
    file: Path, topology: str, *, library: str = IDEAL, ranks: int | None = None
) -> SimulatedTrace:
    """Read a trace of one rank and simulate what it recorded on all ranks of a fabric.

    Args:
        file: torch.profiler's or Chakra's. topology: a name or a path. library: who decides how collectives go.
        ranks: world size, where the trace does not say; all endpoints if left out.

    Raises:
        InputError: the file is no trace, or is of another number of ranks than asked for or than there are.
    """
    trace, fabric = read_trace(file), load_fabric(topology)
    if ranks is not None and trace.world and ranks != trace.world:
        raise InputError(f"--ranks {ranks}: {file} was recorded on {trace.world} ranks; leave the option out")
    options = CollectiveOptions(
        collective="all-reduce", topology=topology, library=library, ranks=ranks or trace.world or None
    )
    cluster = cluster_of(options, fabric)
    program = program_of(trace, cluster.num_ranks)
    ran = simulate(program, cluster, _library(options, cluster), Run(detail="collective"))
    assert ran.bound is not None
    notes = list(trace.notes)
    if ran.bound.uneven:
        notes.append(
            f"an estimate: {len(ran.bound.uneven)} of {len(program.communications)} collectives have groups in unlike "
            "places of the fabric; all are taken to be as slow as the slowest"
        )
    if not trace.world:
        notes.append(f"it does not say of how many ranks it is: taken as {cluster.num_ranks}")
    return SimulatedTrace(
        trace=str(file), trace_kind=trace.kind, rank=trace.rank, topology=fabric.name, library=library,
        ranks=cluster.num_ranks, operations=len(trace.operations), steps=trace.steps,
        recorded_s=seconds(trace.length_ps) if trace.length_ps else None, simulated_s=ran.time_s,
        compute_s=seconds(sum(one.duration_ps for one in trace.operations if one.collective is None)),
        collectives=_by_kind(trace, ran), notes=tuple(notes),
    )  # fmt: skip


def _library(options: CollectiveOptions, cluster: Cluster) -> Library:
    return named_library(options, cluster) or Ideal(algorithms=DEFAULTS, channels=None)


def _by_kind(trace: RecordedTrace, ran: Result) -> dict[str, dict[str, float]]:
    """What every kind of collective was, and how long it took here."""
    found: dict[str, dict[str, float]] = {}
    names = ("number", "bytes", "recorded_s", "simulated_s")
    for one in trace.operations:
        if one.collective is not None:
            own = found.setdefault(one.collective.kind, dict.fromkeys(names, 0.0))
            own["number"] += 1
            own["bytes"] += one.collective.num_bytes
            own["recorded_s"] += seconds(one.duration_ps)
    program, lasted = ran.program, (ran.trace.end_ps - ran.trace.start_ps) / PS_PER_S
    for number in np.flatnonzero(program.communication != NOTHING).tolist():
        kind = program.purposes[int(program.purpose[number])]
        found[kind]["simulated_s"] += float(lasted[number])
    return found
