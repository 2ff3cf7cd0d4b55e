# SPDX-License-Identifier: Apache-2.0
"""What torch.distributed's gloo backend sends for each of its collectives, message by message.

Gloo cuts the buffer by its size in bytes, so most of these schedules are for one size. Its loops "wait for what was
posted two iterations ago, add it, post the next" are the schedules' window of 2; between two loops all is waited for,
which is an empty step here. Readiness notices (48 bytes per send and per receive) and the 48-byte header of a message
belong to the transport and are not in the schedule; docs/gloo.md counts them.

Three things cannot be said in a schedule. Gloo adds what has arrived before it waits for the send posted beside it; a
step adds when both are done. Gloo halves the blocks of an all-gather in bytes, through the middle of an element where
the block has an odd number of them; here the first half is the element smaller. And a barrier's messages carry nothing;
here they carry a token as large as the buffer, so ask for the smallest. Copies inside the memory of a rank that torch
makes around a call (flattened inputs and outputs) are left out, except where the result would not be in place.

Source: gloo/{allreduce,allgather,broadcast,reduce,alltoall,alltoallv,gather,scatter,barrier}.cc and torch 2.13,
ProcessGroupGloo.cpp, compared with the messages on the wire (docs/gloo.md).
"""

from dataclasses import dataclass

import numpy as np

from commbench.arrays import IntArray
from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms.messages import table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "MAX_SEGMENT_BYTES"]

MAX_SEGMENT_BYTES = 2**20  # gloo/allreduce.h and reduce.h, kMaxSegmentSize
_WINDOW = 2  # operations in flight in gloo's rings


@dataclass(frozen=True, slots=True, eq=False)
class _Segments:
    """A buffer cut into ``num`` segments, the last of which may be short or empty; empty ones are not sent.

    Attributes:
        per_rank: segments in a rank's part.
        first, count: chunks of every segment: the first, and how many (0 if it is empty).
        weights: of the chunks; empty means equal ones.
    """

    per_rank: int
    first: IntArray
    count: IntArray
    weights: tuple[int, ...]

    @property
    def num(self) -> int:
        """Segments, the empty ones too."""
        return len(self.first)

    @property
    def num_chunks(self) -> int:
        """Chunks of all segments together."""
        return int(self.count.sum())


