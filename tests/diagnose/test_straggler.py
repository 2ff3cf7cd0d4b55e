# SPDX-License-Identifier: Apache-2.0
"""Traces of several ranks: the straggler is the rank on which collectives are shortest."""

import json
from pathlib import Path
from typing import Any

from tests.cli.commands import commbench

WORLD, CALLS = 4, 10
TRANSFER_US = 100.0


def trace(rank: int, arrivals: list[list[float]], skew_us: float = 0.0) -> dict[str, Any]:
    """A trace of all-reduces that begin when this rank comes and end when the last one has come; its clock is off."""
    events, at = [], 0.0
    for each in arrivals:
        start, end = at + each[rank], at + max(each) + TRANSFER_US
        args = {"Collective name": "allreduce", "In msg nelems": 1024, "Out msg nelems": 1024, "dtype": "Float",
                "Group size": WORLD, "Process Group Name": "0", "stream": 7}  # fmt: skip
        events.append({"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "ts": start + skew_us,
                       "dur": end - start, "args": args})  # fmt: skip
        at = end + 500.0
    info = {"backend": "nccl", "rank": rank, "world_size": WORLD,
            "pg_config": [{"pg_name": "0", "ranks": list(range(WORLD))}]}  # fmt: skip
    return {"distributedInfo": info, "traceEvents": events}


def written(folder: Path, arrivals: list[list[float]]) -> list[str]:
    names = []
    for rank in range(WORLD):
        (folder / f"trace{rank}.json").write_text(json.dumps(trace(rank, arrivals, skew_us=1000.0 * rank)))
        names.append(f"trace{rank}.json")
    return names


def test_the_rank_that_comes_late_is_named_and_not_the_one_that_waits(tmp_path: Path) -> None:
    """Rank 2 comes 60 us late; rank 0 is first, and the longest: 100 + 60 us of each."""
    files = written(tmp_path, [[0.0, 5.0, 60.0, 3.0]] * CALLS)
    done = commbench("diagnose", *files, "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [one["rank"] for one in found["findings"]] == [2]
    assert found["collectives"] == CALLS
    assert found["late_s"] == {"0": 0.0, "1": 50e-6, "2": 600e-6, "3": 30e-6}
    assert "the others waited 550 us for it alone" in found["findings"][0]["detail"]


def test_ranks_that_take_turns_in_being_last_are_not_named(tmp_path: Path) -> None:
    arrivals = [[60.0 if rank == call % WORLD else 0.0 for rank in range(WORLD)] for call in range(2 * WORLD)]
    done = commbench("diagnose", *written(tmp_path, arrivals), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing is wrong" in done.stdout


def test_a_rank_that_is_hardly_later_is_not_named(tmp_path: Path) -> None:
    done = commbench("diagnose", *written(tmp_path, [[0.0, 0.0, 4.0, 0.0]] * CALLS), folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_one_trace_cannot_show_it(tmp_path: Path) -> None:
    files = written(tmp_path, [[0.0] * WORLD] * CALLS)
    done = commbench("diagnose", files[0], folder=tmp_path)
    assert done.returncode == 2
    assert "no collective with a kind and a group is in two of the 1 traces" in done.stderr
