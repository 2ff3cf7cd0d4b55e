# SPDX-License-Identifier: Apache-2.0
"""How many of a host's NICs a collective uses, and whether more channels would use more of them."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build, rounds_of
from commbench.collectives.traffic import Traffic, traffic_of
from commbench.collectives.work import rows_of
from commbench.errors import CommbenchError
from commbench.routing.routes import Routes
from commbench.topology.fabric import Fabric

__all__ = ["unused_nics"]

_MOST_ROWS = 10**6  # of a schedule that is built for the sake of a hint


def unused_nics(algorithm: Algorithm, request: Request, router: Routes, placed: npt.NDArray[np.int64]) -> str:
    """A line for people where a host sends by fewer NICs than it has and more channels would use more; else "".

    Counted on the host of rank 0, by the routes that its messages take.
    """
    fabric = router.fabric
    host, out = _host(fabric, int(placed[0]))
    if len(out) < 2:
        return ""
    more = replace(request, channels=len(out))
    if request.channels >= len(out) or rows_of(algorithm, more) > _MOST_ROWS:
        return ""
    try:
        now, then = (_used(_traffic(algorithm, each), router, placed, host, out) for each in (request, more))
    except CommbenchError:  # it has no channels
        return ""
    if not 0 < now < then:
        return ""
    chooses = "; --library nccl (on AMD rccl) chooses as the library does" if fabric.device else ""
    return f"{now} of the {len(out)} NICs of a host used; --channels {len(out)} uses {then}{chooses}"


def _host(fabric: Fabric, endpoint: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which endpoints are on the host of one of them, and the links from its NICs into the network."""
    host, out = fabric.host_of[endpoint], fabric.to_network
    return fabric.host_of == host, out[fabric.node_hosts[fabric.src[out]] == host]


def _traffic(algorithm: Algorithm, request: Request) -> Iterable[Traffic]:
    form = rounds_of(algorithm, request) or build(algorithm, request)
    return traffic_of(form, request.num_elements or 1, request.element_bytes)


def _used(
    steps: Iterable[Traffic],
    router: Routes,
    placed: npt.NDArray[np.int64],
    here: npt.NDArray[np.bool_],
    out: npt.NDArray[np.int64],
) -> int:
    """How many of the links ``out`` messages from ``here`` take."""
    found: set[int] = set()
    for step in steps:
        own = step.src < len(placed)
        own &= step.dst < len(placed)
        own[own] = here[placed[step.src[own]]] & ~here[placed[step.dst[own]]]
        if own.any():
            links = router.routes(placed[step.src[own]], placed[step.dst[own]], step.channel[own])[1]
            found.update(np.intersect1d(links, out).tolist())
    return len(found)
