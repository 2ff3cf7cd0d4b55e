# SPDX-License-Identifier: Apache-2.0
"""``run`` from the outside, as a user and as misfortune meet it: output, exit codes, dead and hung ranks, orphans."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import schedules
from trials import children

from commbench.collectives.text import to_text
from commbench.errors import CheckFailedError
from commbench.live.measure import measure, require_right
from commbench.live.plan import Plan
from commbench.results.failures import FailedRun
from commbench.results.journal import read_records
from commbench.results.records import Measured

torch = pytest.importorskip("torch")

RUN = [sys.executable, "-m", "commbench", "run", "all-reduce"]
ROOT = Path(__file__).parents[2]
# the second size takes tens of seconds: time enough to interfere
LONG = ["--nproc", "2", "-b", "4K", "-e", "64M", "-f", "16384", "-n", "500", "-w", "0", "--no-check"]

live = pytest.mark.live


def run(*arguments: str, folder: Path, command: list[str] = RUN, **variables: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def started(folder: Path, *arguments: str, path: str = str(ROOT)) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": path, "TMPDIR": str(folder)}
    pipe, command = subprocess.PIPE, [*RUN, *arguments, "--out", "r.jsonl"]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


@contextmanager
def long_run(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run in its second size: its process, and the ids of its ranks in rank order."""
    process = started(folder, *LONG, *arguments)
    ranks: list[int] = []
    try:
        assert until(lambda: (folder / "r.jsonl").exists() and (folder / "r.jsonl").read_text().endswith("\n"), 90)
        ranks = ranks_of(process.pid)
        yield process, ranks
    finally:
        process.kill()
        process.communicate()
        for pid in filter(alive, ranks):
            os.kill(pid, signal.SIGKILL)


def ranks_of(pid: int) -> list[int]:
    """What the server of ranks has forked, in rank order."""
    with suppress(OSError, StopIteration):
        server = next(each for each in children(pid) if b"live.child" in Path(f"/proc/{each}/cmdline").read_bytes())
        return children(server)
    return []


def until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def one_error(stderr: str) -> str:
    """The error line; nothing of a traceback may be beside it."""
    assert "Traceback" not in stderr, stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    return line


def measured(path: Path) -> list[Measured]:
    """The records, without that of how the run ended where it failed."""
    records = read_records(path)
    if records and isinstance(records[-1], FailedRun):
        records.pop()
    assert all(isinstance(record, Measured) for record in records)
    return records  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nproc", "0"], "--nproc 0 must be at least 1"),
        (["--nproc", "-1"], "--nproc -1 must be at least 1"),
        (["--nproc", "99999"], "--nproc 99999 must be at most 1024, processes of one machine"),
        (["--timeout", "inf"], "--timeout inf must be above 0 and at most 1000000 seconds"),
        (["-b", "2", "-e", "2"], "-b 2: smaller than one element of 4 B"),
        (["-b", "8", "-e", "4"], "-e 4: smaller than -b 8"),
        (["--slices", "2"], "--slices 2 has no meaning with --algorithm native"),
        (["--channels", "2"], "--channels 2 has no meaning with --algorithm native"),
        (["--group", "2"], "--group 2 has no meaning with --algorithm native"),
        (["--root", "1"], "--root 1 has no meaning for all-reduce"),
        (["--algorithm", "nvls"], "algorithm nvls for all-reduce needs switches that add: it can be simulated, not"),
        (["--algorithm", "none.txt"], "none.txt: cannot be read"),
        (["--algorithm", "teleport"], "'teleport' is unknown"),
        (["--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in one_error(done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("broadcast --root 2", "--root 2 is outside the ranks 0..1"),
        ("broadcast --root 2 -a binomial", "--root 2 is outside the ranks 0..1"),
        ("all-gather --nproc 4 -b 8 -e 8", "size 8 B is smaller than one element of 4 B for each of 4 ranks"),
        ("all-to-all -a two-step --nproc 3 --group 2", "needs whole hosts, not 3 ranks on hosts of 2"),
    ],
)
def test_what_does_not_fit_the_collective_is_one_line_too(arguments: str, message: str, tmp_path: Path) -> None:
    done = run(*arguments.split(), folder=tmp_path, command=RUN[:-1])
    assert done.returncode == 2
    assert message in one_error(done.stderr)
    assert not (tmp_path / "runs").exists()


