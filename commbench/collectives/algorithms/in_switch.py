# SPDX-License-Identifier: Apache-2.0
"""All-reduce with a switch that adds what comes in and multicasts the sum.

The switch is rank n. Its memory starts at zero, so that adding all n inputs to it gives the sum.

Sources: R. Graham et al., "Scalable hierarchical aggregation protocol (SHArP): a hardware architecture for efficient
data reduction", COMHPC 2016; B. Klenk, N. Jiang, G. Thorson, L. Dennison, "An in-network architecture for
accelerating shared-memory multiprocessor collectives", ISCA 2020 (on NVSwitch); the division into heads is
that of NCCL 2.30.7.
"""

import numpy as np

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "nvls_all_reduce", "sharp_all_reduce"]


def nvls_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce on one host, every rank r the head of chunk r of n: four steps.

    The switch adds the n inputs of every chunk; it hands the sum of chunk r to head r; the head hands it back to be
    multicast; the switch sends it to all, the head included. So (1 + 1/n) of the buffer leaves every rank, and as much
    arrives.
    """
    n = num_ranks
    rank, switch = np.arange(n), n
    rows = table(
        messages(0, rank, switch, 0, 0, count=n, kind=Kind.REDUCE),
        messages(1, switch, rank, rank, rank),
        messages(2, rank, switch, rank, rank),
        messages(3, switch, rank, 0, 0, count=n),
    )
    return Schedule("all-reduce", "nvls", n, n, rows, num_switches=1)


def sharp_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in one InfiniBand leaf that all hosts hang on, in two steps: all send all, it multicasts the sum.

    One buffer leaves every rank and one arrives. Trees of such switches, where leaves pass sums on, are not built.
    """
    n = num_ranks
    rank, switch = np.arange(n), n
    rows = table(messages(0, rank, switch, 0, 0, kind=Kind.REDUCE), messages(1, switch, rank, 0, 0))
    return Schedule("all-reduce", "sharp", n, 1, rows, num_switches=1)


ALGORITHMS = (
    made_by(
        nvls_all_reduce,
        "all-reduce",
        "nvls",
        "Klenk et al. 2020; heads as in NCCL 2.30.7",
        worlds="any, on one host",
        one_host=True,
        default_slices=32,  # fewer leave the pipeline of four steps half empty: 1.64 times the ideal time with 4
        live=False,
    ),
    made_by(
        sharp_all_reduce,
        "all-reduce",
        "sharp",
        "Graham et al. 2016 (SHArP); one InfiniBand switch",
        worlds="any, on hosts of one leaf",
        one_leaf=True,
        default_slices=4,
        live=False,
    ),
)
