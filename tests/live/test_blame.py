# SPDX-License-Identifier: Apache-2.0
"""Who is named when several ranks end, and what a rank's progress says."""

from pathlib import Path

import pytest

from commbench.errors import CommbenchError, InputError, RunError
from commbench.live.blame import Ended, blame_ended, blame_hung
from commbench.live.files import SessionFiles
from commbench.live.progress import Position, Progress, read_failure, read_position, write_failure


@pytest.fixture
def files(tmp_path: Path) -> SessionFiles:
    return SessionFiles(tmp_path)


def test_progress_is_read_by_another_process(files: SessionFiles) -> None:
    progress = Progress(files.progress(0))
    assert str(read_position(files.progress(0))) == "starting"
    progress.reach("loading torch")
    assert str(read_position(files.progress(0))) == "loading torch"
    progress.size(4 * 2**20)
    progress.reach("timed iteration", 7)
    place = read_position(files.progress(0))
    assert (place, str(place)) == (progress.place, "4 MiB, timed iteration 7")
    assert place.ticks == 4


def test_a_rank_that_never_reported_is_starting(files: SessionFiles) -> None:
    assert read_position(files.progress(3)) == Position()
    assert read_failure(files.failure(3)) is None


def test_a_killed_rank_comes_before_those_that_lost_their_peer(files: SessionFiles) -> None:
    write_failure(files.failure(0), RunError("rank 0 failed: Connection closed by peer"))
    error = blame_ended(files, [Ended(0, 3), Ended(2, -9)])
    assert str(error) == "rank 2 was killed by signal 9 (SIGKILL) at starting"
    assert error.exit_code == 3


def test_a_crash_is_told_with_the_ranks_last_line(files: SessionFiles) -> None:
    files.output(1).write_text("terminate called\n  what():  sizes differ\n")
    assert str(blame_ended(files, [Ended(1, -6)])) == (
        "rank 1 was killed by signal 6 (SIGABRT) (what():  sizes differ) at starting"
    )


def test_a_silent_exit_comes_before_reported_failures(files: SessionFiles) -> None:
    write_failure(files.failure(0), RunError("rank 0 failed"))
    files.output(1).write_text("No module named 'commbench'\n")
    assert str(blame_ended(files, [Ended(0, 3), Ended(1, 1)])) == (
        "rank 1 ended with exit code 1 (No module named 'commbench') at starting"
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_bad_input_comes_before_its_consequences_and_the_first_failure_before_later_ones(
    files: SessionFiles, order: tuple[int, int]
) -> None:
    errors: list[CommbenchError] = [RunError("rank 0 failed"), InputError("backend nccl needs a CUDA device")]
    for rank in order:
        write_failure(files.failure(rank), errors[rank])
    error = blame_ended(files, [Ended(0, 3), Ended(1, 2)])
    assert isinstance(error, InputError)
    for rank in order:
        write_failure(files.failure(rank), RunError(f"rank {rank} failed"))
    assert str(blame_ended(files, [Ended(0, 3), Ended(1, 3)])) == f"rank {order[0]} failed"


@pytest.mark.parametrize(
    ("ticks", "stopped", "named"),
    [
        ((2, 3), [0], "rank 0 made no progress for 5 s (--join-timeout) at loading torch (stopped by a signal)"),
        ((9, 8, 9), [], "rank 1 made no progress for 5 s at 8 B, timed iteration 2"),
        ((9, 9, 9), [2], "rank 2 made no progress for 5 s at 8 B, timed iteration 2 (stopped by a signal)"),
        ((9, 9, 9), [], "ranks 0, 1, 2 made no progress for 5 s at 8 B, timed iteration 2 (all ranks wait"),
    ],
)
def test_the_hung_rank_is_the_stopped_one_or_the_one_behind(
    ticks: tuple[int, ...], stopped: list[int], named: str
) -> None:
    places = [Position(n, 8, "timed iteration", 2) if n > 5 else Position(n, -1, "loading torch") for n in ticks]
    assert str(blame_hung(places, stopped, 5)).startswith(named)