@live
@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        (
            "broadcast --algorithm binomial --root 2 --nproc 3 -b 1K -e 2K",
            [(1024, 256, "none", 2), (2048, 512, "none", 2)],
        ),
        ("all-gather --algorithm gloo --nproc 3 -b 12 -e 30 -i 4", [(12, 1, "none", -1), (24, 2, "none", -1)]),
        ("reduce-scatter --nproc 2 -b 1K -e 1K -d int32", [(1024, 128, "sum", -1)]),
        ("barrier --algorithm dissemination --nproc 3", [(4, 1, "none", -1)]),
        ("barrier --nproc 2", [(4, 1, "none", -1)]),
    ],
)
def test_other_collectives_run(arguments: str, sizes: list[tuple[int, int, str, int]], tmp_path: Path) -> None:
    done = run(*arguments.split(), "-n", "2", "-w", "1", "--out", "r.jsonl", folder=tmp_path, command=RUN[:-1])
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [(int(size), int(count), op, int(root)) for size, count, _, op, root, *_ in rows] == sizes
    assert {row[-1] for row in rows} == {"0"}
    records = measured(tmp_path / "r.jsonl")
    assert [record.wrong for record in records] == [0] * len(sizes)


@live
def test_json_lines_and_journal_say_the_same(tmp_path: Path) -> None:
    options = "--nproc 2 -b 1K -e 4K -f 4 -n 3 -w 2 --algorithm ring --slices 2 --json --out r.jsonl"
    done = run(*options.split(), folder=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["size_bytes"] for line in printed] == [1024, 4096]
    first = measured(tmp_path / "r.jsonl")[0]
    assert (first.algorithm, first.backend, first.ranks, first.slices) == ("ring", "gloo", 2, 2)
    assert (first.launcher, first.wrong) == ("commbench", 0)
    assert [len(first.samples_s), len(first.samples_s[0]), len(first.warmup_s[0])] == [2, 3, 2]
    assert first.busbw_factor == 1.0  # 2 (n - 1) / n for n = 2
    for phase in ("post", "wait", "reduce"):
        assert [len(row) for row in first.phases_s[phase]] == [3, 3]
    inside = [sum(first.phases_s[phase][0][0] for phase in ("post", "wait", "reduce"))]
    assert 0 < inside[0] <= first.samples_s[0][0]
    assert "backend gloo" in done.stderr


