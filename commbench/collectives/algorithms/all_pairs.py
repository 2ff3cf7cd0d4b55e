# SPDX-License-Identifier: Apache-2.0
"""All-pairs: every rank exchanges with every other at once, so that all direct links of a full mesh work.

Source: Z. Cai, Z. Liu, S. Maleki, M. Musuvathi, T. Mytkowicz, J. Nelson, O. Saarikivi, "Synthesizing optimal
collective algorithms", PPoPP 2021, and microsoft/msccl-tools, examples/mscclang/allreduce_allpairs.py, where the
all-reduce is called allpairs; RCCL's tuned files for full meshes have the same form.
"""

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.memory import require_table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "all_pairs_all_gather", "all_pairs_all_reduce", "all_pairs_reduce_scatter"]

_SOURCE = "msccl-tools, allreduce_allpairs.py; Cai et al. 2021"


def all_pairs_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in two steps: rank d adds up chunk d of n from everybody, then sends the sum to everybody.

    Each rank sends 2(n-1)/n of the buffer, 1/n to every other rank in each step.
    """
    rows = np.concatenate([_collect(num_ranks), _spread(num_ranks, step=1)])
    return Schedule("all-reduce", "all-pairs", num_ranks, num_ranks, table(rows))


def all_pairs_reduce_scatter(num_ranks: int) -> Schedule:
    """Reduce-scatter in one step: all send block d to rank d, which adds; (n-1)/n of the buffer leaves a rank."""
    return Schedule("reduce-scatter", "all-pairs", num_ranks, num_ranks, table(_collect(num_ranks)))


def all_pairs_all_gather(num_ranks: int) -> Schedule:
    """All-gather in one step: everybody sends its block to everybody; (n-1)/n of the buffer leaves a rank."""
    return Schedule("all-gather", "all-pairs", num_ranks, num_ranks, table(_spread(num_ranks, step=0)))


def _pairs(num_ranks: int) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """(sender, receiver) of every two, near distances first."""
    require_table(f"a message for every two of {num_ranks} ranks", 2 * num_ranks**2)
    rank, distance = np.arange(num_ranks), np.arange(1, num_ranks)[:, None]
    return np.broadcast_to(rank, (num_ranks - 1, num_ranks)), (rank + distance) % num_ranks


def _collect(num_ranks: int) -> npt.NDArray[np.int_]:
    sender, receiver = _pairs(num_ranks)
    return messages(0, sender, receiver, receiver, receiver, kind=Kind.REDUCE)


def _spread(num_ranks: int, step: int) -> npt.NDArray[np.int_]:
    sender, receiver = _pairs(num_ranks)
    return messages(step, sender, receiver, sender, sender)


ALGORITHMS = (
    made_by(all_pairs_all_reduce, "all-reduce", "all-pairs", _SOURCE, aliases=("allpairs",)),
    made_by(all_pairs_reduce_scatter, "reduce-scatter", "all-pairs", _SOURCE, aliases=("allpairs",)),
    made_by(all_pairs_all_gather, "all-gather", "all-pairs", _SOURCE, aliases=("allpairs",)),
)
