# SPDX-License-Identifier: Apache-2.0
"""What is kept of the environment, and above all what is not."""

import json

import pytest

from commbench.results.environment import collect_environment, kept_variables


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
