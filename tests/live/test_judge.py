# SPDX-License-Identifier: Apache-2.0
"""Whose fault it is, from heartbeats: made-up ranks and a clock of their own."""

from dataclasses import dataclass, field, replace

import pytest

from commbench.live.judge import DONE, FAILED, GRACE_S, TOLD, Beat, Judge, RunVerdict, Who


@dataclass
class World:
    """Ranks on hosts of their own, except where ``place`` is the judge's."""

    num_ranks: int = 3
    places: tuple[str, ...] = ("", "", "")
    now: float = 0.0
    states: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whos = [Who(r, f"h{r}", "cuda:0", 100 + r, self.places[r]) for r in range(self.num_ranks)]
        self.judge = Judge(
            whos, timeout_s=5, join_timeout_s=60, place="here", clock=lambda: self.now,
            state_of=lambda pid: self.states.get(pid - 100, ""),
        )  # fmt: skip
        self.beats = [Beat(0, 10, True, "4 MiB, timed iteration 7") for _ in range(self.num_ranks)]
        self.mute: set[int] = set()

    def change(self, rank: int, **changes: object) -> None:
        self.beats[rank] = replace(self.beats[rank], **changes)  # type: ignore[arg-type]

    def beat(self, *, moving: bool = False) -> RunVerdict | None:
        self.now += 0.5
        for rank in set(range(self.num_ranks)) - self.mute:
            one = self.beats[rank]
            self.change(rank, count=one.count + 1, ticks=one.ticks + moving)
        return self.judge.hear(self.beats)

    def until_verdict(self, limit: int = 60, *, moving: bool = False) -> RunVerdict:
        for _ in range(limit):
            if (verdict := self.beat(moving=moving)) is not None:
                return verdict
        raise AssertionError("no verdict")


def test_ranks_that_go_on_are_left_alone_and_done_is_well() -> None:
    world = World()
    assert [world.beat(moving=True) for _ in range(100)] == [None] * 100
    for rank in range(3):
        world.change(rank, state=DONE)
    assert world.beat() == RunVerdict(0)


def test_a_process_that_is_gone_is_seen_at_once_where_processes_can_be_seen() -> None:
    world = World(places=("here", "here", "here"))
    assert world.beat(moving=True) is None
    world.mute.add(2)
    world.states[2] = "gone"
    verdict = world.beat(moving=True)
    assert verdict is not None
    assert (verdict.code, verdict.guilty, verdict.living) == (3, (2,), (0, 1))
    assert verdict.message == "rank 2 (h2, cuda:0) is gone (killed, or it crashed) at 4 MiB, timed iteration 7"


def test_a_rank_that_lost_its_peer_is_not_blamed_for_it() -> None:
    """On another host: rank 1 reports at once, and rank 2 is heard no longer."""
    world = World()
    world.beat(moving=True)
    world.mute.add(2)
    world.change(1, state=FAILED, error="rank 1 failed: connection closed by peer", order=1)
    verdict = world.until_verdict()
    assert verdict.guilty == (2,)
    assert "gave no sign of life for" in verdict.message
    assert world.now <= 2 + GRACE_S


def test_the_first_failure_is_the_cause_where_all_are_heard() -> None:
    world = World()
    world.beat(moving=True)
    world.change(1, state=FAILED, error="rank 1 failed: out of memory", order=1)
    world.change(2, state=FAILED, error="rank 2 failed: connection closed", order=2)
    verdict = world.until_verdict()
    assert (verdict.message, verdict.guilty) == ("rank 1 failed: out of memory (h1, cuda:0)", (1,))
    assert world.now < GRACE_S  # it need not wait


def test_bad_input_comes_before_its_consequences() -> None:
    world = World()
    world.change(0, state=FAILED, error="rank 0 failed: connection closed", order=1)
    world.change(2, state=FAILED, error="--root 9 is outside", code=2, order=2)
    assert (world.until_verdict().code, world.until_verdict().guilty) == (2, (2,))


def test_ranks_that_are_all_told_to_end_do_so_without_blame() -> None:
    world = World()
    world.change(1, state=TOLD)
    verdict = world.until_verdict()
    assert (verdict.code, verdict.guilty) == (143, ())
    assert isinstance(verdict.error(), SystemExit)


def test_a_rank_whose_end_made_the_launcher_end_all_is_named() -> None:
    world = World()
    world.beat(moving=True)
    world.mute.add(0)
    world.change(1, state=TOLD)
    world.change(2, state=TOLD)
    assert world.until_verdict().guilty == (0,)


@pytest.mark.parametrize(
    ("change", "guilty", "words"),
    [
        (lambda w: w.change(1, ticks=9), (1,), "rank 1 (h1, cuda:0) made no progress for 5 s at 4 MiB"),
        (lambda w: w.mute.add(1), (1,), "rank 1 (h1, cuda:0) gave no sign of life for"),
        (lambda w: None, (0, 1, 2), "ranks 0, 1, 2 (h0, h1, h2) made no progress for 5 s at 4 MiB, timed iteration 7 "
         "(all ranks wait for each other)"),
    ],
)  # fmt: skip
def test_who_stands_still(change: object, guilty: tuple[int, ...], words: str) -> None:
    world = World()
    world.beat()
    change(world)  # type: ignore[operator]
    verdict = world.until_verdict()
    assert (verdict.guilty, verdict.message.startswith(words)) == (guilty, True), verdict.message
    assert 5 < world.now < 7


def test_a_stopped_process_is_told_from_one_that_waits() -> None:
    world = World(places=("here", "here", "here"))
    world.beat()
    world.mute.add(1)
    world.states[1] = "stopped"
    verdict = world.until_verdict()
    assert verdict.guilty == (1,)
    assert verdict.message.endswith("made no progress for 5 s at 4 MiB, timed iteration 7 (stopped by a signal)")
    assert 5 < world.now < 7


def test_ranks_that_have_not_begun_have_the_time_of_joining() -> None:
    world = World()
    world.change(2, started=False, place="joining the other ranks", ticks=1)
    verdict = world.until_verdict(200)
    assert 60 < world.now < 62
    assert "made no progress for 60 s (--join-timeout) at joining the other ranks" in verdict.message
