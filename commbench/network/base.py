# SPDX-License-Identifier: Apache-2.0
"""The seam between engines and network models: six questions, in Python for the reference engine and compiled.

An engine says which flow starts, is finished, moves to another route, or which link has another bandwidth, in any order
within one instant; then it asks once for the next event of the network, and advances it when that time has come. The
same six have the same meaning in both forms; a model must give equal picoseconds in both. Times are whole picoseconds,
bytes may be fractions, bandwidths are bytes/s. Latency is over before a flow starts (see SEMANTICS.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.routing.ways import WayGraph

__all__ = [
    "LAST_PS",
    "NEVER",
    "PAST_THE_END",
    "Counted",
    "Counting",
    "Network",
    "NetworkKernel",
    "NetworkModel",
    "Streams",
    "Wiring",
    "too_long",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Counted = Mapping[str, IntArray]
"""What a network model has counted on every link, by name; most of shape (links,)."""

NEVER = -1
"""The next event of a network in which nothing is under way."""

PAST_THE_END = -2
"""In the compiled form, the next event where an end passes LAST_PS; in Python :func:`too_long` is raised."""

LAST_PS = 2**63 - 1
"""The last simulated time that int64 picoseconds can tell."""


def too_long() -> InputError:
    """The error of a simulation that passes it."""
    return InputError(f"simulated time passes {LAST_PS} ps (106 days), the end of 64 bits: give smaller sizes")


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """Routes as directions of connections, for models that have connections: what flows take one route is one stream
    of bytes, in the order in which it begins.

    Attributes:
        back: of every route, the one of the same connection the other way, shape (routes,).
        route_of: of every task, shape (tasks,), -1: none.
        written: of every task, the one whose bytes have to be in the sender's buffer for it to end; -1 for flows that
            end when their own bytes have come; shape (tasks,).
    """

    back: IntArray
    route_of: IntArray
    written: IntArray

    @property
    def watching(self) -> IntArray:
        """Of every task, the one that ends when its bytes are written; -1: none; shape (tasks,)."""
        found = np.full(len(self.written), -1, dtype=np.int64)
        told = self.written >= 0
        found[self.written[told]] = np.flatnonzero(told)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """What a model is made for: links and the routes over them.

    Attributes:
        bandwidths: bytes/s of every link, shape (links,).
        first: shape (routes + 1,); route r crosses ``links[first[r]:first[r + 1]]``, no link twice.
        links: link numbers, in the order of the routes.
        weights: weight of a flow on each of these links (see network.maxmin), or empty where all are 1.
        latencies_ps: of every link, or empty where a route's latency is not made of them.
        buffers_bytes: what waits before every link at most; empty: without limit.
        inside: of every link, whether it stays in a host; empty: none does.
        streams: what connections there are, for a model that has them.
        ways: all that flows on these routes may take, for a model that chooses among them; None: each its route alone.
    """

    bandwidths: FloatArray
    first: IntArray
    links: IntArray
    weights: FloatArray = field(default_factory=lambda: np.empty(0))
    latencies_ps: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    buffers_bytes: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    inside: BoolArray = field(default_factory=lambda: np.empty(0, np.bool_))
    streams: Streams | None = None
    ways: WayGraph | None = None


class Network(Protocol):
    """A model for the reference engine: flows, named by numbers, over links."""

    def start(
        self, flow: int, links: Sequence[int], num_bytes: int, now_ps: int, weights: Sequence[float] | None = None
    ) -> None:
        """A flow of ``num_bytes`` enters; ``links`` are at least one, those of a route of the wiring."""

    def finish(self, flow: int) -> None:
        """A flow that ``advance`` named leaves."""

    def move(self, flow: int, links: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """A flow goes on over other links, perhaps none, with what it has left."""

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        """A link has another bandwidth from now on; returns whether any flow may notice."""

    def next_event(self, now_ps: int) -> int:
        """All that happens at ``now_ps`` has been said: when something happens next in the network, or NEVER.

        Raises:
            InputError: a flow's end passes LAST_PS.
        """

    def advance(self, now_ps: int) -> list[int]:
        """The time that ``next_event`` told has come: flows whose last byte has passed, perhaps none."""


@runtime_checkable
class Counting(Protocol):
    """What a network may say besides, after a run."""

    def counted(self) -> Counted:
        """What happened on the links."""

    def stuck(self) -> str:
        """Why messages are left although nothing is to happen any more, in words; "" where none is."""


class NetworkKernel(NamedTuple):
    """The same for the compiled engine: functions compiled by :data:`commbench.network.jit.jit`.

    A flow is named by its place in ``slots`` (records of network.queue.SLOT): ``left`` is what it has to carry (bytes),
    ``task`` its number in ``route_of``, and the fields of the network are the model's. ``state`` is what ``build``
    made; its ``n[0]`` counts work, so that the loop can pause.
    """

    build: Callable[[Wiring, IntArray, Sequence[tuple[int, int]]], Any]
    """``build(wiring, route_of, moves)``: the state, a named tuple of arrays, with room for every task on its route
    (-1: none) and on every route that it may move to, as pairs (from, to)."""
    start: Any  # start(slot, route, now, slots, state)
    finish: Any  # finish(slot, slots, state)
    move: Any  # move(slot, route, now, slots, state)
    set_bandwidth: Any  # set_bandwidth(link, bandwidth, state) -> whether any flow may notice
    next_event: Any  # next_event(now, slots, state) -> ps, NEVER or PAST_THE_END
    advance: Any  # advance(now, slots, state, ended, count) -> count, with flows put at ended[count:]
    sources: tuple[str, ...] = ()
    """Files, beside those of the functions, on which their code depends."""
    counted: Callable[[Any], Counted] | None = None
    """Of a state, as :class:`Counting` has them."""
    stuck: Callable[[Any], str] | None = None
    grown: Callable[[Any], Any] | None = None
    """The state with more room where it is short of it; asked at every pause, which a leap of ``n[0]`` brings about."""

    @property
    def compiled(self) -> tuple[Any, ...]:
        """The functions that are compiled into the loop."""
        return self.start, self.finish, self.move, self.set_bandwidth, self.next_event, self.advance


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network model as engines and users name it.

    Attributes:
        name: for ``--network`` and records.
        make: it for the reference engine.
        kernel: it for the compiled engine; called once, and free to load numba.
        weighted: whether flows may weigh more than 1 on a link, which folding and collective detail need.
        delays: whether it has the latencies of links itself, so that the engine leaves them to it.
        connected: whether flows go over connections (:class:`Streams`).
        balanced: whether packets choose among :class:`~commbench.routing.ways.WayGraph`.
    """

    name: str
    make: Callable[[Wiring], Network]
    kernel: Callable[[], NetworkKernel]
    weighted: bool = False
    delays: bool = False
    connected: bool = False
    balanced: bool = False
