# SPDX-License-Identifier: Apache-2.0
"""What a healthy fabric would give, by the one door: the time of every measurement, and how busy it keeps each link."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commbench.arrays import FloatArray, IntArray
from commbench.cluster import Cluster, make_cluster
from commbench.collectives.registry import ALGORITHMS, DEFAULTS
from commbench.diagnose.measurement import Groups, Measurement
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.libraries.base import Library, Wanted
from commbench.libraries.gloo import GLOO_TCP, NATIVE, GlooLibrary, transport_for
from commbench.libraries.ideal import Ideal
from commbench.libraries.nccl.library import NcclLibrary, library_of, machine_of
from commbench.libraries.nccl.predictor import KINDS
from commbench.lowering.aggregate import layouts_of
from commbench.lowering.scenario import Scenario
from commbench.program.of_collective import collective_program
from commbench.results.records import Measured
from commbench.routing.policies import get_policy
from commbench.routing.routes import Routes
from commbench.sim.links import link_bytes
from commbench.topology.fabric import Fabric
from commbench.units import seconds
from commbench.validate.lab_predict import lab_network

__all__ = ["Expected", "Simulator"]


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """One measurement on a healthy fabric.

    Attributes:
        time_s: simulated. links: that its own messages cross.
        busy_s: seconds for which all that runs at the time keeps each of these busy; shape (links,).
    """

    time_s: float
    links: IntArray
    busy_s: FloatArray


class Simulator:
    """Asks the door, and remembers what it said: many pairs of a fabric are measured alike, and jobs of one round share
    a simulation.

    Args:
        fabric: that was measured. library: "nccl", "rccl" or "ideal" whatever the records say; None goes by them:
            NCCL's model for its own collectives on GPUs that it knows, gloo's algorithms over TCP for gloo, else the
            algorithm that the record names at the rates of the links.
    """

    def __init__(self, fabric: Fabric, library: str | None = None) -> None:
        self.fabric = fabric
        self._library = library
        self._cluster = make_cluster(fabric)
        self._scaled: dict[float, Fabric] = {}
        self._known: dict[tuple[object, ...], tuple[Result, list[int]]] = {}
        self.used: set[str] = set()
        self.notes: list[str] = []
        self.routes_known = not self._cluster.router.policy.hashed

    @property
    def router(self) -> Routes:
        """Of the fabric."""
        return self._cluster.router

    def expect(self, measurement: Measurement) -> Expected:
        """What a healthy fabric gives.

        Raises:
            InputError: a record that cannot be simulated here; names it and why.
        """
        done, ends_ps = self._round(measurement)
        busy_s = _link_bytes(done) / done.cluster.fabric.bandwidths
        if len(measurement.groups) == 1:
            links = np.flatnonzero(busy_s)
        else:
            links = _own_links(done, self._ranks_of(measurement.groups, measurement.own), measurement, self)
        return Expected(seconds(ends_ps[measurement.own]), links, busy_s[links])

    def slowed(self, measurement: Measurement, scenario: Scenario) -> list[float]:
        """Seconds that each group of it takes in a scenario; not of a testbed's records, whose transport takes none."""
        return [seconds(end) for end in self._simulated(measurement, scenario)[1]]

    def _round(self, measurement: Measurement) -> tuple[Result, list[int]]:
        key = (measurement.likeness, measurement.groups)
        if key not in self._known:
            self._known[key] = self._simulated(measurement, None)
        return self._known[key]

    def _simulated(self, measurement: Measurement, scenario: Scenario | None) -> tuple[Result, list[int]]:
        record, groups = measurement.record, measurement.groups
        places = np.array([rank for group in groups for rank in group], dtype=np.int64)
        item = max(1, record.size_bytes // record.num_elements)
        size = max(record.size_bytes, item)
        members = [np.array(self._ranks_of(groups, number), np.int64) for number in range(len(groups))]
        program = collective_program(
            record.collective, size, ranks=len(places), groups=members, element_bytes=item, root=record.root
        )
        cluster, library = self._setting(record, places, members)
        models = isinstance(library, NcclLibrary)
        how = Run(detail="collective" if models else "transfer", keep_trace=True)
        self.used.add(library.name)
        try:
            done = simulate(program, cluster, library, how, scenario=scenario)
        except InputError as error:
            raise InputError(f"run {record.run}, {record.collective} of {record.size_bytes} B: {error}") from None
        return done, done.ends_ps().tolist()

    @staticmethod
    def _ranks_of(groups: Groups, number: int) -> range:
        """Ranks of the program that belong to a group."""
        first = sum(len(group) for group in groups[:number])
        return range(first, first + len(groups[number]))

    def _setting(self, record: Measured, places: IntArray, members: Sequence[IntArray]) -> tuple[Cluster, Library]:
        """Where, and who decides."""
        environment = record.environment
        if "emulated" in environment:
            transport = transport_for(GLOO_TCP, record.collective, record.algorithm)
            lab = {"topology": self.fabric.name, "routing": self.fabric.routing, **environment["emulated"]}
            self.routes_known &= not get_policy(lab["routing"]).hashed or bool(lab.get("routes"))
            told: dict[str, Any] = {"cores_usable": len(places), **environment, "emulated": lab}
            cluster, connections = lab_network(told, places.tolist(), transport, self._at_scale(lab.get("scale", 1.0)))
            return cluster, _gloo(record, connections)
        cluster = replace(self._cluster, placed=places, whole_hosts=False)
        return cluster, self._chosen(record, cluster, members)

    def _chosen(self, record: Measured, cluster: Cluster, members: Sequence[IntArray]) -> Library:
        named = self._library
        models = named in ("nccl", "rccl") or (named is None and record.backend == "nccl")
        if models and record.algorithm == NATIVE and record.collective in KINDS and self._has_model():
            library = NcclLibrary(machine=machine_of(self._cluster), dtype=record.dtype)
            if self._knows(library, record, cluster, members):
                return library
        if named is None and record.backend == "gloo":
            return _gloo(record, None)
        algorithm = DEFAULTS[record.collective] if record.algorithm == NATIVE else record.algorithm
        if (record.collective, algorithm) not in ALGORITHMS:
            raise InputError(
                f"run {record.run}: algorithm {algorithm!r} of {record.collective} is none of the registry "
                "(commbench algorithm list); a schedule of a file is not in its record"
            )
        pieces = {} if record.algorithm == NATIVE else {"slices": record.slices, "channels": record.channels}
        group = None if record.algorithm == NATIVE else record.group
        channels = pieces.get("channels")
        return Ideal(algorithms={record.collective: algorithm}, slices=pieces.get("slices"), channels=channels,
                     group=group, ranks_per_host=cluster.ranks_per_host)  # fmt: skip

    def _has_model(self) -> bool:
        """Whether the library of these GPUs has a model; what it does not know is told when it is asked."""
        if not self.fabric.device:
            return False
        own = library_of(self.fabric.device)
        if self._library not in (None, own):
            raise InputError(f"--library {self._library} on topology {self.fabric.name}: its GPUs take {own}")
        return True

    def _knows(self, library: NcclLibrary, record: Measured, cluster: Cluster, members: Sequence[IntArray]) -> bool:
        """Whether the model can time this; if not that is noted, and links at their rates have to do."""
        wanted = Wanted(record.collective, record.num_elements, record.size_bytes // record.num_elements, record.root)
        try:
            for ranks in members:
                library.prediction(wanted, layouts_of(ranks[None, :], cluster)[1][0])
        except InputError as error:
            note = f"{error}; such measurements are held against links at their rates"
            self.notes += [] if note in self.notes else [note]
            return False
        return True

    def _at_scale(self, scale: float) -> Fabric:
        """The fabric with all rates in proportion, as a testbed has it."""
        if scale not in self._scaled:
            self._scaled[scale] = replace(self.fabric, bandwidths=self.fabric.bandwidths * scale)
        return self._scaled[scale]


def _gloo(record: Measured, connections: Any) -> GlooLibrary:
    return GlooLibrary(
        connections=connections, algorithm=record.algorithm, channels=record.channels, group=record.group
    )


def _link_bytes(done: Result) -> FloatArray:
    if done.bound is not None:
        return done.bound.link_bytes()
    assert done.paths is not None, "nothing moves routes on a healthy fabric"
    return link_bytes(done.tasks, done.paths)


def _own_links(done: Result, ranks: range, measurement: Measurement, simulator: Simulator) -> IntArray:
    """The links that the messages of one of several groups cross."""
    if done.bound is not None:
        alone = Measurement(measurement.record, (measurement.ranks,), 0)
        return simulator.expect(alone).links
    assert done.paths is not None
    tasks, paths = done.tasks, done.paths
    mine = (paths.route_of >= 0) & np.isin(tasks.rank, list(ranks))
    routes = np.unique(paths.route_of[mine])
    found = [paths.links[paths.first[route] : paths.first[route + 1]] for route in routes.tolist()]
    links: IntArray = np.unique(np.concatenate(found)).astype(np.int64)
    return links
