# SPDX-License-Identifier: Apache-2.0
"""Ranks that others started compare what they are to do; here with threads for ranks and a dictionary for a store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commbench.collectives.registry import build_schedule
from commbench.errors import CommbenchError, InputError, RunError
from commbench.live import agree
from commbench.live.agree import describe, differences, require_agreement
from commbench.live.job import LiveJob, OverlapJob
from commbench.live.plan import Plan

RING, TREE = (build_schedule("all-reduce", name, 2) for name in ("ring", "double-binary-tree"))
PLAN = Plan(collective="all-reduce", ranks=2, sizes_bytes=(1024, 2048), out=Path("a.jsonl"), run="a")


class Memory:
    """A store."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.lock = threading.Lock()

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return str(self.values[key]).encode()

    def add(self, key: str, amount: int) -> int:
        with self.lock:
            self.values[key] = self.values.get(key, 0) + amount
            return int(self.values[key])

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


def meet(
    jobs: dict[int, LiveJob], world_size: int, within_s: float = 5.0, **versions: str
) -> list[CommbenchError | None]:
    """What each rank that comes ends with."""
    store = Memory()

    def come(rank: int) -> CommbenchError | None:
        described = describe(jobs[rank], versions.get(f"torch{rank}", "2.4"))
        try:
            require_agreement(store, rank, world_size, described, within_s)
        except CommbenchError as error:
            return error
        return None

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(come, jobs))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes_bytes": (1024,)}, ["the sizes (-b, -e, -f, -i): 1 KiB, 2 KiB on rank 0, 1 KiB on rank 1"]),
        ({"dtype": "int32"}, ["--dtype: float32 on rank 0, int32 on rank 1"]),
        ({"iters": 3, "backend": "gloo"}, ["--backend: auto on rank 0, gloo on rank 1", "--iters: 20 on"]),
        ({"check": False}, ["--check/--no-check: True on rank 0, False on rank 1"]),
        ({"schedule": RING}, ["--algorithm, --slices, --channels or --group: native on rank 0, ring "]),
        ({"ranks": 3}, ["WORLD_SIZE: 2 on rank 0, 3 on rank 1"]),
        ({"collective": "broadcast"}, ["the collective: all-reduce on rank 0, broadcast on rank 1"]),
        ({"out": Path("b.jsonl"), "run": "b", "facts": {"x": 1}}, []),  # only rank 0 writes records
    ],
)
def test_what_differs_is_named_with_values_and_ranks(changes: dict[str, Any], said: list[str]) -> None:
    found = differences([describe(job, "2.4") for job in (PLAN, replace(PLAN, **changes))])
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True)), found


def test_algorithms_differ_by_what_they_send() -> None:
    """As with files of one name that are not the same on every host."""
    other = replace(TREE, algorithm="ring")
    (found,) = differences([describe(replace(PLAN, schedule=one), "2.4") for one in (RING, other, RING)])
    assert found.count(" on rank") == 2
    assert "ranks 0, 2" in found


def test_of_different_kinds_nothing_else_is_said() -> None:
    overlap = OverlapJob(ranks=2, out=Path("o"), run="o")
    assert differences([describe(PLAN, "2.4"), describe(overlap, "2.4")]) == [
        "what is run: collective on rank 0, overlap on rank 1"
    ]


def test_ranks_that_agree_go_on() -> None:
    assert meet(dict.fromkeys(range(3), PLAN), 3) == [None] * 3


def test_every_rank_hears_of_a_difference() -> None:
    jobs = dict.fromkeys(range(4), PLAN) | {2: replace(PLAN, iters=7)}
    errors = meet(jobs, 4, torch3="2.5")
    assert {type(error) for error in errors} == {InputError}
    assert {str(error) for error in errors} == {
        "ranks disagree on --iters: 20 on ranks 0, 1, 3, 7 on rank 2; the version of torch: 2.4 on ranks 0, 1, 2, 2.5 "
        "on rank 3; give all of them the same"
    }


def test_a_rank_that_does_not_come_is_named_on_those_that_do() -> None:
    errors = meet({0: PLAN, 2: PLAN}, 4, within_s=0.2)
    assert {type(error) for error in errors} == {RunError}
    assert {str(error) for error in errors} == {"ranks 1, 3 of 4 did not come within 0.2 s (--join-timeout)"}


def test_a_first_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agree, "_TOLD_S", 0.1)
    (error,) = meet({1: PLAN}, 2, within_s=0.2)
    assert str(error) == "rank 0 has not come within 0.2 s (--join-timeout)"


def test_two_of_one_rank_are_refused() -> None:
    store = Memory()
    store.add("here1", 1)
    with pytest.raises(InputError, match="two processes say that they are rank 1 of 2; give each a RANK of its own"):
        require_agreement(store, 1, 2, describe(PLAN, "2.4"), 1.0)
