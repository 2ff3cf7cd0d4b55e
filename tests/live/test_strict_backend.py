# SPDX-License-Identifier: Apache-2.0
"""What NCCL punishes, the strict backend does: each of these goes through on gloo, or hangs there without a word."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live
torch = pytest.importorskip("torch")
dist = torch.distributed

SHORT_S = 0.8
ENDS_WELL_S = 20.0  # where nothing is to time out, also on a machine that is busy

Deed = Callable[[Any, int], Any]


def batch(group: Any, *transfers: tuple[str, Any, int]) -> Any:
    """Together, as (send or recv, tensor, peer)."""
    calls = {"send": dist.isend, "recv": dist.irecv}
    (work,) = dist.batch_isend_irecv([dist.P2POp(calls[how], x, group=group, group_peer=p) for how, x, p in transfers])
    return work


def numbers(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float32)


def crossing_sends(group: Any, rank: int) -> None:
    """Both send first: without buffers neither is ever received."""
    dist.send(numbers(1), group_dst=1 - rank, group=group)
    dist.recv(numbers(0), group_src=1 - rank, group=group)


def crossing_together(group: Any, rank: int) -> list[float]:
    got = numbers(0)
    batch(group, ("send", numbers(rank + 1), 1 - rank), ("recv", got, 1 - rank)).wait()
    return got.tolist()


def ordered_sends(group: Any, rank: int) -> list[float]:
    got = numbers(0)
    for sender in (0, 1):
        if rank == sender:
            dist.send(numbers(rank + 1), group_dst=1 - rank, group=group)
        else:
            dist.recv(got, group_src=1 - rank, group=group)
    return got.tolist()


def other_size(group: Any, rank: int) -> None:
    dist.all_reduce(torch.ones(4 + rank), group=group)


def other_dtype(group: Any, rank: int) -> None:
    dist.all_reduce(torch.ones(4, dtype=torch.int32 if rank else torch.float32), group=group)


def other_collective(group: Any, rank: int) -> None:
    if rank:
        dist.broadcast(torch.ones(4), group_src=0, group=group)
    else:
        dist.all_reduce(torch.ones(4), group=group)


def other_root(group: Any, rank: int) -> None:
    dist.broadcast(torch.ones(4), group_src=rank, group=group)


def other_message(group: Any, rank: int) -> None:
    batch(group, ("recv", torch.ones(4), 0) if rank else ("send", torch.ones(3), 1)).wait()


def other_split(group: Any, rank: int) -> None:
    sent = [1, 2] if rank else [2, 1]
    dist.all_to_all_single(torch.ones(3), torch.ones(3), [1, 2], sent, group=group)


def other_order(group: Any, rank: int) -> None:
    """A batch on one rank stands behind a collective that the other calls after its own batch."""
    dist.barrier(group)
    message = ("recv", numbers(0), 0) if rank else ("send", numbers(1), 1)
    works = [lambda: batch(group, message), lambda: dist.all_reduce(numbers(1), group=group, async_op=True)]
    for work in [post() for post in (works if rank else works[::-1])]:
        work.wait()


def posted_before_settling(group: Any, rank: int) -> None:
    """What a pipeline must not do: post a receive, and settle before the other has sent."""
    from commbench.live.strict_stream import settle_all

    dist.barrier(group)
    got = numbers(0)
    batch(group, ("recv", got, 0)) if rank else None
    settle_all()
    batch(group, ("send", numbers(1), 1)) if not rank else None
    settle_all()


def alone(group: Any, rank: int) -> None:
    if rank == 0:
        dist.all_reduce(numbers(1), group=group)


def a_subset_first(group: Any, rank: int) -> None:
    """The first batch of a group connects all of it; rank 2 does not come."""
    if rank < 2:
        batch(group, ("recv", numbers(0), 0) if rank else ("send", numbers(1), 1)).wait()


def read_too_early(group: Any, rank: int) -> list[list[float]]:
    """Before and after the wait."""
    x = torch.full((2,), 1.0)
    dist.barrier(group)
    work = dist.all_reduce(x, group=group, async_op=True)
    while not work.is_completed():
        pass
    early = x.clone()
    work.wait()
    return [torch.isnan(early).tolist(), x.tolist()]


def in_stream_order(group: Any, rank: int) -> list[float]:
    """Three sums of one tensor, the host waits for the last alone."""
    x = numbers(rank + 1)
    works = [dist.all_reduce(x, group=group, async_op=True) for _ in range(3)]
    works[-1].wait()
    return x.tolist()


def taken_when_its_turn_comes(group: Any, rank: int) -> list[float]:
    """A send behind a receive into the same memory takes what has arrived, as on a stream."""
    x = numbers(7.0 if rank == 0 else 0.0)
    dist.barrier(group)
    if rank == 0:
        batch(group, ("send", x, 1))
        x = numbers(0)
        batch(group, ("recv", x, 1)).wait()
        return x.tolist()
    batch(group, ("recv", x, 0))
    batch(group, ("send", x, 0)).wait()
    return x.tolist()


def another_device(group: Any, rank: int) -> None:
    dist.all_reduce(torch.ones(2, device="meta"), group=group)


def scattered_memory(group: Any, rank: int) -> None:
    dist.all_reduce(torch.ones(4, 4)[:, 1], group=group)


def after_a_failure(group: Any, rank: int) -> None:
    """What stands behind something that failed never runs."""
    try:
        other_size(group, rank)
    except RuntimeError:
        dist.all_reduce(torch.ones(2), group=group)


def outcomes(given: list[tuple[Deed, float]], rank: int, num_ranks: int, store: str) -> list[Any]:
    """What each deed gives on this rank: a value, or the text of its error."""
    from commbench.live.strict_group import NAME, register

    meeting = dist.FileStore(store, num_ranks)
    dist.init_process_group("gloo", store=meeting, rank=rank, world_size=num_ranks)
    register()
    found = []
    for deed, timeout_s in given:
        group = dist.new_group(backend=NAME, timeout=timedelta(seconds=timeout_s))
        try:
            found.append(deed(group, rank))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
        dist.barrier()
    dist.barrier()
    return found


WELL: list[tuple[Deed, list[Any]]] = [
    (crossing_together, [[2.0], [1.0]]),
    (ordered_sends, [[2.0], [1.0]]),
    (read_too_early, [[[True, True], [2.0, 2.0]]] * 2),
    (in_stream_order, [[12.0], [12.0]]),
    (taken_when_its_turn_comes, [[7.0], [7.0]]),
]
BADLY: list[tuple[Deed, tuple[str, str]]] = [
    (crossing_sends, ("deadlock: rank 0 waits for a peer", "deadlock: rank 1 waits for a peer")),
    (other_size, ("all_reduce sum of 4 x float32 on rank 0; all_reduce sum of 5 x float32 on rank 1",) * 2),
    (other_dtype, ("4 x float32 on rank 0; all_reduce sum of 4 x int32 on rank 1",) * 2),
    (other_collective, ("all_reduce sum of 4 x float32 on rank 0; broadcast from 0 of 4 x float32 on rank 1",) * 2),
    (other_root, ("broadcast from 0 of 4 x float32 on rank 0; broadcast from 1 of 4 x float32 on rank 1",) * 2),
    (other_message, ("sends 3 elements of 4 B, rank 1 expects 4", "expects 4 elements of 4 B, rank 0 sends 3")),
    (other_split, ("rank 0 sends 2 rows to rank 0, which expects 1",) * 2),
    (other_order, ("rank 0, all_reduce sum of 1 x float32", "rank 1, recv from 0 of 1 x float32")),
    (alone, ("deadlock: rank 0 waits for group", "")),
    (posted_before_settling, ("", "deadlock: rank 1 waits for a peer")),
    (another_device, ("on meta: backend strict has tensors on cpu",) * 2),
    (scattered_memory, ("must be contiguous",) * 2),
    (after_a_failure, ("call different things",) * 2),
]


def test_what_is_right_on_nccl_is_right(tmp_path: Path) -> None:
    from groups import in_world

    found = in_world(2, tmp_path, outcomes, [(deed, ENDS_WELL_S) for deed, _ in WELL])
    assert {deed.__name__: list(pair) for (deed, _), *pair in zip(WELL, *found, strict=True)} == {
        deed.__name__: expected for deed, expected in WELL
    }


def test_what_hangs_or_corrupts_on_nccl_is_an_error_that_says_who_does_what(tmp_path: Path) -> None:
    from groups import in_world

    found = in_world(2, tmp_path, outcomes, [(deed, SHORT_S) for deed, _ in BADLY], timeout_s=120)
    bad = [
        f"{deed.__name__}, rank {rank}: {told[rank]!r} has no {words[rank]!r}"
        for (deed, words), *told in zip(BADLY, *found, strict=True)
        for rank in range(2)
        if words[rank] not in str(told[rank]) or (words[rank] and "Error: " not in str(told[rank]))
    ]
    assert bad == []


def test_the_first_batch_of_a_group_needs_all_of_its_ranks(tmp_path: Path) -> None:
    from groups import in_world

    found = in_world(3, tmp_path, outcomes, [(a_subset_first, SHORT_S)])
    assert ["what has not come: rank 2" in str(told) for (told,) in found] == [True, True, False]
