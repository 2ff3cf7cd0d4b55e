# SPDX-License-Identifier: Apache-2.0
"""The verdict of an emulated campaign: what is fitted, what is tested, and bars that fail, on made-up measurements."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.cli.main import app
from commbench.errors import CheckFailedError, InputError
from commbench.libraries.gloo import GLOO_TCP
from commbench.report.agreement import render_agreement
from commbench.results.journal import Journal, read_records
from commbench.results.records import Compared, Measured
from commbench.validate import lab_runs
from commbench.validate.lab_judge import Bar, is_fit, judge_labs
from commbench.validate.legs import CAMPAIGN, Leg
from tests.validate.remembered import remembered, remembering
from tests.validate.test_lab_predict import measured

LATENCY_PS, OVERHEAD_PS = 500_000_000, 40_000_000
TRUTH = replace(GLOO_TCP, latency_ps=LATENCY_PS, overhead_ps=OVERHEAD_PS)
STRICT = {False: Bar(0.02, 0.03), True: Bar(0.02, 0.03)}
CHOSEN = ("star-8 50 all-reduce native on 0,1,2,3", "star-8 50 broadcast", "two-rail-8 25 all-reduce ring")


@pytest.fixture(autouse=True, scope="module")
def _remembering() -> Iterator[None]:
    with remembering():
        yield


def as_true(record: Measured, factor: float = 1.0) -> Measured:
    time_s = factor * remembered(record, TRUTH).time_s
    return replace(record, samples_s=((time_s,),) * record.ranks)


def campaign(factor: float = 1.0) -> list[Measured]:
    """Two sizes of three legs; the test legs take ``factor`` times as long as they should."""
    numbers = [i for i, leg in enumerate(CAMPAIGN) if leg.name.startswith(CHOSEN)]
    records = [measured(number, size) for number in numbers for size in (2**16, 2**18)]
    return [as_true(record, 1.0 if is_fit(record) else factor) for record in records]


def test_what_explains_the_star_predicts_the_rest() -> None:
    said: list[str] = []
    found = judge_labs(campaign(), bars=STRICT, tell=said.append)
    assert found.ok
    assert found.transport.latency_ps == pytest.approx(LATENCY_PS, rel=0.25)
    assert found.transport.overhead_ps == pytest.approx(OVERHEAD_PS, rel=0.25)
    assert said[0].startswith("fluid fitted on 4 points: latency ")
    assert said[1].startswith("packets fitted on 4 points: latency ")
    assert [p.compared.set for p in found.points].count("fit") == 4  # all-reduce on 4 and 8 hosts of the star
    assert {contended: summary.points for contended, summary in found.summaries.items()} == {False: 2, True: 2}
    assert set(found.summaries[False].groups["size"]) == {"64 KiB", "256 KiB"}
    assert found.summaries[True].groups["contended"].keys() == {"yes"}


def test_times_that_are_off_fail_the_bars() -> None:
    found = judge_labs(campaign(1.1), bars=STRICT)
    assert not found.ok
    assert found.worst.compared.error == pytest.approx(1 / 1.1 - 1, abs=0.02)
    loose = {False: Bar(0.2, 0.2), True: Bar(0.2, 0.2)}
    assert judge_labs(campaign(1.1), bars=loose, packet_bars=loose).ok
    assert judge_labs(campaign(1.1), bars=loose, packet_bars=None).ok
    assert not judge_labs(campaign(1.1), bars=loose).ok  # packets have bars of their own


def test_records_that_cannot_be_judged_are_refused() -> None:
    records = campaign()
    with pytest.raises(InputError, match="nothing to fit on"):
        judge_labs([record for record in records if not is_fit(record)])
    with pytest.raises(InputError, match="every point was used by the fit"):
        judge_labs([record for record in records if is_fit(record)])
    with pytest.raises(CheckFailedError, match="wrong values, the first of star-8 50"):
        judge_labs([replace(records[0], wrong=3), *records[1:]])


def with_idle(record: Measured, idle: float) -> Measured:
    lab = {**record.environment["emulated"], "idle": idle}
    return replace(record, environment={**record.environment, "emulated": lab})


def test_points_of_busy_processors_are_listed_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither the fit nor a verdict sees them, however far off they are; nothing is left out of the lists."""
    quiet = [with_idle(record, 0.5) for record in campaign()]
    busy = [with_idle(replace(record, samples_s=((9.0,),) * record.ranks), 0.49) for record in (quiet[0], quiet[-1])]
    path = tmp_path / "runs.jsonl"
    for record in (*quiet, *busy):
        Journal(path).append(record)
    app(["validate", "--emulated", str(path), "--out", str(tmp_path)], standalone_mode=False)  # all bars hold
    told, apart = capsys.readouterr().out.split("# in no figure above, for processors had less than 50% of their time")
    assert told.count(" test ") - told.count(" test points") == 4
    assert apart.count(" busy ") == 2
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.search(r"Not judged: busy processors.*>49\.0\W%<", page, re.DOTALL)
    sets = [record.set for record in read_records(tmp_path / "validation.jsonl") if isinstance(record, Compared)]
    assert (sets.count("fit"), sets.count("test"), sets.count("busy")) == (4, 4, 2)
    with pytest.raises(InputError, match="in all 4 points of the native all-reduce on star-8 processors had less"):
        judge_labs([with_idle(record, 0.1) for record in quiet])


