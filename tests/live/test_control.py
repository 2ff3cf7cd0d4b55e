# SPDX-License-Identifier: Apache-2.0
"""What ranks tell each other beside the data: in order, alike for all, the missing named, and nothing left behind."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commbench.errors import InputError, RunError

pytest.importorskip("torch")

import torch.distributed as dist

from commbench.live import control, session
from commbench.live.control import Control
from commbench.live.job import OverlapJob

RANKS = 5


def ranks(work: Callable[[Control, int], Any], *, present: int = RANKS, limit_s: float = 20.0) -> tuple[list[Any], Any]:
    """What every rank's part gives or raises, and the store."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    found: list[Any] = [None] * present

    def part(rank: int) -> None:
        try:
            found[rank] = work(Control(store, rank, RANKS, limit_s), rank)
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=part, args=(rank,)) for rank in range(present)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, store


def test_values_come_to_rank_0_in_order_and_to_no_other() -> None:
    found, _ = ranks(lambda one, rank: [one.gather((rank, turn)) for turn in range(3)])
    assert found[0] == [[(rank, turn) for rank in range(RANKS)] for turn in range(3)]
    assert found[1:] == [[[], [], []]] * (RANKS - 1)


def test_what_rank_0_decides_all_know() -> None:
    found, _ = ranks(lambda one, rank: (one.decide(rank * 1.5, max), one.tell(lambda: f"by {rank}")))
    assert found == [(6.0, "by 0")] * RANKS


def test_what_rank_0_refuses_is_refused_alike() -> None:
    def refuse(values: list[int]) -> None:
        raise InputError(f"{sum(values)} is too much")

    found, _ = ranks(lambda one, rank: one.decide(rank, refuse))
    assert {(type(error), str(error)) for error in found} == {(InputError, "10 is too much")}


def test_a_value_that_is_larger_than_a_store_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PIECE", 1000)
    value = bytes(range(256)) * 20
    found, _ = ranks(lambda one, rank: (one.gather(value + bytes([rank])), one.tell(lambda: value)))
    assert found[0][0] == [value + bytes([rank]) for rank in range(RANKS)]
    assert all(told == value for _, told in found)


def test_ranks_that_do_not_come_are_named() -> None:
    found, _ = ranks(lambda one, rank: one.meet(), present=3, limit_s=0.5)
    assert isinstance(found[0], RunError)
    assert str(found[0]) == "ranks 3, 4 of 5 did not come within 0.5 s"
    assert str(found[1]) == "rank 0 of 5 did not come within 0.5 s"


@pytest.mark.parametrize(("soft", "hard", "becomes"), [(1024, 4096, 2304), (1024, -1, 2304), (4096, 4096, 4096)])
def test_rank_0_makes_room_for_a_connection_of_each_rank(
    soft: int, hard: int, becomes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"now": (soft, hard)}
    monkeypatch.setattr(session.resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(session.resource, "setrlimit", lambda _, given: limits.update(now=given))
    session._make_room(1024)
    assert limits["now"] == (becomes, hard)


def test_too_few_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.resource, "getrlimit", lambda _: (1024, 1024))
    with pytest.raises(InputError, match="ulimit -n 1024: rank 0 needs 2304 open files for 1024 ranks; raise it"):
        session._make_room(1024)


def test_a_barrier_opens_when_all_have_come_and_leaves_little_behind() -> None:
    come, late = [], threading.Event()

    def part(one: Control, rank: int) -> int:
        if rank == 3:
            late.wait(0.3)
        come.append(rank)
        one.meet()
        there = len(come)
        for _ in range(20):
            one.gather(bytes(100))
            one.meet()
        return there

    found, store = ranks(part)
    assert found == [RANKS] * RANKS
    assert store.num_keys() <= 4 * RANKS


def sockets() -> int:
    """That this process has open."""
    return sum(os.readlink(one).startswith("socket:") for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


def opened(folder: Path, rank: int, num_ranks: int, store: str) -> dict[str, int]:
    """How many sockets a session opens, by backend."""
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session

    found = {}
    for backend in ("strict", "gloo"):
        job = OverlapJob(ranks=num_ranks, out=folder / "r.jsonl", run="", backend=backend)
        before = sockets()
        info = RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(f"{store}-{backend}"))
        one = open_session(job, info, 60.0)
        one.gather(rank)
        one.meet()
        found[backend] = sockets() - before
        one.close()
    return found


@pytest.mark.live
def test_ranks_connect_in_pairs_for_data_alone(tmp_path: Path) -> None:
    from groups import in_world

    for found in in_world(4, tmp_path, opened, tmp_path):
        assert found["strict"] == 0  # ranks met through a file, and nothing was sent yet
        assert found["gloo"] >= 3  # the test can see what it looks for
