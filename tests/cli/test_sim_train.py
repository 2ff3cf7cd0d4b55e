# SPDX-License-Identifier: Apache-2.0
"""``commbench sim train``: the contract of its output, options from a file, and bad input."""

import json
from pathlib import Path

import pytest

from tests.cli.test_bad_input import commbench, the_error

COMPUTE = "--device h100 --matrix-efficiency 0.6 --attention-efficiency 0.5 --memory-efficiency 0.8"
STEP = f"--model gpt3-125m --topology dgx-h100 --tp 2 --pp 4 --microbatch 1 --global-batch 8 {COMPUTE}"


def test_json_is_one_object_and_the_record_file_has_the_passes(tmp_path: Path) -> None:
    done = commbench("sim", "train", *STEP.split(), "--json", "--out", "steps.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    shown, kept = json.loads(line), json.loads((tmp_path / "steps.jsonl").read_text())
    assert (shown["kind"], shown["schema"]) == ("simulated-step", 1)
    assert shown["spans"] == []
    assert len(kept["spans"]) == 2 * 4 * 8
    assert shown["iteration_s"] == kept["iteration_s"] > 0
    assert set(shown["memory_bytes"]) == {"parameters", "gradients", "optimizer", "activations", "workspace"}
    assert "8 ranks folded to 4: the 2 ranks of each of 4 pipeline positions do the same" in done.stderr
    assert shown["folded"] in done.stderr
    assert all(note in done.stderr for note in shown["notes"])


def test_the_table_says_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "step.yaml").write_text(
        "model: gpt3-125m\ntopology: dgx-h100\ntp: 4\npp: 2\nmicrobatch: 1\nglobal-batch: 8\ndevice: h100\n"
        "matrix-efficiency: 0.6\nattention-efficiency: 0.5\nmemory-efficiency: 1\nsequence-parallel: true\n"
    )
    done = commbench("sim", "train", "step.yaml", "--pp", "1", "--tp", "4", "--dp", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# tp 4 dp 2; 1f1b, 1 stage(s) per rank, 4 microbatches" in done.stdout
    assert "sequence parallel yes" in done.stdout
    for word in ("iteration", "MFU", "HFU", "bubble", "tensor", "fits into 74.51 GiB", "gpu -> nvswitch"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_layers_in_a_file_may_be_a_list_and_the_table_says_what_was_folded(tmp_path: Path) -> None:
    (tmp_path / "step.yaml").write_text(
        "model: gpt3-125m\ntopology: dgx-h100-x4\ntp: 4\npp: 4\ndp: 2\nmicrobatch: 1\nglobal-batch: 8\ndevice: h100\n"
        "matrix-efficiency: 0.6\nattention-efficiency: 0.5\nmemory-efficiency: 1\nlayers: [2, 4, 4, 2]\n"
    )
    done = commbench("sim", "train", "step.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.replace("\n#   ", " ").split())
    assert "# 32 ranks folded to 4: the 8 ranks of each of 4 pipeline positions do the same at the same time" in text
    assert (
        "# rank order tp-cp-ep-dp-pp, nearest ranks first; groups of rank 0: tensor (tp) 0 1 2 3; data (dp) 0 4;"
        in text
    )
    assert "pipeline (pp) 0 8 16 24 # folded: " in text
    assert "in symmetric positions on dgx-h100-x4" in text
    assert done.stderr == ""  # the table says it all


FAULTS = {
    "killed-rank 2 at 5 ms": "{kind: killed-rank, at: 5 ms, rank: 2}",
    "background 0 -> 5 at 1 ms": "{kind: background, at: 1 ms, src: 0, dst: 5, size: 8M}",
    "link h0/gpu0 -> h0/nvswitch0 at 1 ms, factor 0": (
        "{kind: link, at: 1 ms, src: h0/gpu0, dst: h0/nvswitch0, direction: both, factor: 0}"
    ),
}


@pytest.mark.parametrize("words", FAULTS)
def test_faults_that_a_step_cannot_have_are_named_with_the_way_out(tmp_path: Path, words: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"faults:\n  - {FAULTS[words]}\n")
    error = the_error(commbench("sim", "train", *STEP.split(), "--scenario", "bad.yaml", folder=tmp_path))
    assert error.startswith(f"bad.yaml: {words}: a training step can have slow ranks and slower links ")
    assert error.endswith("`sim COLLECTIVE` takes it")


def test_a_straggler_and_jitter_make_the_step_longer_and_are_named(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("faults:\n  - {kind: slow-rank, at: 0 s, rank: 7, factor: 0.5}\n")
    healthy, slow, jittered = (
        json.loads(commbench("sim", "train", *STEP.split(), "--json", *more, folder=tmp_path).stdout)
        for more in ((), ("--scenario", "slow.yaml"), ("--jitter", "0.1", "--seed", "3"))
    )
    assert 1.5 * healthy["iteration_s"] < slow["iteration_s"] < 2 * healthy["iteration_s"]
    assert "slow ranks are classes of their own: 7" in slow["notes"]
    assert healthy["iteration_s"] < jittered["iteration_s"] < 1.1 * healthy["iteration_s"]
    assert [one["scenario"] for one in (healthy, slow, jittered)] == ["", "slow", "jitter 0.1"]


@pytest.mark.parametrize(("model", "degrees"), [("llama3-8b", "--tp 2"), ("mixtral-8x7b", "--dp 2 --ep 2")])
def test_fp8_concerns_products_alone(tmp_path: Path, model: str, degrees: str) -> None:
    """Half as long at most is what they become; memory, all that is sent and what is exposed of it stay in 16 bits."""
    step = STEP.replace("gpt3-125m", model).replace("--tp 2", degrees)
    wide, narrow = (
        json.loads(commbench("sim", "train", *step.split(), "--json", "--dtype", dtype, folder=tmp_path).stdout)
        for dtype in ("bf16", "fp8")
    )
    assert narrow["memory_bytes"] == wide["memory_bytes"]
    assert [one["bytes"] for one in narrow["busiest_links"]] == [one["bytes"] for one in wide["busiest_links"]]
    assert narrow["exposed_s"].get("tensor", 0) == pytest.approx(wide["exposed_s"].get("tensor", 0), rel=1e-3)
    assert narrow["time_s"]["optimizer"] == wide["time_s"]["optimizer"]
    for kind in ("forward", "backward"):
        assert 0.5 * wide["time_s"][kind] < narrow["time_s"][kind] < wide["time_s"][kind]


@pytest.mark.parametrize(
    "step",
    [
        STEP.replace("--global-batch 8", "--global-batch 3"),
        STEP.replace("gpt3-125m", "llama3-8b").replace("dgx-h100", "dgx-h100-x2").replace("--tp 2 --pp 4", "--tp 16"),
        STEP + " --sequence 4096 --positions 4096",
    ],
    ids=["fewer microbatches than stages", "fewer key-value heads than tensor ranks", "longer positions"],
)
def test_what_frameworks_run_is_simulated(tmp_path: Path, step: str) -> None:
    done = commbench("sim", "train", *step.split(), "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iteration_s"] > 0


def test_the_bubble_over_the_longest_span_stands_beside_the_others(tmp_path: Path) -> None:
    done = commbench("sim", "train", *STEP.split(), folder=tmp_path)
    shown = json.loads(commbench("sim", "train", *STEP.split(), "--json", folder=tmp_path).stdout)
    assert f"{shown['bubble_of_span']:.2%} of the longest span of a stage, as the zero-bubble" in done.stdout
    assert 0 < shown["bubble_of_span"] <= shown["bubble_of_total"]


def test_sim_of_a_collective_stays_as_it_was(tmp_path: Path) -> None:
    done = commbench("sim", "all-reduce", "--topology", "star-8", "-b", "1M", "-e", "1M", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["kind"] == "simulated"
    assert "sim train" in commbench("sim", "--help", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model gpt3-125m", "--topology is missing: name one of"),
        ("--model gpt3-125m", "--memory-efficiency is missing: the share of the device's memory bandwidth"),
        ("--topology dgx-h100", "--model is missing: name a preset"),
        (STEP.replace("--matrix-efficiency 0.6", ""), "--matrix-efficiency is missing: the share of the device's peak"),
        (STEP.replace("--device h100", ""), "--device is missing: what computes"),
        (STEP.replace("--pp 4", "--pp 3"), "tp 2 x cp 1 x dp 1 x pp 3 = 6 ranks, but there are 8; the degrees must "
         "multiply to the ranks (all of topology dgx-h100; --ranks takes fewer)"),
        (STEP + " --ranks 4", "= 8 ranks, but there are 4; the degrees must multiply to the ranks (--ranks)"),
        (STEP.replace("--global-batch 8", "--global-batch 3 --schedule zb-h2"), "3 microbatches are too few for 4 "
         "ranks and 4 stages; it needs at least 7 (--global-batch 3 / (--microbatch 1 x --dp 1) = 3, --pp 4)"),
        (STEP + " --sequence 4096", "a sequence of 4096 is longer than its 2048 learned positions; give --sequence "
         "2048 or less, or --positions 4096"),
        (STEP.replace("gpt3-125m", "llama3-8b") + " --positions 4096", "--positions 4096: model llama3-8b has rotary"),
        (STEP + " --microbatch 3", "--global-batch 8 is not a multiple of --microbatch 3 x --dp 1 = 3"),
        (STEP + " --tp 8 --pp 1", "model gpt3-125m: num_heads 12 is not divisible by tp 8"),
        (STEP + " --pp 1 --tp 1 --dp 8 --zero 4", "zero = 4 is unknown"),
        (STEP + " --schedule 2f2b", "pipeline schedule '2f2b' is unknown"),
        (STEP + " --schedule interleaved-1f1b --stages-per-rank 2 --global-batch 6", "not a multiple of 4 ranks"),
        (STEP + " --schedule interleaved-1f1b --stages-per-rank 2", "12 layers cannot be split evenly over 8 stages"),
        (STEP + " --schedule interleaved", "--schedule interleaved-1f1b: give --stages-per-rank"),
        (STEP + " --schedule interleaved --stages-per-rank 3 --global-batch 2",
         "2 microbatches are not a multiple of 4 ranks, as 3 stages per rank need (--global-batch 2 /"),
        (STEP + " --schedule none.csv", "none.csv: cannot be read: No such file or directory"),
        (STEP + " --layers 3,3,3", "layers per stage (3, 3, 3) must be 4 numbers, none negative, that add up to 12"),
        (STEP + " --layers 3,3,3,x", "--layers '3,3,3,x': must be whole numbers"),
        (STEP + " --slowdown 0.9", "slowdown 0.9 of compute beside a collective must be at least 1"),
        (STEP + " --slowdown inf", "slowdown inf of compute beside a collective must be at least 1, and finite"),
        (STEP + " --jitter 2", "--jitter 2: must be from 0 to 1, a share of what compute lasts"),
        (STEP + " --bucket lots", "--bucket: 'lots' is not a size: give a number and a unit"),
        (STEP + " --pp 1 --tp 1 --dp 8 --ep 2", "model gpt3-125m: it is dense, so there are no experts to spread"),
        (STEP + " --ranks 16 --tp 4", "16 ranks on topology dgx-h100: it has 8 endpoints"),
        (STEP + " --gemm-table x.csv", "--matrix-efficiency and --gemm-table: give one of them"),
        (STEP + " --device a100", "device 'a100' is unknown; known:"),
        (STEP + " --ring tree-of-life", "algorithm 'tree-of-life' is unknown for all-reduce"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_the_rule(tmp_path: Path, options: str, message: str) -> None:
    assert message in the_error(commbench("sim", "train", *options.split(), folder=tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: gpt3-125m\ncolour: red\n", "step.yaml: key 'colour' is unknown; known: model, topology"),
        ("tp: many\n", "step.yaml: tp: 'many' must be a whole number"),
        ("tp: true\n", "step.yaml: tp: True must be a whole number"),
        ("- tp\n", "step.yaml: must be a mapping of options"),
        ("tp: [\n", "step.yaml: not YAML"),
        ("tp: 2\npp: 1\ntp: 4\n", "step.yaml: line 3: key 'tp' is given twice"),
        ("bucket: 25\n", "step.yaml: bucket: 25 must be text (in quotes)"),
        ("flash: 1\n", "step.yaml: flash: 1 must be true or false"),
        ("slowdown: fast\n", "step.yaml: slowdown: 'fast' must be a number"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "step.yaml").write_text(text)
    assert the_error(commbench("sim", "train", "step.yaml", folder=tmp_path)).startswith(message)


def test_a_schedule_from_a_file_must_fit_and_not_deadlock(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("0F0,0F1,,0B0,,0B1\n,1F0,1B0,1F1,1B1\n")
    (tmp_path / "stuck.csv").write_text("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n")
    two = STEP.replace("--pp 4", "--pp 2 --dp 2").replace("--global-batch 8", "--global-batch 4")
    done = commbench("sim", "train", *two.split(), "--schedule", "good.csv", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["schedule"] == "good.csv"
    assert "deadlock" in the_error(commbench("sim", "train", *two.split(), "--schedule", "stuck.csv", folder=tmp_path))
    wrong = commbench("sim", "train", *STEP.split(), "--schedule", "good.csv", folder=tmp_path)
    assert "it is for 2 ranks and 2 microbatches, but --pp is 4" in the_error(wrong)
