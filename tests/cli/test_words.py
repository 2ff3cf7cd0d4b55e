# SPDX-License-Identifier: Apache-2.0
"""What people type first: the field's spellings of verbs, collectives, types and options."""

import json
from pathlib import Path

import pytest

from commbench.cli.main import outcome
from commbench.collectives.registry import ALGORITHMS, DEFAULTS
from commbench.collectives.sizes import dtype_name, fitting_sizes, sweep
from commbench.collectives.spec import COLLECTIVES, get_collective
from commbench.errors import InputError
from commbench.topology.jobs import deal
from tests.cli.commands import commbench
from tests.cli.test_bad_input import the_error


def simulated(*arguments: str, folder: Path) -> list[dict[str, object]]:
    done = commbench(*arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("arguments", [(), ("topology",), ("algorithm",)])
def test_no_word_at_all_shows_the_help_and_no_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = commbench(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "Commands:" in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("allreduce", "all-reduce"),
        ("all_reduce", "all-reduce"),
        ("AllReduce", "all-reduce"),
        ("all_reduce_perf", "all-reduce"),
        ("alltoall", "all-to-all"),
        ("AllToAllv", "all-to-all-v"),
        ("reduce_scatter_tensor", "reduce-scatter"),
        ("all_gather_into_tensor", "all-gather"),
        ("sendrecv", "send-recv"),
        ("Bcast", "broadcast"),
    ],
)
def test_a_collective_in_any_spelling(spelling: str, name: str) -> None:
    assert get_collective(spelling).name == name


def test_spellings_reach_every_verb(tmp_path: Path) -> None:
    for words in (("simulate", "allreduce"), ("sim", "AllReduce", "-a", "ring", "-g", "8", "-d", "float")):
        [record] = simulated(*words, "-t", "star-8", "-b", "1M", "-e", "1M", folder=tmp_path)
        assert (record["collective"], record["algorithm"], record["ranks"]) == ("all-reduce", "ring", 8)
    for words in (("algorithm", "show", "ring", "-c", "allgather"), ("train", "--help"), ("algorithm", "crossover",
                  "-c", "all_gather", "-t", "star-8", "--ranks", "4", "-b", "1M", "-e", "1M")):  # fmt: skip
        assert commbench(*words, folder=tmp_path).returncode == 0


def test_a_collective_in_place_of_a_verb_is_told_what_to_type(tmp_path: Path) -> None:
    found = the_error(commbench("alltoall", "-t", "star-8", folder=tmp_path))
    assert found.startswith("'alltoall' is a collective, not a verb: give commbench run all-to-all, or commbench sim")


def test_a_near_miss_names_what_is_near(tmp_path: Path) -> None:
    assert "did you mean all-reduce?" in the_error(commbench("sim", "all-reduse", "-t", "star-8", folder=tmp_path))


def test_every_collective_has_an_algorithm_when_nobody_names_one(tmp_path: Path) -> None:
    assert set(DEFAULTS) == set(COLLECTIVES)
    assert all((collective, name) in ALGORITHMS for collective, name in DEFAULTS.items())
    [record] = simulated("sim", "all-to-all", "-t", "star-8", "-b", "1M", "-e", "1M", folder=tmp_path)
    assert record["algorithm"] == "direct"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("half", "float16"),
        ("bf16", "bfloat16"),
        ("float", "float32"),
        ("double", "float64"),
        ("f8e4m3", "float8_e4m3fn"),
        ("char", "int8"),
    ],
)
def test_nccl_tests_names_of_types(spelling: str, name: str) -> None:
    assert dtype_name(spelling) == name


def test_what_nccl_tests_has_and_commbench_has_not_says_so(tmp_path: Path) -> None:
    found = the_error(commbench("sim", "all-reduce", "-t", "star-8", "-d", "uint32", folder=tmp_path))
    assert "'uint32' is not supported yet" in found


def test_a_sweep_leaves_out_what_is_too_small_and_says_so(tmp_path: Path) -> None:
    done = commbench("sim", "all-gather", "-t", "star-8", "-b", "1", "-e", "256", "--json", folder=tmp_path)
    assert done.returncode == 0
    assert [json.loads(line)["size_bytes"] for line in done.stdout.splitlines()] == [32, 64, 128, 256]
    assert "left out 1 B, 4 B, 8 B ...: smaller than one element of 4 B for each of 8 ranks" in done.stderr
    assert fitting_sizes(get_collective("all-to-all-v"), 4, (8, 16, 40), 4) == ((16, 32), (8,))  # a piece for each rank
    with pytest.raises(InputError, match="size 16 B is smaller than one element of 4 B for each of 8 ranks"):
        fitting_sizes(get_collective("all-gather"), 8, (8, 16), 4)


