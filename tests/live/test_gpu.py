# SPDX-License-Identifier: Apache-2.0
"""NCCL itself, where there is a GPU: values of every native collective, alone and on ranks that share the GPU."""

from pathlib import Path

import pytest

from benchmarks.gpu import parts, run_part

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_native_collective_gives_the_right_values(ranks: int, tmp_path: Path) -> None:
    own = [part for part in parts("nccl", "gpu", tmp_path / "runs.jsonl") if "native" in part.name]
    part = next(part for part in own if part.ranks == ranks)
    assert run_part(part, "nccl", "gpu", tmp_path / "runs.jsonl") == ""
