# SPDX-License-Identifier: Apache-2.0
"""All-reduce on a torus of rows and columns: rings along one dimension, then along the other.

Sources: C. Ying, S. Kumar, D. Chen, T. Wang, Y. Cheng, "Image classification at supercomputer scale", arXiv 1811.06992
(2018), 2-D torus all-reduce; N. Jouppi et al., "TPU v4: an optically reconfigurable supercomputer for
machine learning with hardware support for embeddings", ISCA 2023, for tori as a place to run it.
"""

from math import isqrt

import numpy as np

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.hierarchical import two_level_rows
from commbench.collectives.algorithms.messages import made_by
from commbench.collectives.schedule import Schedule

__all__ = ["ALGORITHMS", "torus_all_reduce", "torus_shape", "two_way_torus_all_reduce"]


def torus_shape(num_ranks: int) -> tuple[int, int]:
    """The most square (rows, columns) with rows <= columns; (1, n) for primes. Rank = row * columns + column."""
    rows = next(r for r in range(isqrt(num_ranks), 0, -1) if num_ranks % r == 0)
    return rows, num_ranks // rows


def torus_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in 2(columns - 1) + 2(rows - 1) steps.

    Reduce-scatter along every row, all-reduce along every column, all-gather along every row: 2(n - 1)/n of the buffer
    per rank, as the ring, in far fewer steps.
    """
    rows, columns = torus_shape(num_ranks)
    single = two_level_rows(columns, rows, inner_stride=1, outer_stride=columns)
    return Schedule("all-reduce", "torus-2d", num_ranks, num_ranks, single)


def two_way_torus_all_reduce(num_ranks: int) -> Schedule:
    """The same on both halves of the buffer at once, each on a channel: one along rows first, one along columns first.

    So the links of both dimensions work all the time.
    """
    n = num_ranks
    rows, columns = torus_shape(n)
    one = two_level_rows(columns, rows, inner_stride=1, outer_stride=columns)
    other = two_level_rows(rows, columns, inner_stride=columns, outer_stride=1, first_chunk=n, channel=1)
    return Schedule("all-reduce", "torus-2d-two-way", n, 2 * n, np.concatenate([one, other]))


def _one_row(request: Request) -> str:
    if torus_shape(request.num_ranks)[0] > 1:
        return ""
    return f"needs at least two rows and two columns, not {request.num_ranks} ranks"


ALGORITHMS = (
    made_by(
        torus_all_reduce,
        "all-reduce",
        "torus-2d",
        "Ying et al. 2018, 2-D torus all-reduce",
        refuses=_one_row,
        worlds="products of two numbers above 1",
    ),
    made_by(
        two_way_torus_all_reduce,
        "all-reduce",
        "torus-2d-two-way",
        "Ying et al. 2018, 2-D torus all-reduce, on two halves that start along different dimensions",
        refuses=_one_row,
        worlds="products of two numbers above 1",
    ),
)