def test_a_barrier_takes_the_sizes_of_a_loop_over_collectives(tmp_path: Path) -> None:
    done = commbench("sim", "barrier", "-t", "star-8", "-b", "64K", "-e", "4M", "--json", folder=tmp_path)
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert json.loads(line)["time_s"] == 6_000_960e-12  # three rounds of 2 us and a token of 4 bytes
    assert "barrier moves no data" in done.stderr


def test_a_sweep_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="more than 10000 steps"):
        sweep("8", "1T", step="8")
    with pytest.raises(InputError, match="at least one byte"):
        sweep("0", "1M")


def test_steps_smaller_than_an_element_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="more than 10000 steps"):
        sweep("4", "64M", factor=1 + 2**-40)  # all of the first 1e12 steps round to one size
    with pytest.raises(InputError, match="more than 10000 steps"):
        sweep("4", "64M", step="1", element_bytes=2**14)


@pytest.mark.parametrize(("fabric", "noted"), [("star-8", True), ("shared-memory-4", False)])
def test_a_slow_rank_that_nothing_slows_is_noted(tmp_path: Path, fabric: str, noted: bool) -> None:
    fault = "faults: [{kind: slow-rank, at: 0 s, rank: 1, factor: 0.5}]\n"
    (tmp_path / "slow.yaml").write_text(fault)
    done = commbench("sim", "all-reduce", "-t", fabric, "-b", "64K", "--scenario", "slow.yaml", folder=tmp_path)
    assert done.returncode == 0
    assert (f"note: slow.yaml: slow-rank changes nothing on {fabric}" in done.stderr) is noted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sim train --mbs 1", "No such option: --mbs: give --microbatch"),
        ("sim train --model llama-2-70b", "model 'llama-2-70b' is unknown; did you mean llama2-70b? known: gpt2, "),
        ("sim train --model gpt3-175", "model 'gpt3-175' is unknown; did you mean gpt3-175b? known: "),
        ("sim train --device H100_SXM", "device 'H100_SXM': not found; did you mean h100-"),
        ("sim all-reduce -t star-8 -a halving_doubling", "did you mean halving-doubling? known: ring, "),
        ("sim all-reduce -t star-8 --routing dmodk", "did you mean d-mod-k? known: ecmp, "),
        ("sim all-reduce -t star-8 -d flot", "--dtype 'flot' is unknown; did you mean float64? known: "),
        ("run all-reduce -c 1", "nccl-tests' check iterations: values are checked once, after the timed loop; give "),
        ("run all-reduce -d uint64", "--dtype 'uint64' is not supported yet: sizes are in bytes, so another "),
        ("run all-reduce -np 0", "--nproc 0 must be at least 1"),
        ("run all-reduce --np 0", "--nproc 0 must be at least 1"),
        ("run pipeline -np 0", "--nproc 0 must be at least 1"),
    ],
)
def test_a_word_that_is_not_known_is_answered_with_what_to_type(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = " --topology dgx-h100 --ranks 1 --microbatch 1 --global-batch 8 --assume-efficiencies"
    words = arguments.split()
    if words[1] == "train":
        given = (rest + " --model gpt3-1.3b").split(" --")[1:]
        words += [w for one in given if f"--{one.split()[0]}" not in words for w in f"--{one}".split()]
    assert outcome(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "jobs"),
    [("0-3/4-7", [(0, 1, 2, 3), (4, 5, 6, 7)]), ("0,2-3/ 7,4-5", [(0, 2, 3), (7, 4, 5)])],
)
def test_jobs_take_ranges_of_ranks(text: str, jobs: list[tuple[int, ...]]) -> None:
    assert deal(text, 8) == jobs


@pytest.mark.parametrize("text", ["3-0/4-7", "0-/4-7", "0-1-2/4-7", "a-b/4-7"])
def test_ranges_of_no_ranks_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="ranks such as 0,1,4,5/2,3,6,7 or 0-3/4-7"):
        deal(text, 8)
    with pytest.raises(InputError, match="rank 8 is outside"):
        deal("0-3/4-999999999999", 8)
