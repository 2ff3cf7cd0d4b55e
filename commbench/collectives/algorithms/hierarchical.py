# SPDX-License-Identifier: Apache-2.0
"""All-reduce on two levels: inside every host, and between ranks of the same place in every host (rail-wise).

Source: M. Cho, U. Finkler, M. Serrano, D. Kung, H. Hunter, "BlueConnect: decomposing all-reduce for deep learning on
heterogeneous network hierarchy", MLSys 2019, with two levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithms.messages import Numbers, made_by, messages, table, whole_hosts
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "hierarchical_all_reduce", "two_level_rows"]


def hierarchical_all_reduce(num_ranks: int, group: int) -> Schedule:
    """All-reduce in 2(g - 1) + 2(h - 1) steps for h hosts of g ranks: three phases of rings.

    A ring reduce-scatter inside the host leaves rank i with block i of g; a ring all-reduce between the ranks i of all
    hosts sums it; a ring all-gather inside the host spreads it. Each rank sends 2(n - 1)/n of the buffer, of which only
    2(h - 1)/n leave the host. With one host, or hosts of one rank, it is the plain ring.
    """
    rows = two_level_rows(group, num_ranks // group, inner_stride=1, outer_stride=group)
    return Schedule("all-reduce", "hierarchical", num_ranks, num_ranks, rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Rings:
    """Rings of ``size`` ranks that run side by side: every rank is on one of them, at ``place``, before ``following``.

    The data of a ring are ``size`` blocks of ``count`` chunks, one behind the other from ``first_chunk``.
    """

    rank: Numbers
    following: Numbers
    place: npt.NDArray[np.int_]
    size: int
    first_chunk: Numbers
    count: int
    channel: int

    def rows(self, first_step: int, kind: Kind) -> Iterator[npt.NDArray[np.int_]]:
        """Rows of a reduce-scatter (REDUCE) that leaves block p at place p, or of an all-gather (RECV) from there."""
        late = 1 if kind is Kind.REDUCE else 0
        for step in range(self.size - 1):
            chunk = self.first_chunk + (self.place - step - late) % self.size * self.count
            yield messages(
                first_step + step,
                self.rank,
                self.following,
                chunk,
                chunk,
                count=self.count,
                kind=kind,
                channel=self.channel,
            )


def two_level_rows(
    inner: int, outer: int, *, inner_stride: int, outer_stride: int, first_chunk: int = 0, channel: int = 0
) -> npt.NDArray[np.int32]:
    """Rows of reduce-scatter along the inner rings, all-reduce along the outer ones, all-gather along the inner ones.

    Rank (i, j), number i * inner_stride + j * outer_stride, is place i on inner ring j and place j on outer ring i.
    The inner * outer chunks from ``first_chunk`` are reduced; chunk i * outer + j of them is complete first on (i, j).
    """
    i, j = (grid.ravel() for grid in np.indices((inner, outer)))
    rank = i * inner_stride + j * outer_stride
    next_inside = (i + 1) % inner * inner_stride + j * outer_stride
    next_across = i * inner_stride + (j + 1) % outer * outer_stride
    inside = _Rings(rank, next_inside, i, inner, first_chunk, outer, channel)
    across = _Rings(rank, next_across, j, outer, first_chunk + i * outer, 1, channel)
    half = inner - 1 + outer - 1
    return table(
        *inside.rows(0, Kind.REDUCE),
        *across.rows(inner - 1, Kind.REDUCE),
        *across.rows(half, Kind.RECV),
        *inside.rows(half + outer - 1, Kind.RECV),
    )


ALGORITHMS = (
    made_by(
        hierarchical_all_reduce,
        "all-reduce",
        "hierarchical",
        "Cho et al. 2019 (BlueConnect), two levels",
        grouped=True,
        refuses=whole_hosts,
        worlds="multiples of the ranks per host",
    ),
)
