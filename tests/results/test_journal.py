# SPDX-License-Identifier: Apache-2.0
"""A journal loses nothing that was complete, wherever the file is cut."""

import json
from pathlib import Path

import pytest

from commbench.errors import ResultsError
from commbench.results.journal import Journal, read_records
from commbench.results.records import Compared, Measured, Record, Simulated, Summary


def measured(size_bytes: int = 1024) -> Measured:
    return Measured(
        run="r1",
        collective="all-reduce",
        algorithm="ring",
        backend="gloo",
        ranks=2,
        size_bytes=size_bytes,
        num_elements=size_bytes // 4,
        dtype="float32",
        op="sum",
        samples_s=((1e-3, 2e-3, 9e-3), (1.5e-3, 1e-3, 4e-3)),
        warmup_s=((5e-3,), (6e-3,)),
        phases_s={"wait": ((1e-4, 1e-4, 1e-4), (2e-4, 2e-4, 2e-4))},
        busbw_factor=1.0,
        timing="isolated",
        launcher="commbench",
        started_at="2026-01-01T00:00:00+00:00",
        wrong=0,
        environment={"hostname": "host-é", "cores_usable": 2},
    )


SIMULATED = Simulated(
    collective="all-reduce",
    algorithm="ring",
    library="schedule",
    ranks=2,
    size_bytes=8,
    time_s=1e-6,
    busbw_factor=1.0,
    lower_bound_s=5e-7,
    topology="t",
    routing="ecmp",
    placement="linear",
    engine="reference",
    detail="transfer",
    transfers=4,
    wall_s=0.1,
    seed=0,
)
COMPARED = Compared(
    collective="all-reduce",
    algorithm="ring",
    backend="gloo",
    ranks=2,
    size_bytes=8,
    slices=1,
    measured_s=2e-6,
    spread_s=1e-7,
    simulated_s=1e-6,
    set="test",
    region="latency",
    busbw_factor=1.0,
    topology="t",
)
SUMMARY = Summary(
    points=1,
    median_abs_error=0.5,
    p95_abs_error=0.5,
    max_median_abs_error=0.03,
    max_p95_abs_error=0.1,
    ok=False,
    groups={"algorithm": {"ring": {"points": 1}}},
)
RECORDS: list[Record] = [measured(), SIMULATED, COMPARED, SUMMARY]


def write(path: Path, records: list[Record]) -> None:
    journal = Journal(path)
    for record in records:
        journal.append(record)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "r.jsonl"
    write(path, RECORDS)
    assert read_records(path) == RECORDS
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        "measured",
        "simulated",
        "compared",
        "summary",
    ]


def test_headline_is_the_median_over_iterations_of_the_slowest_rank() -> None:
    # slowest per iteration: 1.5, 2, 9 ms; the median is 2 ms, and |x - 2| = 0.5, 0, 7 has median 0.5
    record = measured()
    assert record.time_s == 2e-3
    assert record.spread_s == pytest.approx(0.5e-3)
    assert record.algbw_GBps == pytest.approx(1024 / 2e-3 / 1e9)


def test_cut_at_every_byte_nothing_complete_is_lost_and_appending_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)  # thousands of them; what is read back here is no disk's
    path = tmp_path / "r.jsonl"
    records: list[Record] = [measured(1024), measured(2048)]
    write(path, records)
    whole = path.read_bytes()
    first = whole.index(b"\n")
    after = measured(4096)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        # a record is complete once its last brace is there, with or without the newline
        complete = records[: (cut >= first) + (cut >= len(whole) - 1)]
        assert read_records(path, salvage=True) == complete, cut
        Journal(path).append(after)
        assert read_records(path, salvage=True) == [*complete, after], cut


def test_a_cut_file_is_refused_with_line_rule_and_what_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, [measured(), measured()])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ResultsError, match=r"r\.jsonl, line 2: .*1 records are complete: --salvage") as caught:
        read_records(path)
    assert caught.value.num_complete == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"7", "kind 7 is unknown"),
        (b'{"kind": "measured", "schema": 99}', "schema 99"),
        (b'{"kind": "measured", "schema": 1}', "misses a field"),
        (b'{"kind": "measured", "schema": 1, "samples_s": 3}', "wrong type"),
    ],
)
def test_salvage_tells_each_line_it_skips(tmp_path: Path, line: bytes, rule: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line + b"\n")
    Journal(path).append(SUMMARY)
    told: list[str] = []
    assert read_records(path, salvage=True, on_bad=told.append) == [SUMMARY]
    assert len(told) == 1
    assert "line 1" in told[0]
    assert rule in told[0]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"none\.jsonl: cannot be read: No such file"):
        read_records(tmp_path / "none.jsonl")


def test_a_place_that_cannot_be_written_is_told_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is a folder"):
        Journal(tmp_path).require_writable()
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="does not allow it"):
        Journal(tmp_path / "file" / "r.jsonl").require_writable()
    Journal(tmp_path / "not" / "yet" / "r.jsonl").require_writable()
    assert not (tmp_path / "not").exists()
