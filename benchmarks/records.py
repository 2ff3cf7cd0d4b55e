# SPDX-License-Identifier: Apache-2.0
"""What a benchmark saw, raw: every repetition is kept, ratios and rates are derived."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["ColdStart", "Engines", "Observation", "Program", "Race", "SharedLink", "Skipped", "growth", "write"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Base: one JSON line."""

    kind: ClassVar[str]

    def derived(self) -> dict[str, Any]:
        """Figures computed from the fields, written beside them."""
        return {}

    def to_json(self) -> str:
        """One line of JSON, without the newline."""
        return json.dumps({"kind": self.kind, "schema": SCHEMA, **self.derived(), **asdict(self)}, allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program on one case.

    Attributes:
        name: with its version. note: how the work was written for it, or its own word on how it did it.
        walls_s: wall-clock seconds of the whole process, every repetition.
        cpus_s: processor seconds of the same, user and system; other programs on the machine move them less.
        inside_s: of the walls, the seconds that the program itself says it spent simulating.
        peak_bytes: the largest resident set of any repetition.
        predicted_s: the simulated time that it reports, seconds.
    """

    name: str
    note: str
    walls_s: tuple[float, ...]
    cpus_s: tuple[float, ...]
    inside_s: tuple[float, ...]
    peak_bytes: int
    predicted_s: float

    @property
    def wall_s(self) -> float:
        """The best repetition: noise only ever adds."""
        return min(self.walls_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race(Observation):
    """commbench and a peer on the same work.

    Attributes:
        case: what is special about it. ranks, transfers, size_bytes: the work (transfers as commbench counts them).
        ours, peer: the two; ``peer`` is None where it is not installed.
    """

    kind: ClassVar[str] = "race"

    case: str
    ranks: int
    transfers: int
    size_bytes: int
    ours: Program
    peer: Program | None

    @property
    def ratio(self) -> float | None:
        """wall(peer) / wall(commbench): above 1 commbench is the faster one."""
        return None if self.peer is None else self.peer.wall_s / self.ours.wall_s

    @property
    def cpu_ratio(self) -> float | None:
        """The same of the processor seconds."""
        return None if self.peer is None else min(self.peer.cpus_s) / min(self.ours.cpus_s)

    @property
    def difference(self) -> float | None:
        """predicted(commbench) / predicted(peer) - 1, signed."""
        return None if self.peer is None else self.ours.predicted_s / self.peer.predicted_s - 1

    def derived(self) -> dict[str, Any]:
        """Best walls, the ratios and the difference of the predictions."""
        return {
            "wall_s": self.ours.wall_s,
            "peer_wall_s": None if self.peer is None else self.peer.wall_s,
            "ratio": self.ratio,
            "cpu_ratio": self.cpu_ratio,
            "difference": self.difference,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines(Observation):
    """The engines on one ring, in one process; seconds of every repetition.

    Attributes:
        reference_s, compiled_s: the whole of ``simulate`` with this engine.
        floor_s: SimPy itself: as many bare timeouts as there are transfers.
        reference_time_s, compiled_time_s: the simulated times, seconds.
    """

    kind: ClassVar[str] = "engines"

    ranks: int
    transfers: int
    reference_s: tuple[float, ...]
    compiled_s: tuple[float, ...]
    floor_s: tuple[float, ...]
    reference_time_s: float
    compiled_time_s: float

    @property
    def ratio(self) -> float:
        """reference / compiled."""
        return min(self.reference_s) / min(self.compiled_s)

    def derived(self) -> dict[str, Any]:
        """The ratio."""
        return {"ratio": self.ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLink(Observation):
    """``flows`` flows of different sizes over one link at once.

    Attributes:
        walls_s: seconds inside the engine, every repetition. num_shares: how often the shares were computed.
    """

    kind: ClassVar[str] = "shared-link"

    engine: str
    flows: int
    num_shares: int
    walls_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart(Observation):
    """How long a command takes that does next to nothing: wall-clock and processor seconds, in order of the runs."""

    kind: ClassVar[str] = "cold-start"

    command: str
    walls_s: tuple[float, ...]
    cpus_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Observation):
    """What was not measured, and why."""

    kind: ClassVar[str] = "skipped"

    what: str
    why: str


def growth(amounts: Sequence[float], walls_s: Sequence[float]) -> list[float | None]:
    """Local exponents: wall time grows as amount^g between each point and the one before; None at the first."""
    found: list[float | None] = [None]
    for i in range(1, len(amounts)):
        found.append(math.log(walls_s[i] / walls_s[i - 1]) / math.log(amounts[i] / amounts[i - 1]))
    return found[: len(amounts)]


def write(path: Path, environment: Mapping[str, Any], observations: Sequence[Observation]) -> None:
    """All observations as JSON Lines, the environment first; the file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"kind": "environment", "schema": SCHEMA, **environment})
    path.write_text("".join(f"{line}\n" for line in (head, *(o.to_json() for o in observations))), encoding="utf-8")
