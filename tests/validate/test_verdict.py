# SPDX-License-Identifier: Apache-2.0
"""Verdicts on logs: the rule, what is corrupt, what explains a bandwidth above the line rate, exit codes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from commbench.cli.main import outcome
from commbench.errors import InputError
from commbench.experiments.log_verdict import judged_runs
from commbench.results.journal import read_records
from commbench.results.judged import Health, Judged
from commbench.results.logs import read_log
from commbench.validate.verdict import Answer, Line, judge_log
from tests.results.log_text import Layout, log

SIZES = tuple(2**k for k in range(10, 32))
NO_LINE = Line(None, 1, False)


def machine(sizes: Sequence[int]) -> list[Answer]:
    """30 us and 100 GB/s."""
    return [Answer(30e-6 + size / 1e11, "Ring", "Simple") for size in sizes]


def judged(tmp_path: Path, slower: dict[int, float], text: str = "") -> tuple[list[Judged], Health]:
    """The verdicts on that machine where sizes are slower by these factors."""
    points = [
        (size, 1e6 * one.time_s * slower.get(size, 1.0), 1e6 * one.time_s * slower.get(size, 1.0))
        for size, one in zip(SIZES, machine(SIZES), strict=True)
        if one.time_s
    ]
    file = tmp_path / "a.log"
    file.write_text(text or log(Layout(), points), encoding="utf-8")
    return judge_log(read_log(file).records, machine, NO_LINE, topology="t", library="l")


def test_a_machine_that_does_as_predicted_is_ok(tmp_path: Path) -> None:
    found, health = judged(tmp_path, {})
    assert {one.verdict for one in found} == {"ok"}
    assert [one.size_bytes for one in found] == list(SIZES)
    assert (health.verdict, health.points) == ("ok", len(SIZES))
    assert health.plateau_ratio == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [
        ({2**k: 1.3 for k in range(28, 32)}, "ok"),  # the plateau, below its threshold
        ({2**k: 1.4 for k in range(28, 32)}, "slow"),
        ({2**k: 1.4 for k in range(30, 32)}, "ok"),  # half of the plateau
        ({2**k: 1.9 for k in range(20, 24)}, "ok"),
        ({2**k: 2.1 for k in range(20, 23)}, "slow"),
        ({2**k: 2.1 for k in (20, 22)}, "slow"),  # the median of three neighbours
        ({2**22: 9.0}, "ok"),  # one size alone
        ({2**k: 9.0 for k in range(10, 20)}, "ok"),  # below 1 MiB nothing tells health
    ],
)
def test_the_rule_of_three_neighbours_and_the_plateau(tmp_path: Path, slower: dict[int, float], verdict: str) -> None:
    assert judged(tmp_path, slower)[1].verdict == verdict


def test_sizes_have_verdicts_of_their_own(tmp_path: Path) -> None:
    words = {one.size_bytes: one.verdict for one in judged(tmp_path, {2**12: 3, 2**24: 0.4, 2**30: 1.4, 2**31: 0.7})[0]}
    assert [words[2**k] for k in (12, 24, 30, 31, 20)] == ["slow", "fast", "slow", "fast", "ok"]


def test_out_of_place_that_copies_is_not_held_against_a_machine(tmp_path: Path) -> None:
    points = [(2**k, 2e-5 * 2**k + 60, 1e-5 * 2**k + 30) for k in range(20, 32)]
    found, health = judged(tmp_path, {}, log(Layout(), points))
    assert health.verdict == "ok"
    assert all(one.in_place for one in found)


def test_wrong_values_and_rows_that_contradict_themselves_are_corrupt(tmp_path: Path) -> None:
    points = [(size, 30 + size / 1e5, 30 + size / 1e5) for size in SIZES]
    found, health = judged(tmp_path, {}, log(Layout(), points).replace("58.30", "21.43", 1))
    (bad,) = [one for one in found if one.verdict == "corrupt"]
    assert bad.note.startswith("algbw 21.43 GB/s does not follow from its time")
    assert (health.verdict, health.reason) == (
        "corrupt", f"1 of {len(SIZES)} sizes have wrong values or contradict themselves"
    )  # fmt: skip
    found, health = judged(tmp_path, {}, log(Layout(wrong="7"), points))
    assert {one.note for one in found} == {"7 wrong values"}


def test_a_log_that_says_failed_itself_is_corrupt(tmp_path: Path) -> None:
    points = [(size, 30 + size / 1e5, 30 + size / 1e5) for size in SIZES]
    text = log(Layout(wrong="N/A"), points)
    assert judged(tmp_path, {}, text)[1].verdict == "ok"
    _, health = judged(tmp_path, {}, text.replace("values : 0 OK", "values : 3 FAILED"))
    assert (health.verdict, "Out of bounds values: FAILED" in health.reason) == ("corrupt", True)


def test_a_slip_of_a_last_digit_is_no_corruption(tmp_path: Path) -> None:
    points = [(2**k, t, t) for k, t in ((26, 700), (27, 1300), (28, 2600), (30, 1e4))]
    text = log(Layout(), points)  # algbw 107.37, busbw 187.90
    for figure, other, verdict in (("187.90", "187.89", "ok"), ("187.90", "187.91", "ok"), ("107.37", "107.38", "ok"),
                                   ("187.90", "187.80", "corrupt"), ("107.37", "107.40", "corrupt")):  # fmt: skip
        assert figure in text
        assert (judged(tmp_path, {}, text.replace(figure, other))[1].verdict == "corrupt") == (verdict == "corrupt")


def test_a_size_of_the_plateau_faster_than_any_machine_makes_the_run_unknown(tmp_path: Path) -> None:
    _, health = judged(tmp_path, {2**30: 1 / 56})
    assert (health.verdict, health.reason) == (
        "unknown", "1 GiB is faster than this machine can be: is it this machine?"
    )  # fmt: skip
    assert judged(tmp_path, {2**k: 0.5 for k in range(28, 32)})[1].verdict == "ok"  # switches or a tree can


def test_what_does_not_make_a_machine_slow_is_named_beside_ok(tmp_path: Path) -> None:
    assert judged(tmp_path, {})[1].reason == "as fast as predicted, within the thresholds"
    assert "slower than predicted at 4 MiB (9.00 times)" in judged(tmp_path, {2**22: 9.0})[1].reason
    many = judged(tmp_path, {2**k: 1.5 for k in range(20, 28)})[1]
    assert (many.verdict, many.reason.endswith("32 MiB (1.50 times) and 2 more sizes")) == ("ok", True)
    small = judged(tmp_path, {2**k: 3.0 for k in range(12, 16)})[1]
    assert (small.verdict, "small sizes, 4 KiB to 32 KiB, take over 2 times" in small.reason) == ("ok", True)
    text = log(Layout(), [(size, 30 + size / 1e5, 30 + size / 1e5) for size in SIZES if size < 2**28])
    assert "plateau (from 256 MiB) not measured" in judged(tmp_path, {}, text)[1].reason


@pytest.mark.parametrize(
    ("topology", "device", "verdict"),
    [
        ("mi300x-x2", "NVIDIA H100 80GB HBM3", "unknown"),
        ("dgx-a100-x2", "NVIDIA H100 80GB HBM3", "unknown"),
        ("dgx-h100-x4", "NVIDIA H100 80GB HBM3", ""),
        ("dgx-h100-x4", "NVIDIA X1", ""),
        ("mi300x-x2", "AMD Instinct MI300X", ""),
    ],
)
def test_a_log_of_other_gpus_is_not_judged(tmp_path: Path, topology: str, device: str, verdict: str) -> None:
    file = tmp_path / "a.log"
    points = [(2**k, 9.0 + 2**k / 3e5, 9.0 + 2**k / 3e5) for k in range(20, 31)]
    file.write_text(log(Layout(), points, ranks=16).replace("NVIDIA X1", device), encoding="utf-8")
    _, (health,) = judged_runs(read_log(file).records, topology, "ideal")
    assert (f"the log is of {device}" in health.reason) == bool(verdict)
    assert ("is not known" in health.reason) == (device == "NVIDIA X1")
    assert not verdict or health.verdict == verdict


def test_amd_gpus_are_judged_by_rccl_and_not_by_nccl(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    points = [(2**k, 9.0 + 2**k / 3e5, 9.0 + 2**k / 3e5) for k in range(20, 31)]
    file.write_text(log(Layout(), points), encoding="utf-8")
    records = read_log(file).records
    for asked in (None, "rccl"):
        assert {one.library for one in judged_runs(records, "mi300x-x2", asked)[0]} == {"rccl"}
    with pytest.raises(InputError, match="--library nccl on topology mi300x-x2: its GPUs take rccl"):
        judged_runs(records, "mi300x-x2", "nccl")


def test_a_class_without_constants_is_unknown_with_what_to_measure(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text(log(Layout(), [(2**20, 40.0, 40.0)]), encoding="utf-8")

    def dark(sizes: Sequence[int]) -> list[Answer]:
        return [Answer(None, reason="no constants for X: measure three points") for _ in sizes]

    found, health = judge_log(read_log(file).records, dark, NO_LINE, topology="t", library="l")
    assert [(one.verdict, one.ratio, one.predicted_s) for one in found] == [("unknown", None, None)]
    assert (health.verdict, health.reason) == ("unknown", "no constants for X: measure three points")


@pytest.mark.parametrize(
    ("line", "collective", "algorithm", "words"),
    [
        (Line(400, 1, True), "all-reduce", "NVLS", "NVLS adds inside the switch"),
        (Line(400, 1, True), "all-reduce", "", "NVLS adds inside the switch"),
        (Line(400, 4, True), "all-reduce", "CollNetDirect", "SHARP adds inside the network"),
        (Line(400, 2, True), "all-reduce", "Tree", "a tree on two hosts moves S"),
        (Line(400, 2, False), "all-to-all", "SendRecv", "what stays inside a host does not cross its NICs"),
        (Line(400, 4, False), "all-gather", "Ring", "no link carries so much"),
    ],
)
def test_a_bandwidth_above_the_line_rate_is_explained(line: Line, collective: str, algorithm: str, words: str) -> None:
    assert words in line.explained(480.0, collective, algorithm)
    assert not line.explained(390.0, collective, algorithm)
    assert "too far" in line.explained(900.0, collective, algorithm)


def test_the_command_judges_a_log_and_its_exit_code_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.log"
    points = [(2**k, 2**k / 2.6e5 + 9, 2**k / 2.6e5 + 9) for k in range(20, 33)]
    file.write_text(log(Layout(), points), encoding="utf-8")
    command = ["validate", str(file), "--topology", "dgx-h100", "--out", str(tmp_path / "out"), "--library", "ideal"]
    assert outcome([*command, "--json"]) in (0, None)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in rows] == ["judged"] * 13 + ["health"]
    assert rows[-1]["verdict"] == "ok"
    assert "above the line rate of 450 GB/s: NVLS" in rows[-2]["note"]
    assert outcome(command) in (0, None)
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
    file.write_text(log(Layout(), [(size, 2 * out, 2 * into) for size, out, into in points]), encoding="utf-8")
    assert outcome(command) == 1
    captured = capsys.readouterr()
    assert "# SLOW: from 256 MiB on it takes" in captured.out
    assert "slow, from 256 MiB on it takes" in captured.err
    assert outcome([*command[:3], "star-8", *command[4:]]) in (1, 2)
    (page, *_) = sorted((tmp_path / "out").glob("*-report.html"))
    assert "predicted by ideal" in page.read_text(encoding="utf-8")
    (kept, *_) = sorted((tmp_path / "out").glob("*-verdict.jsonl"))
    assert {record.kind for record in read_records(kept)} == {"reported", "judged", "health"}


def test_nccl_is_asked_as_the_log_says_it_ran(tmp_path: Path) -> None:
    """Its version, one process or several, and the NICs of the GPUs that take part."""
    file = tmp_path / "a.log"
    sizes = (8, 2**30)

    def predicted(nodes: int, change: tuple[str, str] = ("", ""), **options: int) -> list[float]:
        text = log(Layout(), [(size, 50.0, 50.0) for size in sizes], ranks=nodes * 8)
        file.write_text(text.replace(*change) if change[0] else text, encoding="utf-8")
        found, _ = judged_runs(read_log(file).records, "a3-ultra-x2", None, **options)
        assert {one.library for one in found} == {"nccl"}
        return [one.time_s for one in found]

    several, one = predicted(1), predicted(1, ("nGpus 1", "nGpus 8"))
    assert one[0] > several[0]  # a process that starts eight kernels
    assert one[1] == pytest.approx(several[1], rel=0.05)
    whole = predicted(2)
    text = log(Layout(), [(size, 50.0, 50.0) for size in sizes], ranks=2).replace("n0 device  1", "n1 device  0")
    file.write_text(text, encoding="utf-8")
    found, _ = judged_runs(read_log(file).records, "a3-ultra-x2", None)
    alone = found[-1].time_s
    assert 2**30 / alone == pytest.approx(50e9, rel=0.2)  # one NIC, not eight
    assert alone > 4 * whole[1]


def test_element_types_of_one_run_are_judged_apart(tmp_path: Path) -> None:
    text = log(Layout(), [(2**k, 9.0 + 2**k / 2e5, 9.0 + 2**k / 2e5) for k in range(20, 31)])
    rows = [line for line in text.splitlines() if line.strip()[:1].isdigit()]
    more = "\n".join([*rows, *(row.replace("float", " half") for row in rows)])
    file = tmp_path / "a.log"
    file.write_text(text.replace("\n".join(rows), more), encoding="utf-8")
    found, health = judged_runs(read_log(file).records, "dgx-h100", None)
    assert len({one.run for one in health}) == 2
    assert [sum(one.run == each.run for one in found) for each in health] == [11, 11]


def test_a_class_of_machine_that_nccl_has_no_constants_of_ends_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commbench.libraries.nccl.predictor.values", dict)
    file = tmp_path / "a.log"
    points = [(2**k, 900.0 + 2**k / 1e4, 900.0 + 2**k / 1e4) for k in range(20, 30)]
    file.write_text(log(Layout(), points, ranks=16), encoding="utf-8")
    assert outcome(["validate", str(file), "-t", "p5-x2", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "# UNKNOWN: no constants for h100-sxm5-80gb over nvswitch and efa2" in " ".join(captured.out.split())
    assert "measure two or three points" in captured.err


def test_a_topology_without_a_log_or_a_smaller_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["validate", "--topology", "dgx-h100"]) == 2
    assert "give the log of nccl-tests" in capsys.readouterr().err
    assert outcome(["validate", "x.jsonl", "--library", "ideal"]) == 2
    assert "--library ideal has no meaning without --topology" in capsys.readouterr().err
    file = tmp_path / "a.log"
    file.write_text(log(Layout(), [(2**20, 40.0, 40.0)], ranks=16), encoding="utf-8")
    assert outcome(["validate", str(file), "--topology", "dgx-h100"]) == 2
    assert "16 ranks, but topology dgx-h100 has 8" in capsys.readouterr().err


OLD = """\
# nThread 1 nGpus 8 minBytes 1 maxBytes 8589934592 step: 2(factor) warmup iters: 5 iters: 20 validation: 0
#
# Using devices
{devices}
#
#                                                     out-of-place                       in-place
#       size         count    type   redop     time   algbw   busbw  error     time   algbw   busbw  error
#        (B)    (elements)                     (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
hostname:3442:3442 [0] NCCL INFO Launch mode Parallel
           0             0   float     sum    35.20    0.00    0.00    N/A    34.05    0.00    0.00    N/A
       32768          8192   float     sum    36.65    0.89    1.56    N/A    35.73    0.92    1.60    N/A
   536870912     134217728   float     sum   4200.3  127.82  223.68    N/A   4184.0  128.32  224.55    N/A
  1073741824     268435456   float     sum   8159.5  131.59  230.29    N/A   8176.5  131.32  229.81    N/A
  8589934592    2147483648   float     sum    63896  134.44  235.26    N/A    63959  134.30  235.03    N/A
