# SPDX-License-Identifier: Apache-2.0
"""What a communication library is to the simulator: it chooses how a collective goes, and says what messages cost.

Engines know none of this. A :class:`Library` is asked once for every collective and every layout of ranks on hosts that
it meets; what it answers is turned into messages by :mod:`commbench.lowering`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build, rounds_of
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule
from commbench.errors import InputError
from commbench.network.transport import Connections

__all__ = ["LIBRARIES", "Choice", "Layout", "Library", "Timing", "TransferTimes", "Wanted", "form_of"]

LIBRARIES = ("ideal", "nccl", "rccl")
"""That ``--library`` takes; all but the first have a model of their own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the ranks of one group sit.

    Attributes:
        hosts: of every rank, numbered from 0 in the order of their first rank.
        ways: orders of a host's ranks along direct links that share none (``Request.ways``).
    """

    hosts: tuple[int, ...]
    ways: tuple[tuple[int, ...], ...] = ()

    @property
    def num_hosts(self) -> int:
        """Hosts that the group lies on."""
        return max(self.hosts) + 1

    @property
    def ranks_per_host(self) -> int:
        """Of the fullest host."""
        return max(Counter(self.hosts).values())


@dataclass(frozen=True, slots=True)
class Wanted:
    """A collective that a library is asked about.

    Attributes:
        kind: a key of ``collectives.spec.COLLECTIVES``.
        num_elements: of the full buffer. element_bytes: of one. root: for rooted collectives.
    """

    kind: str
    num_elements: int
    element_bytes: int
    root: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a library's model says that a collective takes on a fabric in health; the messages then say only which
    links it loads.

    Attributes:
        called: the algorithm as the library names it. channels: that it takes.
        delay_s: seconds that are the same on any fabric. wire_s: seconds of the flow behind them.
        share: bytes on links, to those of the messages.
        stand_in: whether the messages are those of another algorithm than the one that was chosen: what they put on
            single links then says nothing of what it does.
        in_switch: whether switches add, so that less crosses links than any schedule of ranks needs.
        terms: both together by what they go to. candidates: what was weighed: name, the library's own estimate and the
            model's, in seconds.
    """

    called: str
    channels: int
    delay_s: float
    wire_s: float
    share: float = 1.0
    stand_in: bool = False
    in_switch: bool = False
    terms: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a collective goes.

    Attributes:
        algorithm: what is built, or a schedule as it is. request: for what; it holds channels and slices (pipeline
            depth).
        protocol: of the library, "" where it has but one.
        timing: None where the messages say how long it takes.
    """

    algorithm: Algorithm | Schedule
    request: Request
    protocol: str = ""
    timing: Timing | None = None

    @property
    def name(self) -> str:
        """Of the algorithm."""
        if self.timing is not None:
            return self.timing.called
        return self.algorithm.algorithm if isinstance(self.algorithm, Schedule) else self.algorithm.name


def form_of(choice: Choice) -> Rounds | Schedule:
    """The messages of a choice, as rounds if it has them.

    Raises:
        InputError: the algorithm cannot serve the request.
    """
    if isinstance(choice.algorithm, Schedule):
        schedule, ranks = choice.algorithm, choice.request.num_ranks
        if schedule.num_ranks != ranks:
            raise InputError(f"schedule {schedule.algorithm} is for {schedule.num_ranks} ranks, not {ranks}")
        return schedule
    return rounds_of(choice.algorithm, choice.request) or build(choice.algorithm, choice.request)


class Library(Protocol):
    """One library."""

    @property
    def name(self) -> str:
        """As records have it."""

    @property
    def connections(self) -> Connections | None:
        """What messages go over, and cost beside their payload; None: what the topology says alone."""

    @property
    def has_model(self) -> bool:
        """Whether a model of its own says how long collectives take (:class:`Timing`), not their messages."""

    def choose(self, wanted: Wanted, layout: Layout) -> Choice:
        """How the collective goes for ranks that sit so.

        Raises:
            InputError: it has no such collective, or cannot serve this group.
        """


@runtime_checkable
class TransferTimes(Protocol):
    """A library that also says how long a transfer takes; with others that is as long as on the wire."""

    def transfer(self, num_bytes: int, layout: Layout) -> Timing | None:
        """So many bytes from the first of two ranks to the other; None: as long as on the wire."""
