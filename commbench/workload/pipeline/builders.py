# SPDX-License-Identifier: Apache-2.0
"""The order of passes on one rank, for schedules whose stage s stands on rank s mod P.

``p`` ranks, ``m`` microbatches, ``v`` stages per rank. Orders equal those that torch.distributed.pipelining 2.13 runs
(a test compares them), but for ZB-H2, which torch does not have.
"""

from commbench.workload.pipeline.schedule import Action, Pass, Step

__all__ = ["gpipe", "interleaved_1f1b", "looped_bfs", "one_f_one_b", "zb_h1", "zb_h2"]

F, B, I, W = Pass.FORWARD, Pass.BACKWARD, Pass.INPUT, Pass.WEIGHT  # noqa: E741  # the field's letters


def gpipe(p: int, m: int, v: int, rank: int) -> list[Step]:
    """All forwards, then all backwards (GPipe, arXiv 1811.06965)."""
    return [*(Action(rank, F, k) for k in range(m)), *(Action(rank, B, k) for k in range(m))]


def looped_bfs(p: int, m: int, v: int, rank: int) -> list[Step]:
    """Breadth first: all microbatches through a rank's first stage, then through its next (arXiv 2211.05953)."""
    stages = range(rank, p * v, p)
    forward = [Action(stage, F, k) for stage in stages for k in range(m)]
    return [*forward, *(Action(stage, B, k) for stage in reversed(stages) for k in reversed(range(m)))]


def one_f_one_b(p: int, m: int, v: int, rank: int) -> list[Step]:
    """One forward, one backward after p - 1 - rank forwards, or all m if these are fewer, as Megatron-LM has it
    (PipeDream-Flush, arXiv 2104.04473, section 2.2.1).
    """
    return _paired(p, m, 1, rank, warmup=p - 1 - rank)


def interleaved_1f1b(p: int, m: int, v: int, rank: int) -> list[Step]:
    """1F1B over v stages per rank, p microbatches of a stage at a time (arXiv 2104.04473, section 2.2.2)."""
    return _paired(p, m, v, rank, warmup=(v - 1) * p + 2 * (p - 1 - rank))


def zb_h1(p: int, m: int, v: int, rank: int) -> list[Step]:
    """Weight gradients wait: rank r is always r of them behind (ZB-H1, arXiv 2401.10241, section 3; torch's ZB1P)."""
    return _paired(p, m, v, rank, warmup=(v - 1) * p + p - 1 - rank, lag=rank)


def zb_h2(p: int, m: int, v: int, rank: int) -> list[Step]:
    """As ZB-H1 with twice the warm-up and twice the delay: no bubble at F = I = W, 2p - 1 activations (section 3)."""
    return _paired(p, m, 1, rank, warmup=2 * (p - 1 - rank), lag=2 * rank)


def _paired(p: int, m: int, v: int, rank: int, *, warmup: int, lag: int | None = None) -> list[Step]:
    """``warmup`` forwards, then forward and backward in turn, then the backwards that are left.

    The k-th forward of a rank takes its stages in turn, p microbatches of each; the k-th backward the same from the
    last stage. ``lag``: None for whole backwards; else a backward is I, and from the one number ``lag`` on each is
    followed by the oldest W that is due.
    """
    total = v * m
    warmup = min(warmup, total)

    def forward(k: int) -> Action:
        return Action((k // p) % v * p + rank, F, k // (p * v) * p + k % p)

    def backward(k: int, kind: Pass) -> Action:
        return Action((v - 1 - (k // p) % v) * p + rank, kind, k // (p * v) * p + k % p)

    steps: list[Step] = [forward(k) for k in range(warmup)]
    for k in range(total):
        if warmup + k < total:
            steps.append(forward(warmup + k))
        steps.append(backward(k, B if lag is None else I))
        if lag is not None and k >= lag:
            steps.append(backward(k - lag, W))
    if lag is not None:
        steps += [backward(k, W) for k in range(max(0, total - lag), total)]
    return steps