@live
def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    options = "--nproc 3 -b 1K -e 16M -f 16384 -n 2 -w 1 -d int64 --timing pipelined"
    done = run(*options.split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "3 ranks on gloo, started by commbench" in lines[0]
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert [row[0] for row in rows] == ["1024", "16777216"]
    assert [row[1:4] for row in rows] == [["128", "int64", "sum"], ["2097152", "int64", "sum"]]
    assert [row[-1] for row in rows] == ["0", "0"]
    label, value = lines[-1].split(":")
    assert label == "# Avg bus bandwidth    "  # as nccl-tests ends, the mean of the rows
    assert float(value) == pytest.approx(sum(float(row[7]) for row in rows) / 2, abs=0.05)
    (journal,) = (tmp_path / "runs").glob("*-all-reduce-native.jsonl")
    assert f"records: runs/{journal.name}" in done.stderr
    assert [record.timing for record in measured(journal)] == ["pipelined", "pipelined"]


@live
def test_wrong_values_fail_the_run_after_all_sizes(tmp_path: Path) -> None:
    journal = tmp_path / "r.jsonl"
    plan = Plan(collective="all-reduce", ranks=2, sizes_bytes=(1024, 2048), out=journal, run="r", iters=1, warmup=0,
                schedule=schedules.adds_twice(2))  # fmt: skip
    with pytest.raises(CheckFailedError, match=r"wrong values: \d+ at 1 KiB, \d+ at 2 KiB"):
        require_right(measure(plan))
    records = measured(journal)
    assert [record.algorithm for record in records] == ["adds-twice"] * 2
    assert all(record.wrong for record in records)


def test_a_wrong_schedule_is_refused_before_any_rank_starts(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_text(to_text(schedules.adds_twice(2)))
    done = run("--nproc", "2", "--algorithm", "broken.txt", "--out", "r.jsonl", folder=tmp_path)
    assert done.returncode == 2
    assert "too many" in done.stderr
    assert not (tmp_path / "r.jsonl").exists()


@live
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_nccl_without_a_gpu_is_said_at_once(tmp_path: Path) -> None:
    done = run("--nproc", "2", "--backend", "nccl", folder=tmp_path)
    assert done.returncode == 2
    expected = "error: backend nccl needs a CUDA device; torch sees none; use --backend gloo"
    assert one_error(done.stderr) == expected


@live
@pytest.mark.root
def test_a_rank_that_finds_the_disk_full_says_so(tmp_path: Path) -> None:
    """Where nothing can be written, not even why."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(small)], check=True)
    try:
        done = run("--nproc", "2", "-b", "1K", "-e", "1K", folder=tmp_path, TMPDIR=str(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 3
    assert re.search(rf"ranks cannot start: {small}/commbench-\w+: No space left on device", one_error(done.stderr))


@live
def test_a_reader_that_goes_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    process = started(tmp_path, *LONG)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(20) == -signal.SIGPIPE, stderr
    assert set(tmp_path.iterdir()) <= {tmp_path / "r.jsonl"}  # which is there once a size was done
    assert "Traceback" not in stderr
    assert "Exception" not in stderr


@live
def test_an_interface_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    done = run("--nproc", "2", "-b", "1K", "-e", "1K", folder=tmp_path, GLOO_SOCKET_IFNAME="^lo")
    assert done.returncode == 2
    line = one_error(done.stderr)
    assert re.search(r"GLOO_SOCKET_IFNAME='\^lo': \S+ has no interface '\^lo' with an address; give .*\blo\b", line)


@live
def test_ranks_of_others_with_different_options_all_end_with_exit_2(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    master = {"PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen([*RUN, "-b", size, "-e", size, "-n", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                         env=os.environ | master | {"RANK": str(rank)})
        for rank, size in enumerate(("1K", "2K"))
    ]
    said = [rank.communicate(timeout=60)[1] for rank in ranks]
    expected = "error: ranks disagree on the sizes (-b, -e, -f, -i): 1 KiB on rank 0, 2 KiB on rank 1; give all of them"
    assert [expected in one_error(text) for text in said] == [True, True], said
    assert [rank.returncode for rank in ranks] == [2, 2]


@live
@pytest.mark.parametrize(("rank", "code", "lines"), [("0", 2, 1), ("1", 3, 2)])
def test_a_name_of_the_first_host_that_does_not_resolve_is_told_at_once(
    rank: str, code: int, lines: int, tmp_path: Path
) -> None:
    """By rank 0 as an error; the others, whose name service may learn of it later, say so and try again."""
    seat = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "no.such.host.invalid", "MASTER_PORT": "29511"}
    done = run("-b", "1K", "-e", "1K", "--join-timeout", "0.5", folder=tmp_path, **seat)
    told = done.stderr.splitlines()
    assert (done.returncode, len(told)) == (code, lines), done.stderr
    assert "MASTER_ADDR='no.such.host.invalid' does not resolve on " in told[0]


@live
def test_a_first_rank_that_is_not_there_is_named_in_one_line(tmp_path: Path) -> None:
    info = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = run("-b", "1K", "-e", "1K", "--join-timeout", "0.5", folder=tmp_path, **info)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [one_error(done.stderr)]
    assert "rank 1 did not meet rank 0 at MASTER_ADDR=127.0.0.1, MASTER_PORT=1 within 0.5 s" in done.stderr


@live
def test_torchrun_starts_the_ranks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = "-m commbench run all-reduce -b 1K -e 1K -n 2 -w 1 --json --out r.jsonl"
    done = run(*options.split(), folder=tmp_path, command=command)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["launcher"] == "torchrun"
    assert [record.ranks for record in measured(tmp_path / "r.jsonl")] == [2]


@live
def test_a_killed_rank_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    with long_run(tmp_path) as (process, ranks):
        os.kill(ranks[1], signal.SIGKILL)
        _, stderr = process.communicate(timeout=15)
        assert process.returncode == 3
        message = one_error(stderr)
        assert "rank 1 was killed by signal 9 (SIGKILL) at 64 MiB" in message
        assert "1 complete records in r.jsonl" in message
        failed = read_records(tmp_path / "r.jsonl")[-1]
        assert isinstance(failed, FailedRun)
        assert (failed.job, failed.guilty, failed.launcher) == ("all-reduce", (1,), "commbench")
        assert "rank 0: 64 MiB" in failed.places[0]
        assert [record.size_bytes for record in measured(tmp_path / "r.jsonl")] == [4096]
        assert not any(map(alive, ranks))


@live
def test_a_hung_rank_is_named(tmp_path: Path) -> None:
    with long_run(tmp_path, "--timeout", "2") as (process, ranks):
        os.kill(ranks[1], signal.SIGSTOP)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 3
        assert "rank 1 made no progress for 2 s at 64 MiB" in one_error(stderr)
        (stacks,) = tmp_path.glob("r.*.stacks.txt")
        assert one_error(stderr).endswith(f"stacks: {stacks.name}")
        text = stacks.read_text()
        assert ("=== rank 0 ===" in text, "worker.py" in text, "=== rank 1 ===" in text) == (True, True, False)
        assert "stopped" in one_error(stderr)
        assert len(measured(tmp_path / "r.jsonl")) == 1
        assert not any(map(alive, ranks))


@live
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_leaves_no_rank_and_complete_records(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    with long_run(tmp_path) as (process, ranks):
        process.send_signal(number)
        _, stderr = process.communicate(timeout=15)
        assert process.returncode == exit_code
        assert list(tmp_path.iterdir()) == [tmp_path / "r.jsonl"]  # the ranks' private folder is gone too
        assert "Traceback" not in stderr
        assert "records: r.jsonl" in stderr
        assert len(measured(tmp_path / "r.jsonl")) == 1
        assert not any(map(alive, ranks))


@live
@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_ranks_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with long_run(tmp_path) as (process, ranks):
        assert len(ranks) == 2
        process.kill()
        assert until(lambda: not any(map(alive, ranks)), 5)
        assert len(measured(tmp_path / "r.jsonl")) == 1
