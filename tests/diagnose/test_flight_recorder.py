# SPDX-License-Identifier: Apache-2.0
"""Flight recorders: the rank that broke a collective is named, and a pickle that could run code is not read."""

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

from commbench.diagnose.broken import broken_by
from commbench.diagnose.flight import read_dump
from commbench.errors import InputError
from tests.cli.commands import commbench

WORLD = 4


def entry(number: int, name: str = "all_reduce", **changes: Any) -> dict[str, Any]:
    return {
        "record_id": number, "pg_id": 0, "process_group": ["0", "default_pg"], "collective_seq_id": number,
        "p2p_seq_id": 0, "op_id": number, "profiling_name": f"nccl:{name}", "input_sizes": [[1024]],
        "output_sizes": [[1024]], "input_dtypes": ["Float"], "output_dtypes": ["Float"], "state": "completed",
        "is_p2p": False, "time_created_ns": 10**9 * number, "frames": [],
    } | changes  # fmt: skip


def dump(entries: list[dict[str, Any]]) -> dict[str, Any]:
    config = {"0": {"name": "0", "desc": "default_pg", "ranks": str(list(range(WORLD)))}}
    return {"version": "2.10", "pg_config": config, "pg_status": {}, "entries": entries}


def healthy() -> dict[int, list[dict[str, Any]]]:
    return {rank: [entry(n) for n in range(1, 6)] for rank in range(WORLD)}


def written(folder: Path, by_rank: dict[int, list[dict[str, Any]]], *, pickled: bool = False) -> list[Path]:
    files = []
    for rank, entries in by_rank.items():
        path = folder / f"nccl_trace_rank_{rank}"
        content = pickle.dumps(dump(entries)) if pickled else json.dumps(dump(entries)).encode()
        path.write_bytes(content)
        files.append(path)
    return files


def findings(folder: Path, by_rank: dict[int, list[dict[str, Any]]], **how: bool) -> list[tuple[int, str, int | None]]:
    found = broken_by([read_dump(path) for path in written(folder, by_rank, **how)], "r")
    return [(one.rank, one.what, one.sequence) for one in found.findings]


@pytest.mark.parametrize("pickled", [False, True])
def test_nothing_is_found_where_all_did_the_same(tmp_path: Path, pickled: bool) -> None:
    assert findings(tmp_path, healthy(), pickled=pickled) == []


@pytest.mark.parametrize("pickled", [False, True])
def test_a_rank_that_never_came(tmp_path: Path, pickled: bool) -> None:
    ranks = healthy()
    for rank in (0, 1, 3):
        ranks[rank].append(entry(6, state="started"))
    assert findings(tmp_path, ranks, pickled=pickled) == [(2, "missing", 6)]


def test_a_rank_that_called_something_else(tmp_path: Path) -> None:
    ranks = healthy()
    ranks[1][3] = entry(4, "broadcast", state="started")
    ranks[1][4:] = []
    assert findings(tmp_path, ranks) == [(1, "other collective", 4)]


def test_a_rank_with_another_size_or_type(tmp_path: Path) -> None:
    ranks = healthy()
    ranks[3][2] = entry(3, input_sizes=[[1000]], output_sizes=[[1000]])
    assert findings(tmp_path, ranks) == [(3, "other size", 3)]
    ranks = healthy()
    ranks[3][2] = entry(3, input_dtypes=["Half"], output_dtypes=["Half"])
    assert findings(tmp_path, ranks) == [(3, "other type", 3)]


def test_sizes_may_differ_where_the_collective_lets_them(tmp_path: Path) -> None:
    ranks = {rank: [entry(1, "all_to_allv", input_sizes=[[rank + 1]])] for rank in range(WORLD)}
    assert findings(tmp_path, ranks) == []


def test_a_rank_whose_device_has_not_got_there(tmp_path: Path) -> None:
    ranks = healthy()
    for rank in range(WORLD):
        ranks[rank].append(entry(6, state="scheduled" if rank == 2 else "started"))
    assert findings(tmp_path, ranks) == [(2, "behind", 6)]


def test_where_all_hang_together_no_rank_is_named(tmp_path: Path) -> None:
    ranks = healthy()
    for rank in range(WORLD):
        ranks[rank].append(entry(6, state="started"))
    found = broken_by([read_dump(path) for path in written(tmp_path, ranks)], "r")
    assert found.findings == ()
    assert found.notes[0].startswith("all_reduce number 6 of group 0 was called alike by all, and did not end on ranks")


