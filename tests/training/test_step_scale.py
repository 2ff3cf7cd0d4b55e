# SPDX-License-Identifier: Apache-2.0
"""Steps on 1,024 and 16,384 GPUs: exact times and counts, everything folded, and memory far below 4 GiB."""

import json

import pytest

from benchmarks.commands import commbench, run_checked

COMPUTE = "--device h100-sxm5-80gb --matrix-efficiency 0.6 --attention-efficiency 0.6 --memory-efficiency 0.8"
GIB = 2**30


@pytest.mark.parametrize(
    ("arguments", "ranks", "pp", "operations", "iteration_s", "kinds"),
    [
        ("--topology dgx-h100-x128 --tp 8 --pp 8 --dp 16 --global-batch 1536",
         1024, 8, 77_477, 8.142049733313, "34 communications (9 tensor, 14 pipeline, 11 data)"),
        ("--topology dgx-h100-x2048 --tp 8 --pp 16 --dp 128 --global-batch 6144",
         16384, 16, 40_373, 2.677985370469, "66 communications (17 tensor, 30 pipeline, 19 data)"),
    ],
)  # fmt: skip
def test_gpt3_on_a_thousand_gpus_and_more(
    arguments: str, ranks: int, pp: int, operations: int, iteration_s: float, kinds: str
) -> None:
    """On 16,384 GPUs the rings of data parallelism cross some of the uplinks that pairs of stages use, and not others;
    these uplinks are never fuller than the NICs below them, so all pairs are alike nevertheless.
    """
    words = f"--model gpt3-175b --microbatch 1 --schedule 1f1b {arguments} {COMPUTE} --json"
    done = run_checked(commbench("sim", "train", *words.split()), allowed=(0, 1))  # 1: too little memory
    record = json.loads(done.stdout)
    assert (record["ranks"], record["operations"]) == (ranks, operations)
    assert record["iteration_s"] == iteration_s
    assert record["folded"].startswith(f"{ranks:,} ranks folded to {pp}: the {ranks // pp:,} ranks of each of {pp}")
    assert [note for note in record["notes"] if note.startswith(f"folded: {kinds}, ")]
    assert not any("estimate" in note for note in record["notes"])
    assert sum(record["critical_s"].values()) == pytest.approx(iteration_s, rel=1e-9)
    assert done.peak_bytes < GIB
