# SPDX-License-Identifier: Apache-2.0
"""What is kept of the environment, and above all what is not."""

import json
from pathlib import Path

import pytest

from commbench.results.environment import collect_environment, cpu_quota, kept_variables


def test_only_listed_variables_are_kept() -> None:
    given = {
        "NCCL_ALGO": "Ring",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "1",
        "OMP_NUM_THREADS": "1",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "MY_NCCL_TOKEN": "s3cret",
        "PATH": "/bin",
    }
    assert list(kept_variables(given)) == [
        "GLOO_SOCKET_IFNAME",
        "NCCL_ALGO",
        "OMP_NUM_THREADS",
        "TORCH_NCCL_TRACE_BUFFER_SIZE",
    ]


def test_facts_are_json_and_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "s3cret")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    facts = collect_environment()
    text = json.dumps(facts)
    assert "s3cret" not in text
    assert facts["variables"]["NCCL_DEBUG"] == "INFO"
    assert facts["cores_usable"] >= 1
    assert isinstance(facts["hostname"], str)


@pytest.mark.parametrize(
    ("limits", "group", "expected"),
    [
        ({}, "/slice/job", None),
        ({"slice/job": "max 100000"}, "/slice/job", None),
        ({"": "300000 100000"}, "/", ("/", 3.0)),  # as in a container: it sees its own group as the root
        ({"slice/job": "150000 100000"}, "/slice/job", ("/slice/job", 1.5)),
        ({"slice": "50000 100000", "slice/job": "150000 100000"}, "/slice/job", ("/slice", 0.5)),
        ({"slice/other": "50000 100000"}, "/slice/job", None),
    ],
)
def test_the_tightest_quota_counts(
    limits: dict[str, str], group: str, expected: tuple[str, float] | None, tmp_path: Path
) -> None:
    for name, limit in limits.items():
        (tmp_path / "fs" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name / "cpu.max").write_text(limit + "\n")
    (tmp_path / "membership").write_text(f"12:cpu:/v1\n0::{group}\n")
    assert cpu_quota(tmp_path / "fs", tmp_path / "membership") == expected