def test_a_rank_without_a_dump_is_named(tmp_path: Path) -> None:
    ranks = healthy()
    del ranks[3]
    assert findings(tmp_path, ranks) == [(3, "no dump", None)]


def test_what_the_ring_buffers_have_lost_is_not_held_against_a_rank(tmp_path: Path) -> None:
    ranks = healthy()
    ranks[0] = ranks[0][2:]
    assert findings(tmp_path, ranks) == []


def in_group(number: int, name: str, **changes: Any) -> dict[str, Any]:
    return entry(number, name, process_group=["tp", "tensor parallel"], **changes)


def test_a_rank_that_another_group_holds_up_counts_for_less(tmp_path: Path) -> None:
    """Rank 1 hangs in a group with rank 0, which never came there nor to the world's; so it is late there, too."""
    ranks = healthy()
    for rank in (2, 3):
        ranks[rank].append(entry(6, state="started"))
    ranks[0].append(in_group(0, "barrier"))
    ranks[1] += [in_group(0, "barrier"), in_group(1, "all_gather", state="started")]
    assert findings(tmp_path, ranks) == [(0, "missing", 6), (0, "missing", 1), (1, "behind", 6)]


def test_two_ranks_that_wait_for_each_other_in_two_groups(tmp_path: Path) -> None:
    """Rank 0 is in the world's call and rank 1 in that of the group: they called in different orders."""
    ranks = healthy()
    for rank in (0, 2, 3):
        ranks[rank].append(entry(6, state="started"))
    ranks[0].append(in_group(0, "barrier"))
    ranks[1] += [in_group(0, "barrier"), in_group(1, "all_gather", state="started")]
    assert findings(tmp_path, ranks) == [(0, "behind", 1), (1, "behind", 6)]


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_a_pickle_that_names_a_function_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "trace_0"
    path.write_bytes(pickle.dumps(dump([]) | {"extra": Malicious()}))
    done = commbench("diagnose", str(path), folder=tmp_path)
    assert done.returncode == 2
    assert f"error: {path}: a dump holds dicts, lists, text and numbers alone, but it asks for" in done.stderr
    assert not (tmp_path / "ran").exists()


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    first, second, *_ = written(tmp_path, healthy())
    assert "one dump alone cannot show who differs" in refused(commbench("diagnose", str(first), folder=tmp_path))
    (tmp_path / "copy_0").write_bytes(first.read_bytes())
    assert "each is of rank 0; give one dump of each rank" in refused(
        commbench("diagnose", str(first), "copy_0", folder=tmp_path)
    )
    (tmp_path / "results.jsonl").write_text("{}\n")
    assert "give files of one kind" in refused(commbench("diagnose", str(first), "results.jsonl", folder=tmp_path))
    assert "--topology has no meaning with dumps" in refused(
        commbench("diagnose", str(first), str(second), "-t", "star-8", folder=tmp_path)
    )
    (tmp_path / "cut_1").write_bytes(pickle.dumps(dump([]))[:-20])
    assert "cut_1: is no whole pickle" in refused(commbench("diagnose", str(first), "cut_1", folder=tmp_path))
    (tmp_path / "nameless").write_bytes(first.read_bytes())
    assert "nameless: tells no rank" in refused(commbench("diagnose", str(first), "nameless", folder=tmp_path))
    with pytest.raises(InputError, match="an entry has no 'state'"):
        read_dump(written(tmp_path, {0: [{k: v for k, v in entry(1).items() if k != "state"}]})[0])


def test_the_command_names_the_rank_and_ends_with_1(tmp_path: Path) -> None:
    ranks = healthy()
    for rank in (0, 1, 3):
        ranks[rank].append(entry(6, state="started"))
    files = [str(path) for path in written(tmp_path, ranks)]
    done = commbench("diagnose", *files, "--out", "d.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert "rank 2 missing: it never called all_reduce number 6 of group 0" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    page = commbench("report", "d.jsonl", "--out", "d.html", folder=tmp_path)
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert "Who is to blame" in text
    assert "it never called all_reduce number 6" in text