# Out of bounds values : 0 OK
""".format(
    devices="\n".join(f"#   Rank  {r} Pid 112424 on localhost device  {r} [0x00] A100-SXM4-40GB" for r in range(8))
)
NEW = """\
2024-08-20T16:22:43.831-07:00 [1,0]<stdout>:#                                    out-of-place              in-place
2024-08-20T16:22:43.831-07:00 [1,0]<stdout>:#  size  count  type  redop  root  time  algbw  busbw #wrong  time  algbw  busbw #wrong
2024-08-20T16:22:43.831-07:00 [1,0]<stdout>:#   (B)    (elements)    (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
2024-08-20T16:22:43.832-07:00 [1,0]<stdout>:           0             0     float     sum      -1     0.13    0.00    0.00      0     0.12    0.00    0.00      0
2024-08-20T16:22:43.832-07:00 [1,8]<stdout>:worker-1:22:94 [0] NCCL INFO NET/OFI Setting FI_OPT_CUDA_API_PERMITTED to false
2024-08-20T16:22:43.832-07:00 [1,0]<stdout>:   536870912     134217728     float     sum      -1   2558.6  209.83  393.42      0   2560.8  209.65  393.10      0
2024-08-20T16:22:43.832-07:00 [1,0]<stdout>:  1073741824     268435456     float     sum      -1   4553.6  235.80  442.13      0   4553.0  235.83  442.19      0
2024-08-20T16:22:43.832-07:00 [1,0]<stdout>:  2147483648     536870912     float     sum      -1   9062.5  236.96  444.31      0   9060.4  237.02  444.41      0
2024-08-20T16:22:43.832-07:00 [1,0]<stdout>:# Out of bounds values : 0 OK
"""  # noqa: E501  # as it was printed


@pytest.mark.parametrize(
    ("text", "topology", "title"),
    [
        (OLD, "dgx-a100", "all-reduce, 8 ranks on dgx-a100, library nccl"),
        (NEW, "p5-x2", "all-reduce, 16 ranks on p5-x2, library nccl"),
        (f"{NEW}".replace("2024-08", "> 2024-08").replace("#", " "), "p5-x2", "16 ranks on p5-x2, library nccl"),
    ],
    ids=["2021, one process", "2024, MPI and Kubernetes", "quoted, without hashes"],
)
def test_excerpts_of_public_logs_are_judged_as_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, topology: str, title: str
) -> None:
    """From microsoft/superbenchmark and aws-ia/terraform-aws-eks-blueprints, cut to a few sizes; both are healthy."""
    file = tmp_path / "cut.log"
    file.write_text(text, encoding="utf-8")
    assert outcome(["validate", str(file), "--topology", topology, "--out", str(tmp_path)]) in (0, None)
    said = capsys.readouterr().out
    assert title in said
    assert len([line for line in said.splitlines() if " ok " in line]) >= 3
