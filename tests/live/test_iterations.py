# SPDX-License-Identifier: Apache-2.0
"""How many iterations a budget of time makes, what percentiles are, and what makes caches cold."""

from pathlib import Path
from typing import Any

import pytest

from commbench.cli.main import outcome
from commbench.errors import InputError
from commbench.live.console import header_lines, row_of_percentiles
from commbench.live.observe import SessionFacts
from commbench.live.plan import Plan
from commbench.results.statistics import percentile
from tests.report import samples

pytest.importorskip("torch")

from commbench.live import iterations
from commbench.live.timing import Timed


class FakeTime:
    """Time that goes on by what iterations take, and a session of one rank."""

    def __init__(self, each_s: float) -> None:
        self.now, self.each_s, self.goes = 0.0, each_s, list[tuple[int, int]]()

    def agreed(self, seconds: float) -> float:
        return seconds

    def run(self, count: int, first: int) -> Timed:
        self.goes.append((count, first))
        self.now += count * self.each_s
        return Timed((self.each_s,) * count, {"post": (0.0,) * count})


@pytest.mark.parametrize(
    ("each_s", "told_s", "samples"),
    [
        (0.01, 0.01, 200),  # 2 s of 10 ms, as the warm-up says
        (0.01, 1.0, 200),  # a warm-up that connected first is believed for one go only
        (0.01, 0.001, 2000),  # one that was too quick costs the first go more
        (5.0, 5.0, 3),  # never fewer than three
        (1e-9, 1e-9, iterations.MOST_IN_BUDGET),
    ],
)
def test_a_budget_is_spent(each_s: float, told_s: float, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = FakeTime(each_s)
    monkeypatch.setattr(iterations.time, "perf_counter", lambda: fake.now)
    found = iterations._within(2.0, told_s, fake, fake.run)
    assert abs(len(found.samples_s) - samples) <= 1
    assert len(found.phases_s["post"]) == len(found.samples_s)
    assert [first for _, first in fake.goes] == [sum(c for c, _ in fake.goes[:i]) for i in range(len(fake.goes))]


def test_a_percentile_is_a_sample_that_was_seen() -> None:
    hundred = [float(i) for i in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([7.0], 0.5) == 7.0


def test_records_and_the_table_have_percentiles() -> None:
    record = samples.measured(ranks=1, samples_s=(tuple(i * 1e-6 for i in range(1, 101)),), warmup_s=())
    assert (record.derived()["p95_s"], record.derived()["p99_s"]) == (pytest.approx(95e-6), pytest.approx(99e-6))
    row = row_of_percentiles(record)
    assert row.split()[1:5] == ["50.5", "95.0", "99.0", "100.0"]
    given: dict[str, Any] = {"collective": "all-reduce", "ranks": 2, "sizes_bytes": (64,), "out": Path("r"), "run": "r"}
    plan = Plan(**given, budget_s=2.0, cold_cache=True)
    lines = header_lines(plan, SessionFacts("gloo", "commbench", 2, samples.ENVIRONMENT), percentiles=True)
    assert max(map(len, [row, *lines])) <= 80
    assert "2 s of iterations after 5 of warm-up, cold caches" in " ".join(lines)


def test_caches_are_emptied_by_more_than_they_hold(tmp_path: Path) -> None:
    import torch

    for index, size in enumerate(("32K", "2048K", "260M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n", encoding="ascii")
    assert iterations.largest_cache_bytes(tmp_path) == 260 * 2**20
    assert iterations.largest_cache_bytes(tmp_path / "none") == 2**26
    cold = iterations.ColdCache(torch.device("cpu"))
    cold.evict()
    assert int(cold._memory.min()) == 1
    assert cold._memory.nbytes >= 2 * iterations.largest_cache_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "2s", "-n", "3"), "--budget 2s and --iters 3: give one of them"),
        (("--budget", "0s"), "--budget 0s: must be above 0"),
        (("--budget", "soon"), "'soon' is not a duration"),
        (("--budget", "2s", "-w", "0"), "--budget with --warmup 0"),
        (("--cold-cache", "--timing", "pipelined"), "--cold-cache has no meaning with --timing pipelined"),
        (("--percentiles", "--json"), "--percentiles is a table of one placement; leave out it or --json"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["run", "all-reduce", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_plan_keeps_them_on_its_way() -> None:
    from commbench.live.kinds import job_of

    plan = Plan(collective="all-reduce", ranks=2, sizes_bytes=(64,), out=Path("r"), run="r", budget_s=2.0, resume=True)
    assert job_of(plan.to_json()) == plan
    with pytest.raises(InputError, match="at most 10000 s a size"):
        Plan(collective="all-reduce", ranks=2, sizes_bytes=(64,), out=Path("r"), run="r", budget_s=1e9)


@pytest.mark.live
def test_a_budget_holds_on_ranks_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All ranks agree on the number: if they did not, one would wait for ever."""
    from commbench.results.journal import read_records
    from commbench.results.records import Measured

    out = tmp_path / "r.jsonl"
    words = ["--budget", "200ms", "-w", "1", "-b", "64", "-e", "64", "--nproc", "3", "--backend", "strict"]
    assert not outcome(["run", "all-reduce", *words, "--cold-cache", "--timeout", "60", "--out", str(out)])
    (record,) = read_records(out)
    assert isinstance(record, Measured)
    assert record.cold_cache
    assert len({len(row) for row in record.samples_s}) == 1
    assert len(record.samples_s[0]) >= 3
