# SPDX-License-Identifier: Apache-2.0
"""``commbench sim train``: the contract of its output, options from a file, and bad input."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from commbench.workload.memory import MemoryUse
from tests.cli.commands import commbench
from tests.cli.test_bad_input import the_error

HOSTS = Path(__file__).resolve().parents[2] / "topologies" / "dgx-h100.yaml"
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
    assert set(shown["memory_bytes"]) == {f.name for f in fields(MemoryUse)}
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
    assert "# tp 4 dp 2; 1f1b, 1 stage per rank, 4 microbatches" in done.stdout
    assert "sequence parallel yes" in done.stdout
    for word in ("iteration", "MFU", "HFU", "bubble", "tensor", "fits into 74.51 GiB", "gpu -> nvswitch"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("how", "library", "words"),
    [
        ("", "ideal", "collectives: library ideal, rings at line rate"),
        ("--stack megatron", "ideal", "collectives: library ideal, at what links reach in steps: nvlink4 share"),
        ("--library nccl", "nccl", "collectives: library nccl 2.30, by its model, as if nothing else ran; transfers"),
        ("--library nccl --nccl-version 2.21 --stack fsdp", "nccl", "collectives: library nccl 2.21, by its model and"),
    ],
)
def test_the_record_and_the_table_say_which_library_priced_the_collectives(
    how: str, library: str, words: str, tmp_path: Path
) -> None:
    done = commbench("sim", "train", *STEP.split(), *how.split(), "--out", "steps.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "steps.jsonl").read_text())
    assert record["library"] == library
    assert list(record["settings"]["algorithms"]) == ["all-reduce"]
    assert f"#   library {library}" in done.stdout or f"# library {library}" in done.stdout
    assert any(note.startswith(words) for note in record["notes"])
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_gradients_are_sent_beside_as_the_stack_does_by_itself(tmp_path: Path) -> None:
    megatron = "--stack megatron"
    for how in ("", f"{megatron} --overlap-gradients", f"{megatron} --zero 2", megatron, "--no-overlap-gradients"):
        done = commbench("sim", "train", *STEP.split(), *how.split(), "--json", folder=tmp_path)
        beside = how not in (megatron, "--no-overlap-gradients")
        assert json.loads(done.stdout)["settings"]["overlap_gradients"] is beside


def test_a_library_s_collectives_last_longer_than_at_line_rate(tmp_path: Path) -> None:
    times = []
    for how in ("", "--library nccl"):
        done = commbench("sim", "train", *STEP.split(), *how.split(), "--json", folder=tmp_path)
        times.append(json.loads(done.stdout)["exposed_s"]["tensor"])
    assert times[0] < times[1]


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
    assert [one["scenario"] for one in (healthy, slow, jittered)] == ["", "slow", ""]
    assert [one["jitter"] for one in (healthy, slow, jittered)] == [0, 0, 0.1]


MY_GPU = """name: my-gpu
description: Half a GPU.
flops: {bf16: 500 TFLOP/s}
memory_capacity: 40 GB
memory_bandwidth: 1.5 TB/s
"""


def test_the_device_is_that_of_the_hosts_or_the_users_own(tmp_path: Path) -> None:
    """What a topology names needs no --device; a device may be a file, which must give what is used."""
    (tmp_path / "mine.yaml").write_text(MY_GPU)
    (tmp_path / "none.yaml").write_text(HOSTS.read_text().replace("  device: h100-sxm5-80gb\n", ""))
    plain = STEP.replace("--device h100", "")
    bare = plain.replace("dgx-h100", "none.yaml")

    def times(options: str) -> tuple[str, float, int]:
        done = commbench("sim", "train", *options.split(), "--json", folder=tmp_path)
        shown = json.loads(done.stdout)
        return shown["device"], shown["iteration_s"], shown["margin_bytes"]

    assert times(plain) == times(STEP) == times(bare + " --device h100-sxm") == times(STEP + " --device H100-SXM5-80GB")
    assert times(plain)[::2] == ("h100-sxm5-80gb", 2 * 2**30)
    assert times(bare + " --device mine.yaml --memory-margin 1G")[::2] == ("my-gpu", 2**30)
    assert times(bare + " --device mine.yaml --memory-margin 1G")[1] > 1.5 * times(plain)[1]
    assert the_error(commbench("sim", "train", *bare.split(), "--device", "mine.yaml", folder=tmp_path)) == (
        "device my-gpu has no memory_margin: add the key to mine.yaml, or give --memory-margin"
    )
    (tmp_path / "tuned.yaml").write_text(MY_GPU.replace("my-gpu", "h100-sxm5-80gb") + "memory_margin: 3 GiB\n")
    assert times(plain + " --device tuned.yaml")[::2] == ("h100-sxm5-80gb", 3 * 2**30)  # the user's own figures of it


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
    assert f"{shown['bubble_of_span']:.2%} of the longest span of a stage (zero-bubble" in done.stdout
    assert 0 < shown["bubble_of_span"] <= shown["bubble_of_total"]


def test_a_step_that_does_not_fit_says_so_first_and_ends_with_1(tmp_path: Path) -> None:
    """8 billion parameters of 18 bytes on one GPU; what is named makes it fit."""
    step = STEP.replace("gpt3-125m", "llama3-8b").replace("--tp 2 --pp 4", "--dp 8")
    done = commbench("sim", "train", *step.split(), folder=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert done.stderr == ""
    assert lines[0].startswith("DOES NOT FIT: ")
    assert max(map(len, lines[:3])) <= 80
    first = " ".join(" ".join(lines[:4]).split())
    assert "more than the 74.51 GiB of h100-sxm5-80gb; most are optimizer, 89.75 GiB; --zero" in first
    options = first.split("89.75 GiB; ")[1].split(" makes it fit")[0]
    better = commbench("sim", "train", *step.split(), *options.split(), "--json", folder=tmp_path)
    assert better.returncode == 0, better.stderr
    assert json.loads(better.stdout)["margin_bytes"] == 2 * 2**30
    as_json = commbench("sim", "train", *step.split(), "--json", folder=tmp_path)
    assert as_json.returncode == 1
    assert as_json.stderr.startswith("DOES NOT FIT: ")
    assert json.loads(as_json.stdout)["remedy"] == f"{options} makes it fit"


def test_the_margin_is_counted(tmp_path: Path) -> None:
    assert commbench("sim", "train", *STEP.split(), "--memory-margin", "60G", folder=tmp_path).returncode == 0
    done = commbench("sim", "train", *STEP.split(), "--memory-margin", "74G", folder=tmp_path)
    assert done.returncode == 1
    assert "margin 74 GiB context, buffers, ... (--memory-margin)" in " ".join(done.stdout.split())


def test_the_command_of_the_error_works_and_says_what_it_assumes(tmp_path: Path) -> None:
    error = the_error(commbench("sim", "train", folder=tmp_path))
    command = error.split("A command that works: commbench ")[1]
    done = commbench(*command.split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "assumed, as usual on GPUs (--assume-efficiencies): matrix 0.7" in done.stdout


def test_names_are_understood_as_people_write_them(tmp_path: Path) -> None:
    """Papers and frameworks write H100, BF16, bfloat16, half, 1F1B and Llama3-8B; the record has one spelling."""
    compute = COMPUTE.replace("h100", "H100")
    words = f"--model GPT3-125M --topology dgx-h100 --tp 2 --pp 4 --microbatch 1 --global-batch 8 {compute}"
    done = commbench("sim", "train", *words.split(), "-d", "BFloat16", "--schedule", "1F1B", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    names = ("gpt3-125m", "h100-sxm5-80gb", "bf16", "1f1b")
    assert tuple(record[key] for key in ("model", "device", "dtype", "schedule")) == names


def test_mfu_names_the_peak_that_it_is_a_share_of(tmp_path: Path) -> None:
    done = commbench("sim", "train", *STEP.split(), "-d", "fp8", folder=tmp_path)
    assert "of 1,979 TFLOP/s a GPU, fp8 peak)" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if line.startswith(" MFU"))


def test_bytes_per_parameter_are_named_and_narrower_ones_than_the_products_noted(tmp_path: Path) -> None:
    """fp32 products beside 2-byte weights is a step that nobody runs; its memory must not pass without a word."""
    usual = commbench("sim", "train", *STEP.split(), folder=tmp_path)
    assert "precision megatron-bf16" in " ".join(usual.stdout.replace("#", "").split())
    assert "weights are kept" not in usual.stdout
    odd = commbench("sim", "train", *STEP.split(), "-d", "fp32", folder=tmp_path)
    shown = " ".join(odd.stdout.replace("#", "").split())
    assert "weights are kept in 2 bytes (megatron-bf16) beside fp32 products; --precision fp32-adam keeps 4" in shown
    even = commbench("sim", "train", *STEP.split(), "-d", "fp32", "--precision", "fp32-adam", folder=tmp_path)
    assert "precision fp32-adam" in " ".join(even.stdout.replace("#", "").split())
    assert "weights are kept" not in even.stdout


def test_a_file_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    done = commbench("sim", "train", *STEP.split(), "--topology", "nowhere", "--out", ".", folder=tmp_path)
    assert "is a folder" in the_error(done)


def test_sim_of_a_collective_stays_as_it_was(tmp_path: Path) -> None:
    done = commbench("sim", "all-reduce", "--topology", "star-8", "-b", "1M", "-e", "1M", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["kind"] == "simulated"
    assert "sim train" in commbench("sim", "--help", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model gpt3-125m", "--topology, --microbatch, --global-batch, --device, --matrix-efficiency"),
        ("--model gpt3-125m", "are missing; --assume-efficiencies takes usual ones, marked as assumed. A command that "
         "works: commbench sim train --model"),
        (STEP.replace("--model gpt3-125m", ""), "--model is missing: name a preset"),
        (STEP + " --seed -1", "--seed -1: must be 0 to 9223372036854775807"),
        (STEP + " --seed " + "9" * 400, "--seed (a number of 1329 bits): must be 0 to"),
        (STEP + " --sequence 10000000000", "--sequence 10000000000: must be 1 to 16777216"),
        (STEP + " --global-batch 8000000000", "--global-batch 8000000000: must be 1 to 16777216"),
        (STEP + " --global-batch 800000", "= 800000 microbatches are 6,400,000 passes of stages, more than 200,000"),
        (STEP.replace("--tp 2 --pp 4", "--dp 8 --zero 3") + " --global-batch 400000", "the step would be about "),
        (STEP + " --tp 99999999999", "--tp 99999999999: must be 1 to 4096"),
        (STEP + " --memory-margin lots", "--memory-margin: 'lots' is not a size"),
        (STEP + " --out .", "--out .: is a folder; give the name of a file"),
        (STEP.replace("--matrix-efficiency 0.6", "").replace("--device h100", "--device rtx-3090")
         .replace("dgx-h100", "fat-tree-16 --ranks 8"), "--matrix-efficiency is missing: the share of the device's"),
        (STEP + " --stack megatorn", "--stack 'megatorn' is unknown; did you mean megatron?"),
        (STEP + " --attention-kernel flash-4", "--attention-kernel 'flash-4' is unknown"),
        (STEP + " --attention-kernel flash-2 --no-flash", "is one kernel, --no-flash several: give one"),
        (STEP.replace("--model gpt3-125m", "--hidden 768"), "a model by its numbers lacks --num-layers, --num-heads"),
        (STEP + " --gated", "--gated: is for a model by its numbers"),
        (STEP.replace("--device h100", "").replace("dgx-h100", "fat-tree-16 --ranks 8"), "--device is missing: what "
         "computes, where the topology does not name it"),
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
        (STEP + " --library mpi", "--library 'mpi' is unknown; known: ideal, nccl, rccl"),
        (STEP + " --library rccl", "--library rccl on topology dgx-h100: its GPUs take nccl"),
        (STEP + " --nccl-version 2.21", "--nccl-version goes with --library nccl, not with ideal"),
        (STEP + " --library nccl --ring ring", "--ring goes with --library ideal: nccl chooses by itself"),
        (STEP + " --zero 1 --zero-group 3 --tp 1 --dp 2", "--zero-group 3: must divide the 2 data ranks (dp x cp)"),
        (STEP + " --zero 2 --no-overlap-gradients", "--no-overlap-gradients: with --zero 2 those of each microbatch"),
        (STEP + " --jitter 2", "--jitter 2: must be from 0 to 1, a share of what compute lasts"),
        (STEP + " --bucket lots", "--bucket: 'lots' is not a size: give a number and a unit"),
        (STEP + " --pp 1 --tp 1 --dp 8 --ep 2", "model gpt3-125m: it is dense, so there are no experts to spread"),
        (STEP + " --ranks 16 --tp 4", "16 ranks on topology dgx-h100: it has 8 endpoints"),
        (STEP + " --gemm-table x.csv", "--matrix-efficiency and --gemm-table: give one of them"),
        (STEP + " --device a100", "--device a100: the hosts of topology dgx-h100 have h100-sxm5-80gb ("),
        (STEP + " --device a100", "; type --device h100-sxm5-80gb, or, to plan other devices in such hosts, a copy of "
         "the topology whose host section names those, or none"),
        (STEP + " --device a1000", "device 'a1000': not found; did you mean a100-"),
        (STEP.replace("dgx-h100", "dgx-a100"), "--device h100: the hosts of topology dgx-a100 have a100-sxm4 ("),
        (STEP.replace("dgx-h100", "dgx-a100").replace("--device h100", ""), "topology dgx-a100 has device a100-sxm4, "
         "which is one of a100-sxm4-40gb, a100-sxm4-80gb; say which, as in --device a100-sxm4-40gb"),
        (STEP.replace("dgx-h100", "fat-tree-16 --ranks 8"), "--device h100, which is one of h100-pcie-80gb, "
         "h100-sxm5-80gb; say which"),
        (STEP.replace("dgx-h100", "fat-tree-16 --ranks 8") + " --device gb10", "device gb10-128gb has no peak for "
         "dtype 'bf16' ("),
        (STEP + " --device none.yaml", "device 'none.yaml': no such file"),
        (STEP + " --ring tree-of-life", "algorithm 'tree-of-life' is unknown for all-reduce"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_the_rule(tmp_path: Path, options: str, message: str) -> None:
    assert message in the_error(commbench("sim", "train", *options.split(), folder=tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: gpt3-125m\ncolour: red\n", "step.yaml: line 2: key 'colour' is unknown; known: model, topology"),
        ("tp: many\n", "step.yaml: line 1: tp: 'many' must be a whole number"),
        ("tp: true\n", "step.yaml: line 1: tp: True must be a whole number"),
        ("- tp\n", "step.yaml: must be a mapping of keys, for example `model: gpt3-175b`"),
        ("tp: [\n", "step.yaml: not YAML"),
        ("tp: 2\npp: 1\ntp: 4\n", "step.yaml: line 3: key 'tp' is given twice"),
        ("bucket: 25\n", "step.yaml: line 1: bucket: 25 must be text (in quotes)"),
        ("recompute: no\n", "step.yaml: line 1: recompute: 'no': must be none, selective, per-op or full"),
        ("recompute: false\n", "step.yaml: line 1: recompute: False must be none, selective, per-op or full"),
        ("flash: no\n", "step.yaml: line 1: flash: 'no': type false"),
        ("flash: 1\n", "step.yaml: line 1: flash: 1 must be true or false"),
        ("tp: 2\nglobal-batch: 8\nglobal_batch: 9\n",
         "step.yaml: line 3: key 'global_batch' is 'global-batch' of line 2 again; keep one"),
        ("globl-batch: 8\n", "step.yaml: line 1: key 'globl-batch' is unknown; did you mean global-batch?"),
        ("sequence: " + "9" * 400 + "\n", "step.yaml: line 1: sequence: '99999999999999999999...99999999': is too"),
        ("model: &a [*a]\n", "step.yaml: line 1: this holds itself by an alias"),
        ("slowdown: fast\n", "step.yaml: line 1: slowdown: 'fast' must be a number"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "step.yaml").write_text(text)
    assert the_error(commbench("sim", "train", "step.yaml", folder=tmp_path)).startswith(message)


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "step.yaml").write_text("tp: 2\ncolour: red\nzero: two\n")
    done = commbench("sim", "train", "step.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: step.yaml: 2 errors\n  line 2: key 'colour' is unknown")
    assert done.stderr.endswith("\n  line 3: zero: 'two' must be 0, 1, 2 or 3\n")


def test_a_schedule_from_a_file_must_fit_and_not_deadlock(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("0F0,0F1,,0B0,,0B1\n,1F0,1B0,1F1,1B1\n")
    (tmp_path / "stuck.csv").write_text("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n")
    two = STEP.replace("--pp 4", "--pp 2 --dp 2").replace("--global-batch 8", "--global-batch 4")
    done = commbench("sim", "train", *two.split(), "--schedule", "good.csv", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["schedule"] == "good.csv"
    assert "deadlock" in the_error(commbench("sim", "train", *two.split(), "--schedule", "stuck.csv", folder=tmp_path))
    wrong = commbench("sim", "train", *STEP.split(), "--schedule", "good.csv", folder=tmp_path)
    assert "it is for 2 ranks and 2 microbatches, but --pp is 4" in the_error(wrong)
