# SPDX-License-Identifier: Apache-2.0
"""What the open mappings of records hold under the keys that commbench reads; other keys are free.

Only pydantic reads these, when a line is read (see ``values.Shaped``): code that makes a record has plain mappings.
"""

from typing import Annotated, Any

from annotated_types import Ge, Len
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from commbench.results.values import Bytes, Count, Factor, Name, OneOf, Positive, Seconds, Whole

__all__ = ["EmulatedFacts", "EnvironmentFacts", "GroupFigures", "IdleSeconds", "LinkUse", "NetworkFacts"]

_OPEN = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")
_Ranks = Annotated[list[Whole], Len(1)]


@with_config(_OPEN)
class Shaping(TypedDict, total=False):
    """How the links of a lab are shaped."""

    burst_packets: Count


@with_config(_OPEN)
class EmulatedFacts(TypedDict, total=False):
    """The lab that a record was measured in."""

    topology: Name
    routing: Name
    rate_mbit: Positive
    mtu: Count
    shaping: Shaping
    leg: str
    jobs: Annotated[list[_Ranks], Len(1)]
    job: Whole
    hosts: _Ranks
    channels: Count
    group: Count
    size_asked: Bytes
    routes: dict[str, str]


@with_config(_OPEN)
class EnvironmentFacts(TypedDict, total=False):
    """Facts about machine and software, see results.environment; None is what the system does not tell."""

    hostname: str
    platform: str
    kernel: str
    cpu_model: str | None
    cores_usable: Count
    cpu_quota: Positive | None
    memory_bytes: Bytes | None
    load_1min: Annotated[float, Ge(0)] | None
    python: str
    commbench: str
    variables: dict[str, str]
    torch: str
    torch_threads: Count
    hosts: Annotated[list[str], Len(1)]
    gpu: str
    cuda: str | None
    nccl: str
    emulated: EmulatedFacts


@with_config(_OPEN)
class GroupFigures(TypedDict, total=False):
    """Errors of one group of points."""

    points: Whole
    median_error: float
    median_abs_error: Annotated[float, Ge(0)]
    p95_abs_error: Annotated[float, Ge(0)]


@with_config(_OPEN)
class IdleSeconds(TypedDict):
    """Where a pipeline's idle time went; differences, so any sign."""

    schedule: float
    imbalance: float
    transfer: float
    host: float


@with_config(_OPEN)
class LinkUse(TypedDict):
    """The busiest link of a kind."""

    joins: str
    link: str
    bytes: Annotated[float, Ge(0)]
    utilisation: Factor
    links: Count
    mean_utilisation: Factor


@with_config(_OPEN)
class NetworkFacts(TypedDict, total=False):
    """What the messages of a simulated pipeline went over."""

    kind: Annotated[str, OneOf(("latency", "lab"))]
    transport: Any
    latency_s: Seconds
    overhead_s: Seconds
    routes: dict[str, str]