def test_points_of_busy_processors_are_measured_at_lower_rates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 KiB keep them busy at 50 and at 25 Mbit/s, 256 KiB at 50. What is on record is not measured again."""
    leg = next(leg for leg in CAMPAIGN if leg.name.startswith("star-8 50 broadcast"))
    measuring: list[tuple[float, int]] = []

    def fake(fabric: object, legs: list[Leg], done: object, out: Path, tell: object) -> None:
        for number, one in enumerate(legs):
            for size in one.sizes_bytes:
                rate = one.fabric.rate_mbit
                measuring.append((rate, size))
                idle = 1 - rate * (0.03 if size == 2**16 else 0.015)
                Journal(out).append(with_idle(measured(number, size, legs), max(0.0, idle)))

    monkeypatch.setattr(lab_runs, "_measure_fabric", fake)
    legs = [replace(leg, sizes_bytes=(2**16, 2**18))]
    found = lab_runs.measure_in_labs(legs, tmp_path / "runs.jsonl", tell=print)
    assert measuring == [(50, 2**16), (50, 2**18), (25, 2**16), (25, 2**18), (12.5, 2**16)]
    assert [lab_runs.is_busy(record) for record in found] == [True, True, True, False, False]
    assert lab_runs.measure_in_labs(legs, tmp_path / "runs.jsonl", tell=print) == found
    assert len(measuring) == 5


def test_the_page_shows_every_point_and_both_verdicts() -> None:
    page = render_agreement(judge_labs(campaign(), bars=STRICT), command="commbench validate --emulated")
    assert "No link shared: within thresholds" in page
    assert "Links shared: within thresholds" in page
    assert page.count("<tr>") >= len(campaign())
    assert "two-rail-8" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_command_writes_all_and_fails_where_it_must(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for factor, code in ((1.0, 0), (1.3, 1)):
        path = tmp_path / f"runs{code}.jsonl"
        for record in campaign(factor):
            Journal(path).append(record)
        with pytest.raises((SystemExit, CheckFailedError)) if code else _nothing():
            app(["validate", "--emulated", str(path), "--out", str(tmp_path / "out"), "--json"], standalone_mode=False)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["kind"] for line in lines] == ["compared"] * 8 + ["summary"] * 3
        assert all(line["ok"] for line in lines[-3:]) is not bool(code)
        assert len(read_records(tmp_path / "out" / "validation.jsonl")) == 11
        assert (tmp_path / "out" / "index.html").exists()


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emulated", "-b", "1M"], "-b 1M has no meaning with --emulated"),
        (["--emulated", "--max-p95", "0.5"], "--max-p95 0.5 has no meaning with --emulated"),
        (["--part", "smoke"], "--part smoke has no meaning without --emulated"),
        (["x.jsonl", "--emulated", "--part", "all"], "--part all has no meaning with files of runs"),
        (["x.jsonl", "--emulated", "-t", "star-8"], "--topology star-8 has no meaning with files of runs"),
        (["--emulated", "--part", "all", "-t", "star-8"], "--part all has no meaning with --topology"),
    ],
)
def test_options_that_have_no_meaning_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        app(["validate", *arguments], standalone_mode=False)
