# SPDX-License-Identifier: Apache-2.0
"""Iterations that are launched as one graph: a sample is a launch, divided by what the graph holds."""

from collections import Counter
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commbench.cli.main import outcome
from commbench.results.journal import read_records
from commbench.results.records import Measured

pytest.importorskip("torch")

GIVEN: dict[str, Any] = {"collective": "all-reduce", "ranks": 2, "sizes_bytes": (64,), "out": Path("r"), "run": "r"}


class Counting:
    """An operation that counts its runs."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.phases = {"post": 1.0}

    def run(self) -> None:
        self.runs["run"] += 1

    def run_to_check(self) -> None:
        self.runs["check"] += 1

    def close(self) -> None:
        self.runs["close"] += 1


def test_a_sample_is_a_launch_divided_by_what_it_holds() -> None:
    from commbench.live.iterations import time_bench
    from commbench.live.plan import Plan
    from commbench.live.progress import Progress
    from commbench.live.timing import Clock

    ticks = count()
    clock = Clock(lambda: float(next(ticks)), lambda start, end: end - start, lambda: None, lambda mark: None)
    recorded = []

    def record(run: Any, times: int) -> Any:
        recorded.append(times)
        return lambda: [run() for _ in range(times)]

    session: Any = SimpleNamespace(clock=clock, barrier=lambda: None, backend=SimpleNamespace(record=record))
    operation = Counting()
    plan = Plan(**GIVEN, iters=4, graphs=3, warmup=2)
    warmup, timed, _ = time_bench(plan, session, operation, Progress())
    assert recorded == [4]
    assert operation.runs == {"run": 2 + 3 * 4}
    assert (warmup.samples_s, timed.samples_s) == ((1.0, 1.0), (0.25, 0.25, 0.25))
    assert (warmup.phases_s, timed.phases_s) == ({"post": (1.0, 1.0)}, {})


def test_what_a_graph_cannot_hold_is_an_error_on_the_strict_backend() -> None:
    from commbench.live.graphs import strict_graph
    from commbench.live.strict_stream import Communicator, settle_all

    with pytest.raises(RuntimeError, match="the host waits for the device while a graph is recorded"):
        strict_graph(settle_all, 2)
    settle_all()  # and is none afterwards
    alone = Communicator("the group", SimpleNamespace(set=print, check=lambda keys: True), 0, 1, 1.0)
    with pytest.raises(RuntimeError, match="the host connects while a graph is recorded"):
        strict_graph(lambda: alone.connect_pairs(["a"], ["b"]), 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "gloo"), "--graphs 2: backend gloo launches no kernels; give --backend nccl"),
        (("--backend", "strict", "--budget", "1s"), "--graphs 2 with --budget: a graph holds --iters iterations"),
        (("--backend", "strict", "-w", "0"), "--graphs 2 with --warmup 0: ranks connect in the warm-up"),
        (("--backend", "strict", "-G", "-1"), "--graphs -1 must be at least 1"),
    ],
)
def test_what_is_no_graph_is_refused(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["run", "all-reduce", "--graphs", "2", *words]) == 2
    assert said in capsys.readouterr().err
    assert outcome(["run", "barrier", "--graphs", "2", "--backend", "strict"]) == 2
    assert "a host waits in a barrier" in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.parametrize("algorithm", ["native", "ring"])
def test_a_run_says_what_its_graphs_held(algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.jsonl"
    words = ["run", "all-reduce", "-a", algorithm, "--nproc", "2", "-b", "64", "-e", "64", "-n", "4", "-w", "1"]
    assert not outcome([*words, "--backend", "strict", "-G", "3", "--out", str(out)])
    (record,) = read_records(out)
    assert isinstance(record, Measured)
    assert (record.graphed, record.wrong, record.phases_s) == (4, 0, {})
    assert [len(row) for row in record.samples_s] == [3, 3]
    assert "3 launches of a graph of 4 iterations" in " ".join(capsys.readouterr().out.split())
    assert outcome([*words, "--backend", "strict", "--resume", "--out", str(out)]) == 2
    assert "measured with graphed 4, not 0" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.live
def test_nccl_runs_as_a_graph(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    words = ["run", "all-reduce", "--nproc", "1", "-b", "4K", "-e", "4K", "-n", "20", "-G", "5", "--backend", "nccl"]
    assert not outcome([*words, "--out", str(out)])
    (record,) = read_records(out)
    assert isinstance(record, Measured)
    assert (record.graphed, record.wrong) == (20, 0)