def _up(value: int, unit: int) -> int:
    """Rounded up to a multiple."""
    return -(-value // unit) * unit


def _max_segment(request: Request) -> int:
    return request.element_bytes * max(1, MAX_SEGMENT_BYTES // request.element_bytes)


def _all_reduce_cut(request: Request, num_bytes: int) -> tuple[int, int]:
    """(number of segments, elements of one) of gloo's all-reduce: as few as allowed, then of equal size."""
    n, element = request.num_ranks, request.element_bytes
    num = _up(max(-(-num_bytes // _max_segment(request)), 2 * n), n)
    return num, _up(-(-num_bytes // num), element) // element


def _reduce_cut(request: Request, num_bytes: int) -> tuple[int, int]:
    """(number of segments, elements of one) of gloo's reduce: as large as allowed, then as many as it takes."""
    n, element = request.num_ranks, request.element_bytes
    size = _up(min(-(-num_bytes // (2 * n)), _max_segment(request)), element)
    return _up(max(-(-num_bytes // size), 2 * n), n), size // element


def _borders(num: int, size: int, total: int) -> IntArray:
    """Element offsets of the borders of ``num`` segments; empty ones start and end at the end of the buffer."""
    return np.minimum(np.arange(num + 1, dtype=np.int64) * size, total)


def _one_chunk_each(n: int, borders: IntArray) -> _Segments:
    """Every segment that is not empty is a chunk."""
    sizes = np.diff(borders)
    num = len(sizes)
    return _Segments(num // n, np.arange(num), (sizes > 0).astype(np.int64), tuple(sizes[sizes > 0].tolist()))


def _cut_at_blocks(n: int, borders: IntArray) -> _Segments:
    """Segments that are not aligned with the n blocks: chunks are cut at the borders of both.

    Every block must have as many chunks as the others, so that some end with empty ones; these travel with the
    segment in which they stand.
    """
    total = int(borders[-1])
    blocks = np.arange(n + 1, dtype=np.int64) * (total // n)
    cuts = [borders[(borders > blocks[r]) & (borders < blocks[r + 1])] for r in range(n)]
    starts = np.tile(blocks[1:, None], 1 + max(map(len, cuts)))
    starts[:, 0] = blocks[:-1]
    for row, cut in zip(starts, cuts, strict=True):
        row[1 : 1 + len(cut)] = cut
    starts = starts.ravel()
    edges = np.searchsorted(starts, borders[:-1])
    edges[borders[:-1] == total] = len(starts)
    count = np.diff(np.append(edges, len(starts)))
    weights = np.diff(np.append(starts, total))
    return _Segments((len(borders) - 1) // n, edges, count, tuple(weights.tolist()))


def _segments(request: Request, *, reduce: bool = False, blocked: bool = False) -> _Segments:
    """The segments for a request; without a size, two per rank, all equal."""
    n = request.num_ranks
    if request.num_elements is None:
        return _Segments(2, np.arange(2 * n), np.ones(2 * n, dtype=np.int64), ())
    total = request.num_elements
    num, size = (_reduce_cut if reduce else _all_reduce_cut)(request, total * request.element_bytes)
    borders = _borders(num, size, total)
    return _cut_at_blocks(n, borders) if blocked else _one_chunk_each(n, borders)


def _rows(kind: Kind, step: IntArray, rank: IntArray, peer: IntArray, chunk: IntArray, count: IntArray) -> IntArray:
    """Records on channel 0; those of no chunks are left out."""
    kept = np.broadcast_to(count, step.shape) > 0
    columns = np.broadcast_arrays(step, rank, np.int64(0), np.int64(kind), peer, chunk, count)
    return np.stack([column[kept] for column in columns], axis=1)


def _ring(n: int, segments: _Segments, posts: int, ahead: int, kind: Kind, start: int, base: int = 0) -> IntArray:
    """One loop of gloo's rings: in iteration i rank r sends segment (r + ahead) k + i, k per rank, to rank r - 1.

    Args:
        n: world size.
        segments: the cut.
        posts: iterations that post something.
        ahead: 1 for the reduce-scatter, 0 for the all-gather.
        kind: what the receiver does.
        start: step of iteration 0.
        base: chunk at which the buffer begins.
    """
    i, rank = (grid.ravel() for grid in np.indices((posts, n)))
    sent = ((rank + ahead) * segments.per_rank + i) % segments.num
    received = (sent + segments.per_rank) % segments.num
    first, count = segments.first + base, segments.count
    # The receive is posted before the send.
    receives = _rows(kind, start + i, rank, (rank + 1) % n, first[received], count[received])
    sends = _rows(Kind.SEND, start + i, rank, (rank - 1) % n, first[sent], count[sent])
    return np.concatenate([receives, sends])


def _all_reduce_rows(n: int, segments: _Segments, start: int, base: int) -> tuple[IntArray, int]:
    """Records of an all-reduce from a step on, and the first step after it that waits for all of it."""
    posts = segments.num - segments.per_rank
    gather = start + posts + _WINDOW - 1
    rows = np.concatenate(
        [
            _ring(n, segments, posts, 1, Kind.REDUCE, start, base),
            _ring(n, segments, posts, 0, Kind.RECV, gather, base),
        ]
    )
    return rows, gather + posts + _WINDOW - 1


def _all_reduce(request: Request) -> Schedule:
    """Ring reduce-scatter of segments, then ring all-gather; messages go from rank r to rank r - 1."""
    n = request.num_ranks
    if n == 1:
        return Schedule("all-reduce", "gloo", 1, 1, table())
    segments = _segments(request)
    rows, _ = _all_reduce_rows(n, segments, 0, 0)
    return Schedule("all-reduce", "gloo", n, segments.num_chunks, table(rows), window=_WINDOW, weights=segments.weights)


def _reduce_scatter(request: Request) -> Schedule:
    """Torch copies the input, all-reduces the whole copy, and copies the rank's own block out of it."""
    n = request.num_ranks
    rank = np.arange(n)
    segments = _segments(request, blocked=True)
    chunks = segments.num_chunks
    copied = _copies(0, rank, 0, chunks, chunks)
    rows, after = _all_reduce_rows(n, segments, _WINDOW, chunks)
    own = rank * (chunks // n)
    back = _copies(after, rank, chunks + own, own, chunks // n)
    parts = (copied, rows, back) if n > 1 else (copied, back)
    return Schedule(
        "reduce-scatter",
        "gloo",
        n,
        chunks,
        table(*parts),
        window=_WINDOW,
        num_buffers=2,
        weights=segments.weights,
    )


def _copies(step: int, rank: IntArray, source: IntArray | int, target: IntArray | int, count: int) -> IntArray:
    """Every rank copies chunks inside its own memory."""
    steps = np.full_like(rank, step)
    ends = ((Kind.SEND, source), (Kind.RECV, target))
    return np.concatenate(
        [_rows(kind, steps, rank, rank, np.asarray(chunk), np.asarray(count)) for kind, chunk in ends]
    )


def _reduce(request: Request) -> Schedule:
    """Ring reduce-scatter of segments, then everybody sends its finished part to the root.

    The loop posts all segments but two, which is what it takes at two segments per rank. With k > 2 it goes on to
    send each rank's first k - 2 finished segments round once more, to a rank that has no use for them.
    """
    n, root = request.num_ranks, request.root
    if n == 1:
        return Schedule("reduce", "gloo", 1, 1, table())
    segments = _segments(request, reduce=True)
    posts = segments.num - _WINDOW
    others = np.delete(np.arange(n), root)
    step = np.full_like(others, posts + _WINDOW - 1)
    first = segments.first.reshape(n, -1)[others, 0]
    count = segments.count.reshape(n, -1)[others].sum(axis=1)
    to_root = np.full_like(others, root)
    rows = table(
        _ring(n, segments, posts, 1, Kind.REDUCE, 0),
        _rows(Kind.RECV, step, to_root, others, first, count),
        _rows(Kind.SEND, step, others, to_root, first, count),
    )
    return Schedule("reduce", "gloo", n, segments.num_chunks, rows, window=_WINDOW, root=root, weights=segments.weights)


def _all_gather(request: Request) -> Schedule:
    """Ring of half blocks: in iteration i rank r sends half i mod 2 of block r - i / 2 to rank r + 1."""
    n = request.num_ranks
    i, rank = (grid.ravel() for grid in np.indices((2 * (n - 1), n)))
    sent = (rank - i // 2) % n * 2 + i % 2
    received = (sent - 2) % (2 * n)
    one = np.ones_like(i)
    rows = table(
        _rows(Kind.SEND, i, rank, (rank + 1) % n, sent, one), _rows(Kind.RECV, i, rank, (rank - 1) % n, received, one)
    )
    weights: tuple[int, ...] = ()
    if request.num_elements is not None:
        block = request.num_elements // n
        weights = (block // 2, block - block // 2) * n
    return Schedule("all-gather", "gloo", n, 2 * n, rows, window=_WINDOW, weights=weights)


def _broadcast(request: Request) -> Schedule:
    """Binomial tree of whole messages; a rank that has the message posts all its sends at once, near ones first."""
    n, root = request.num_ranks, request.root
    child = np.arange(1, n)  # ranks counted from the root on
    bit = 2 ** np.floor(np.log2(np.maximum(child, 1))).astype(np.int64)  # the highest bit: the round of its receive
    parent = child - bit
    here, there = (child + root) % n, (parent + root) % n
    zero, one = np.zeros_like(child), np.ones_like(child)
    rows = table(
        _rows(Kind.RECV, zero, here, there, zero, one),
        _rows(Kind.SEND, (parent > 0).astype(np.int64), there, here, zero, one),
    )
    return Schedule("broadcast", "gloo", n, 1, rows, root=root)


def _rooted(collective: str, request: Request) -> Schedule:
    """Gather or scatter: every block between its rank and the root, all at once, in the order of the ranks."""
    n, root = request.num_ranks, request.root
    others = np.delete(np.arange(n), root)
    to_root = np.full_like(others, root)
    zero, one = np.zeros_like(others), np.ones_like(others)
    source, target = (others, to_root) if collective == "gather" else (to_root, others)
    rows = table(
        _rows(Kind.RECV, zero, target, source, others, one), _rows(Kind.SEND, zero, source, target, others, one)
    )
    return Schedule(collective, "gloo", n, n, rows, root=root)


def _all_to_all(collective: str, request: Request) -> Schedule:
    """The own block is copied; then all sends and receives are posted at once, in pairs, near distances first."""
    n = request.num_ranks
    by_pair = collective == "all-to-all-v"  # there, chunk s * n + d is what rank s has for rank d
    chunks = n * n if by_pair else n
    distance, rank = (grid.ravel() for grid in np.indices((n, n)))
    step = np.minimum(distance, 1)
    to, fro = (rank + distance) % n, (rank - distance) % n
    one = np.ones_like(rank)
    sent, placed = (rank * n + to, fro * n + rank) if by_pair else (to, fro)
    sends = _rows(Kind.SEND, step, rank, to, sent, one)
    receives = _rows(Kind.RECV, step, rank, fro, chunks + placed, one)
    rows = table(np.stack([sends, receives], axis=1).reshape(-1, sends.shape[1]))
    return Schedule(collective, "gloo", n, chunks, rows, num_buffers=2, output=1)


def _send_recv(request: Request) -> Schedule:
    """One message to the next rank, one from the rank before; a rank alone copies."""
    n = request.num_ranks
    rank = np.arange(n)
    zero, one = np.zeros_like(rank), np.ones_like(rank)
    rows = table(
        _rows(Kind.SEND, zero, rank, (rank + 1) % n, zero, one), _rows(Kind.RECV, zero, rank, (rank - 1) % n, one, one)
    )
    return Schedule("send-recv", "gloo", n, 1, rows, num_buffers=2, output=1)


def _barrier(request: Request) -> Schedule:
    """Dissemination (Hensgen, Finkel and Manber 1988): with d = 1, 2, 4 ... below n, to rank r + d, from rank r - d."""
    n = request.num_ranks
    step, rank = (grid.ravel() for grid in np.indices(((n - 1).bit_length(), n)))
    distance = 2**step
    zero, one = np.zeros_like(rank), np.ones_like(rank)
    rows = table(
        _rows(Kind.REDUCE, step, rank, (rank - distance) % n, zero, one),
        _rows(Kind.SEND, step, rank, (rank + distance) % n, zero, one),
    )
    return Schedule("barrier", "gloo", n, 1, rows)


def _plain(request: Request) -> str:
    """Gloo cuts as it likes, and has one connection between two ranks."""
    if request.slices == request.channels == 1:
        return ""
    return f"cuts by itself and has one channel, so it takes no {request.slices} slices on {request.channels} channels"


_BUILDERS = {
    "all-reduce": (_all_reduce, "gloo allreduce.cc, ring", True),
    "reduce-scatter": (_reduce_scatter, "torch ProcessGroupGloo: gloo all-reduce of the whole input", True),
    "all-gather": (_all_gather, "gloo allgather.cc", True),
    "broadcast": (_broadcast, "gloo broadcast.cc", False),
    "reduce": (_reduce, "gloo reduce.cc", True),
    "all-to-all": (lambda r: _all_to_all("all-to-all", r), "gloo alltoall.cc", False),
    "all-to-all-v": (lambda r: _all_to_all("all-to-all-v", r), "gloo alltoallv.cc", False),
    "gather": (lambda r: _rooted("gather", r), "gloo gather.cc", False),
    "scatter": (lambda r: _rooted("scatter", r), "gloo scatter.cc", False),
    "send-recv": (_send_recv, "torch ProcessGroupGloo send and recv", False),
    "barrier": (_barrier, "gloo barrier.cc; Hensgen, Finkel and Manber 1988", False),
}

ALGORITHMS = tuple(
    Algorithm(
        collective=collective,
        name="gloo",
        build=build,
        source=source,
        refuses=_plain,
        worlds="any, with one slice and one channel",
        sized=sized,
    )
    for collective, (build, source, sized) in _BUILDERS.items()
)
