# SPDX-License-Identifier: Apache-2.0
"""What a collective has put on each link, so that a bottleneck has a name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from commbench.arrays import FloatArray
from commbench.engine.setting import Paths
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.topology.fabric import Fabric

__all__ = ["busiest_links", "link_bytes"]

_MOST_LINKS = 10


def link_bytes(program: FlatProgram | LoopProgram, paths: Paths) -> FloatArray:
    """Bytes that the whole program sends over every link of ``paths``."""
    moves = paths.route_of >= 0
    amounts = (_of_loop(program) if isinstance(program, LoopProgram) else program.num_bytes.astype(np.float64))[moves]
    of_route = np.bincount(paths.route_of[moves], weights=amounts, minlength=len(paths.latency_ps))
    crossing: FloatArray = np.repeat(of_route, np.diff(paths.first))
    if len(paths.weights):
        crossing = np.multiply(crossing, paths.weights)
    return np.bincount(paths.links, weights=crossing, minlength=len(paths.bandwidths)).astype(np.float64)


def _of_loop(program: LoopProgram) -> FloatArray:
    """Bytes of every task in all rounds."""
    if program.num_bytes.min() == program.num_bytes.max():
        return np.full(len(program.kind), float(program.num_rounds * program.num_bytes[0]))
    total = np.zeros(len(program.kind))
    for number in range(program.num_rounds):
        block = (program.block + number * program.stride) % program.num_blocks
        total += program.num_bytes[block * program.num_pieces + program.piece]
    return total


def busiest_links(
    num_bytes: FloatArray, fabric: Fabric, time_s: float, bound_s: float
) -> tuple[Mapping[str, Any], ...]:
    """Of links over which ``num_bytes`` went, the ten that were busy for most of ``time_s``, the busiest first.

    Each with ``link`` (the nodes that it joins), ``bytes``, ``utilisation`` (of its bandwidth over the time) and
    ``bound_share``: the time that these bytes take it alone, as a share of the lower bound; None if the bound is 0.
    """
    busy_s = num_bytes / fabric.bandwidths
    order = np.lexsort((np.arange(len(busy_s)), -busy_s))[:_MOST_LINKS]
    return tuple(
        {
            "link": fabric.link_name(link),
            "bytes": round(float(num_bytes[link])),
            "utilisation": float(busy_s[link]) / time_s,
            "bound_share": float(busy_s[link]) / bound_s if bound_s else None,
        }
        for link in order.tolist()
        if busy_s[link] > 0
    )
