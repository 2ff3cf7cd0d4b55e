# SPDX-License-Identifier: Apache-2.0
"""What the open mappings of records hold under the keys that commbench reads; other keys are free.

Only pydantic reads these, when a line is read (:class:`commbench.results.shapes.Shaped`): code that makes a record has
plain mappings.
"""

from typing import Annotated, Any, TypeVar

from typing_extensions import TypedDict

from commbench.results.values import Bytes, Count, Factor, Name, OneOf, Positive, Seconds, Whole, Within

__all__ = [
    "EmulatedFacts",
    "EnvironmentFacts",
    "GroupFigures",
    "IdleSeconds",
    "LinkUse",
    "NetworkFacts",
    "RoundFacts",
    "TransportFacts",
]

_T = TypeVar("_T")
_Ranks = Annotated[list[Whole], Within(min_length=1)]
_Member = tuple[Name, Whole]
"""Where a rank sits: its host's name, and the number of its endpoint (GPU) there."""


def _open(cls: type[_T]) -> type[_T]:
    """What pydantic's ``with_config`` does, without loading it: strict about known keys, open to others."""
    cls.__pydantic_config__ = {"strict": True, "allow_inf_nan": False, "extra": "allow"}  # type: ignore[attr-defined]
    return cls


@_open
class LinkShaping(TypedDict, total=False):
    """How the links of a lab are shaped."""

    burst_packets: Count
    queue_packets: Count
    fair: bool
    congestion: Name


@_open
class EmulatedFacts(TypedDict, total=False):
    """The lab that a record was measured in."""

    topology: Name
    routing: Name
    rate_mbit: Positive
    mtu: Count
    shaping: LinkShaping
    leg: str
    jobs: Annotated[list[_Ranks], Within(min_length=1)]
    job: Whole
    hosts: _Ranks
    channels: Count
    group: Count
    size_asked: Bytes
    routes: dict[str, str]
    idle: Annotated[float, Within(ge=0, le=1)]


@_open
class RoundFacts(TypedDict, total=False):
    """A group of ranks among those that ran at once.

    ``experiment`` is "pairwise", "incast" or "multi"; ``number`` that of the round; ``groups`` how many ran in it;
    ``ranks`` are those of the world that were in this one, in its order. Of a pair: ``distance``, as people say it, and
    whether it was measured ``one_way``, from the first to the second.
    """

    experiment: Name
    number: Whole
    groups: Count
    ranks: _Ranks
    distance: str
    one_way: bool


@_open
class TransportFacts(TypedDict, total=False):
    """What NCCL chose, by its debug log: network between hosts, NICs (by rank where they differ), and how many channels
    between two ranks go by which transport."""

    network: str
    nics: list[str]
    channels: dict[str, Whole]
    nics_by_rank: dict[str, str]


@_open
class EnvironmentFacts(TypedDict, total=False):
    """Facts about machine and software, see results.environment; None is what the system does not tell.

    ``members`` are where the record's ranks sit, in rank order; ``beside`` the same of each other group of ranks that
    did the same at the same time, and ``round`` which group it was.
    """

    hostname: str
    platform: str
    kernel: str
    cpu_model: str | None
    cores_usable: Count
    cpu_quota: Positive | None
    memory_bytes: Bytes | None
    load_1min: Annotated[float, Within(ge=0)] | None
    python: str
    commbench: str
    variables: dict[str, str]
    torch: str
    torch_threads: Count
    hosts: Annotated[list[str], Within(min_length=1)]
    members: Annotated[list[_Member], Within(min_length=1)]
    beside: list[list[_Member]]
    round: RoundFacts
    by_rank: dict[str, dict[str, Any]]
    transports: TransportFacts
    gpu: str
    cuda: str | None
    nccl: str
    emulated: EmulatedFacts


@_open
class GroupFigures(TypedDict, total=False):
    """Errors of one group of points."""

    points: Whole
    median_error: float
    median_abs_error: Annotated[float, Within(ge=0)]
    p95_abs_error: Annotated[float, Within(ge=0)]


@_open
class IdleSeconds(TypedDict):
    """Where a pipeline's idle time went; differences, so any sign."""

    schedule: float
    imbalance: float
    transfer: float
    host: float


@_open
class LinkUse(TypedDict):
    """The busiest link of a kind."""

    joins: str
    link: str
    bytes: Annotated[float, Within(ge=0)]
    utilisation: Factor
    links: Count
    mean_utilisation: Factor


@_open
class NetworkFacts(TypedDict, total=False):
    """What the messages of a simulated pipeline went over."""

    kind: Annotated[str, OneOf(("latency", "lab"))]
    transport: Any
    latency_s: Seconds
    overhead_s: Seconds
    routes: dict[str, str]
