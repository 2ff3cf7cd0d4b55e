# SPDX-License-Identifier: Apache-2.0
"""A results file says what it means or is refused: every problem is one line with file, line, key and rule."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from commbench.errors import ResultsError
from commbench.results.foreign import looks_like
from commbench.results.journal import Journal, read_records
from commbench.results.kinds import KINDS, record_from_json
from commbench.results.run_id import new_run_id
from tests.results.test_journal import COMPARED, SIMULATED, SUMMARY, measured

MEASURED: dict[str, Any] = json.loads(measured().to_json())
BASES: Mapping[str, Mapping[str, Any]] = {
    "measured": MEASURED,
    "simulated": json.loads(SIMULATED.to_json()),
    "compared": json.loads(COMPARED.to_json()),
    "summary": json.loads(SUMMARY.to_json()),
}


@pytest.mark.parametrize(
    ("kind", "changes", "rule"),
    [
        ("measured", {"wrong": "x"}, "wrong 'x' has the wrong type"),
        ("measured", {"environment": "x"}, "environment 'x' has the wrong type"),
        ("measured", {"environment": {"hosts": "x"}}, "environment.hosts 'x'"),
        ("measured", {"environment": {"emulated": 5}}, "environment.emulated 5"),
        ("measured", {"started_at": 5}, "started_at 5 has the wrong type"),
        ("measured", {"started_at": "yesterday"}, "started_at 'yesterday'"),
        ("measured", {"size_bytes": -8}, "size_bytes -8 must be greater"),
        ("measured", {"ranks": 3}, "a row of one iteration or more for each of 3 ranks"),
        ("measured", {"ranks": True}, "ranks True has the wrong type"),
        ("measured", {"samples_s": [[1e-3, 0.0, 1e-3]] * 2}, r"samples_s\[0\]\[1\] 0.0 must be greater"),
        ("measured", {"timing": "best"}, "timing 'best' must be 'isolated' or 'pipelined'"),
        ("measured", {"warmup_s": [[1e-3]]}, "warmup_s must hold a row"),
        ("measured", {"schema": True}, "schema True"),
        ("measured", {"kind": ["measured"]}, "kind .* is unknown"),
        ("measured", {"root": 2}, "root 2 must be one of the 2 ranks"),
        ("compared", {"measured_s": 0}, "measured_s 0"),
        ("compared", {"set": "neither"}, "set 'neither' must be 'fit', 'test' or 'busy'"),
        ("compared", {"slices": 0}, "slices 0"),
        ("simulated", {"time_s": -1.0}, "time_s -1.0"),
        ("simulated", {"transfers": 1.5}, "transfers 1.5"),
        ("summary", {"ok": "no"}, "ok 'no' has the wrong type"),
        ("summary", {"ok": True}, "ok is True, but its errors and thresholds say False"),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused_by_name(kind: str, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ResultsError, match=f"^here, line 7: .*{rule}"):
        record_from_json(json.dumps({**BASES[kind], **changes}), "here, line 7")


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (lambda line: line.replace('"ranks": 2', '"ranks": 2, "ranks": 2'), "key 'ranks' stands twice"),
        (lambda line: line.replace('"cores_usable": 2', '"cores_usable": 2, "x": NaN'), "NaN is no number"),
        (lambda line: line.replace('"cores_usable": 2', '"x": 1e400'), "'1e400' is larger than any number"),
        (lambda line: line.replace('"busbw_factor": 1.0', '"busbw_factor": 1e400'), "larger than any number"),
        (lambda line: line.replace('"cores_usable": 2', f'"x": {"9" * 5000}'), "larger than any number"),
        (lambda line: line.replace('"gloo"', '"\\ud800"'), "surrogate"),
        (lambda line: line.replace('"cores_usable": 2', '"x": ' + "[" * 5000 + "]" * 5000), "too deep|recursion"),
        (lambda line: line.replace('"cores_usable": 2', '"x": ' + "[" * 500 + "]" * 500), "too deep|recursion"),
        (lambda line: line.replace('"gloo"', '"\\u001b[31m"'), "control character"),
        (lambda line: line[:-9], "the line was cut"),
    ],
)
def test_json_that_is_none_or_says_two_things_is_refused(edit: Callable[[str], str], rule: str) -> None:
    line = measured().to_json()
    assert edit(line) != line
    with pytest.raises(ResultsError, match=f"^here: .*({rule})"):
        record_from_json(edit(line), "here")


def test_every_kind_of_record_has_the_strict_types() -> None:
    """Also of those that are added later: a field of a type that takes anything must be a mapping with a shape."""
    for cls in KINDS.values():
        assert cls.__pydantic_config__["strict"]
        assert not [f.name for f in fields(cls) if f.type in ("Any", Any, "object")], cls


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"# nccl-tests version 2.17\n# nThread 1 nGpus 8\n", "nccl-tests"),
        (b"#       size   count  out-of-place   in-place\n 8 2 float sum -1 20.1 0.0 0.0 0\n", "nccl-tests"),
        (b"size,time\n1,2\n", "CSV"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"name: x\nfabric:\n  kind: star\n", "commbench topology show"),
        (b"# what\nmodel: gpt3-13b\n", "commbench sim train"),
        (b"faults:\n  - {kind: link}\n", "--scenario"),
        (b'<algo name="x" ngpus="2"></algo>', "commbench algorithm verify"),
        (b"commbench-schedule 1\ncollective all-reduce\n", "commbench algorithm verify"),
        (b"0F0,0F1,0B0,0B1\n1F0,1F1\n", "commbench run pipeline"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "gunzip"),
        (bytes(range(256)), "binary"),
        (b'{\n  "kind": "measured"\n}\n', "one JSON document"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in looks_like(data)
    path = tmp_path / "x"
    path.write_bytes(data)
    for salvage in (False, True):
        with pytest.raises(ResultsError, match="it looks like") as caught:
            read_records(path, salvage=salvage)
        assert words in str(caught.value)
        assert "cut" not in str(caught.value)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Each line is whole, whoever else appends at the same time."""
    from concurrent.futures import ProcessPoolExecutor

    path = tmp_path / "r.jsonl"
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_append, [path] * 4, range(4)))
    assert sorted(r.size_bytes for r in read_records(path)) == sorted(4 * (1 + i) for i in range(4) for _ in range(20))


def _append(path: Path, number: int) -> None:
    for _ in range(20):
        Journal(path).append(measured(4 * (1 + number)))


def test_run_identifiers_are_never_the_same_twice() -> None:
    assert len({new_run_id() for _ in range(1000)}) == 1000
