# SPDX-License-Identifier: Apache-2.0
"""Logs of nccl-tests and rccl-tests: every layout is read right, and what is wrong with a log is said with its line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commbench.errors import CommbenchError, InputError
from commbench.results.journal import Journal, read_records
from commbench.results.log_tables import Log
from commbench.results.logs import is_log, read_log
from tests.results.log_text import BODY, Layout, log

MIB = 2**20
FLAT = {"time": 9.0, "alg_bw": 0.0, "bus_bw": 0.0}
POINTS = ((MIB, 40.0, 39.0), (2 * MIB, 55.0, 54.25), (4 * MIB, 80.0, 79.0))
SHORT = ("size", "count", "type", "redop")
PER_ITERATION = (*BODY, "i_min", "i_max", "i_p99", "i_cv%")
LAYOUTS = {
    "today": Layout(),
    "no root": Layout(lead=SHORT),
    "no redop": Layout(lead=("size", "count", "type")),
    "blank redop": Layout(lead=SHORT, skipped=("redop",)),
    "blank redop and root": Layout(skipped=("redop", "root")),
    "N/A": Layout(wrong="N/A"),
    "error": Layout(body=("time", "algbw", "busbw", "error"), wrong="2e-07"),
    "per iteration": Layout(body=PER_ITERATION),
    "timestamp": Layout(trailer="2026-05-01 10:11:12"),
    "rccl appends": Layout(trailer="RING SIMPLE 32"),
    "rccl appends under a header": Layout(trailer="TREE LL128 16", trailer_named=True),
    "open mpi": Layout(tag="[1,0]<stdout>:"),
    "slurm": Layout(tag=" 0: "),
    "kubernetes": Layout(tag="2026-05-01T10:11:12.123456789Z [1,0]<stdout>:"),
    "ray": Layout(tag="(worker1, rank=1, pid=2769, ip=10.100.10.12) [1,0]<stdout>:"),
    "quoted": Layout(tag="> "),
    "in-place alone": Layout(placements=("in-place",)),
    "info between": Layout(noise="node0:21:75 [3] NCCL INFO 24 coll channels, 16 nvls channels"),
    "carriage returns": Layout(noise="\r"),
}


def read(tmp_path: Path, text: str, **options: Any) -> Log:
    file = tmp_path / "a.log"
    file.write_text(text, encoding="utf-8", newline="")
    return read_log(file, **options)


@pytest.mark.parametrize("collective", ["all_reduce", "all_gather", "broadcast", "alltoall"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_figures(tmp_path: Path, layout: Layout, collective: str) -> None:
    found = read(tmp_path, log(layout, POINTS, collective))
    places = [place == "in-place" for place in layout.placements]
    wanted = [(size, in_place, time) for size, *times in POINTS for in_place, time in zip(places, times, strict=False)]
    assert [(r.size_bytes, r.in_place, round(r.time_s * 1e6, 6)) for r in found.records] == wanted
    first = found.records[0]
    assert (first.ranks, first.hosts, first.device, first.dtype) == (8, 1, "NVIDIA X1", "float32")
    assert (first.library, first.version) == ("NCCL", "2.21.5")
    assert first.num_elements == MIB // 4
    rooted = collective == "broadcast" and "root" in layout.lead and "root" not in layout.skipped
    assert first.root == (2 if rooted else None)
    assert {r.wrong for r in found.records} == {0 if layout.wrong == "0" else None}
    assert not [r.problem for r in found.records if r.problem]
    assert found.notes == ()


def test_what_rccl_appends_is_kept(tmp_path: Path) -> None:
    for name in ("rccl appends", "rccl appends under a header"):
        (*_, last) = read(tmp_path, log(LAYOUTS[name], POINTS)).records
        assert (last.algorithm, last.protocol, last.channels) in (("RING", "SIMPLE", 32), ("TREE", "LL128", 16))


def test_a_row_of_the_in_place_figures_alone(tmp_path: Path) -> None:
    text = log(Layout(), POINTS)
    line = next(line for line in text.splitlines() if line.strip().startswith(str(MIB)))
    fields = line.split()
    alone = "  ".join(fields[:5]) + " " * 34 + "  ".join(fields[9:])
    found = read(tmp_path, text.replace(line, alone))
    assert [r.in_place for r in found.records[:2]] == [True, False]
    assert found.records[0].time_s == pytest.approx(39e-6)


def test_zero_bytes_and_sizes_that_round_to_the_same_are_kept(tmp_path: Path) -> None:
    found = read(tmp_path, log(Layout(), ((0, 1.3, 1.2), (0, 1.35, 1.3), (128, 9.0, 9.1)), "all_gather"))
    assert [r.size_bytes for r in found.records] == [0, 0, 0, 0, 128, 128]
    assert found.records[0].busbw_GBps is None


def test_the_collective_is_asked_for_where_the_log_does_not_say(tmp_path: Path) -> None:
    text = log(Layout(), POINTS, "all_gather", named=False)
    with pytest.raises(InputError, match=r"line \d+: the log does not say which collective .* --collective NAME"):
        read(tmp_path, text)
    assert read(tmp_path, text, collective="allgather").records[0].collective == "all-gather"
    assert read(tmp_path, "+ srun ./build/all_gather_perf -b 8\n" + text).records[0].collective == "all-gather"
    with pytest.raises(InputError, match="--collective all-gather, but the log says all-reduce"):
        read(tmp_path, log(Layout(), POINTS), collective="all-gather")


def test_another_collective_or_number_of_ranks_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    text = log(Layout(), POINTS, named=False)
    with pytest.raises(InputError, match=r"busbw / algbw is 1.75, but all-gather on 8 ranks .* has 0.875"):
        read(tmp_path, text, collective="all-gather")
    with pytest.raises(InputError, match=r"all-reduce on 8 ranks has that: give --ranks 8"):
        read(tmp_path, text, collective="all-reduce", ranks=16)


@pytest.mark.parametrize("ranks", [2, 3, 8, 64, 72])
def test_ranks_follow_from_the_bandwidths_of_a_bare_table(tmp_path: Path, ranks: int) -> None:
    points = tuple((2**k, 2**k / 4e5, 2**k / 4.1e5) for k in range(20, 34))
    found = read(tmp_path, log(Layout(), points, ranks=ranks, devices=False))
    assert found.records[0].ranks == ranks
    assert any(f"{ranks} ranks, as busbw / algbw says" in note for note in found.notes)
    with pytest.raises(InputError, match="how many ranks there are; give --ranks N"):
        read(tmp_path, log(Layout(), points, "broadcast", devices=False))


def test_groups_of_a_split_world_are_the_world_size(tmp_path: Path) -> None:
    text = log(Layout(), POINTS, ranks=4).replace("#  Rank", "#  Rank").splitlines()
    devices = [f"#  Rank {r:2} Group {r // 4:2} Pid 7 on node{r} device 0 [0x1b] X" for r in range(4, 8)]
    at = next(i for i, line in enumerate(text) if "Rank  3" in line)
    assert read(tmp_path, "\n".join([*text[: at + 1], *devices, *text[at + 1 :]])).records[0].ranks == 4


def test_a_bandwidth_that_its_time_does_not_give_is_marked(tmp_path: Path) -> None:
    text = log(Layout(), POINTS)
    wrong_time = read(tmp_path, text.replace("55.00", "65.00"))
    odd = [r for r in wrong_time.records if r.problem]
    assert [(r.size_bytes, r.in_place) for r in odd] == [(2 * MIB, False)]
    assert odd[0].problem == "algbw 38.13 GB/s does not follow from its time: 2097152 B / 65.00 us is 32.26"
    assert f"line {odd[0].line}: algbw 38.13" in wrong_time.notes[0]
    (odd_busbw,) = [r for r in read(tmp_path, text.replace("66.73", "77.73")).records if r.problem]
    assert odd_busbw.problem == "busbw 77.73 GB/s does not follow from its time: it would be 66.73"


def test_rows_of_two_runs_in_one_table_are_refused_with_the_line(tmp_path: Path) -> None:
    lines = log(Layout(), POINTS).splitlines()
    rows = [line for line in lines if line.strip()[:1].isdigit()]
    at = lines.index(rows[-1])
    mixed = "\n".join([*lines[: at + 1], rows[0], *lines[at + 1 :]])
    with pytest.raises(InputError, match=rf"line {at + 2}: size {MIB} stands behind {4 * MIB}: rows of two runs"):
        read(tmp_path, mixed)
    doubled = "\n".join(line for line in lines for _ in range(2 if line in rows else 1))
    with pytest.raises(InputError, match=f"size {MIB} stands behind {MIB}: rows of two runs"):
        read(tmp_path, doubled)


def test_several_whole_runs_in_a_file_are_runs_of_their_own(tmp_path: Path) -> None:
    both = log(Layout(), POINTS) + log(Layout(), POINTS, "all_gather", 16)
    found = read(tmp_path, both)
    assert {(r.run[-2:], r.collective, r.ranks) for r in found.records} == {
        ("#1", "all-reduce", 8), ("#2", "all-gather", 16)
    }  # fmt: skip
    with pytest.raises(InputError, match=r"line \d+: one of 2 tables in this file, .*: mixed runs"):
        read(tmp_path, log(Layout(), POINTS, named=False) * 2, collective="all-reduce")


def test_a_program_named_between_rows_starts_no_second_table(tmp_path: Path) -> None:
    lines = log(Layout(), POINTS, named=False).splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith(str(2 * MIB)))
    found = read(tmp_path, "\n".join([*lines[:at], "node0: all_reduce_perf is late", *lines[at:]]))
    assert len(found.records) == 6
    assert {r.collective for r in found.records} == {"all-reduce"}


def test_rows_behind_the_last_line_of_a_table_are_named(tmp_path: Path) -> None:
    text = log(Layout(), POINTS)
    row = next(line for line in text.splitlines() if line.strip().startswith(str(MIB)))
    assert any("a row behind the last line of its table; left out" in note for note in read(tmp_path, text + row).notes)
    late = read(tmp_path, f"{text}NCCL version 2.20.3+cuda12.3\n{row}\n")
    assert any("a row before the header of its table; left out" in note for note in late.notes)


def test_control_characters_of_a_log_come_into_no_record(tmp_path: Path) -> None:
    found = read(tmp_path, log(Layout(), POINTS).replace("NVIDIA X1", "NVIDIA\x07 X1"))
    Journal(tmp_path / "r.jsonl").extend(found.records)
    assert read_records(tmp_path / "r.jsonl")[0] == found.records[0]
    data = nccl_json()
    for device in data["config"]["devices"]:
        device["device_info"] = "X\ud800\u0000"
    found = read(tmp_path, json.dumps(data))
    Journal(tmp_path / "s.jsonl").extend(found.records)
    assert read_records(tmp_path / "s.jsonl")[0] == found.records[0]


def test_cycles_of_one_run_are_no_second_run(tmp_path: Path) -> None:
    lines = log(Layout(), POINTS).splitlines()
    rows = [line for line in lines if line.strip()[:1].isdigit()]
    at = lines.index(rows[-1]) + 1
    found = read(tmp_path, "\n".join([*lines[:at], "# Testing 2 cycle.", *rows, *lines[at:]]))
    assert len(found.records) == 12


def test_a_cut_log_keeps_its_whole_rows_and_says_so(tmp_path: Path) -> None:
    text = log(Layout(), POINTS)
    line = next(line for line in text.splitlines() if line.strip().startswith(str(4 * MIB)))
    found = read(tmp_path, text[: text.index(line) + len(line) - 12])
    assert [r.size_bytes for r in found.records] == [MIB, MIB, 2 * MIB, 2 * MIB]
    assert any("last lines" in note and "cut" in note for note in found.notes)
    assert any(re.search(r"line \d+: left out, \d figures where the header has 8: the line was cut", n)
               for n in found.notes)  # fmt: skip


def test_a_line_that_another_process_wrote_into_is_left_out_and_named(tmp_path: Path) -> None:
    text = log(Layout(), POINTS).replace("38.13", "38.node1:9:9 [0] NCCL INFO x13", 1)
    found = read(tmp_path, text)
    assert {r.size_bytes for r in found.records} == {MIB, 4 * MIB}
    assert any("left out, algbw '38.node1:9:9' is no number" in note for note in found.notes)


def test_a_footer_that_its_rows_do_not_give_says_that_rows_are_missing(tmp_path: Path) -> None:
    text = log(Layout(), POINTS).replace("# Out of", "# Avg bus bandwidth    : 40.25\n# Out of")
    assert any("average of 40.25 GB/s, its rows 68.66: some are missing" in note for note in read(tmp_path, text).notes)


def test_wrong_values_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, log(Layout(wrong="1e+06"), POINTS))
    assert found.records[0].wrong == 10**6
    assert any("wrong values in 6 of 6 figures" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "no log of nccl-tests or rccl-tests: no header"),
        ("", "no log of nccl-tests"),
        ("# size count type redop root time algbw busbw #wrong\n", "no row was measured"),
        (log(Layout(), POINTS).replace("time", "cputime"), r"line \d+: these are launch times of the CPU \(-C\)"),
        (log(Layout(), POINTS).replace("(GB/s)", "(Gb/s)"), r"line \d+: a column is in \(Gb/s\)"),
        (log(Layout(), POINTS).replace("#wrong", "#bad"), r"line \d+: the header's columns are not those"),
        (log(Layout(), POINTS).replace("all_reduce_perf", "hypercube_perf"), "collective 'hypercube' is unknown"),
    ],
)
def test_what_is_no_such_log_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, text)


def nccl_json(**changes: Any) -> dict[str, Any]:
    """As nccl-tests -J writes it: texts where others have truth values and whole numbers."""

    def part(time: float, size: int) -> dict[str, Any]:
        return {"time": time, "alg_bw": round(size / time / 1e3, 6), "bus_bw": round(size / time / 1e3 * 1.75, 6),
                "nwrong": None}  # fmt: skip

    results = [
        {"size": size, "count": size // 4, "type": "float", "redop": "sum", "root": "    -1",
         "out_of_place": part(out, size), "in_place": part(into, size), "actual_iterations": 20}
        for size, out, into in POINTS
    ]  # fmt: skip
    devices = [{"rank": r, "group": 0, "pid": 7, "hostname": "n0", "device": r, "device_info": "X1"} for r in range(8)]
    data = {"version": 3, "start_time": "x", "args": ["./build/all_reduce_perf", "-b", "8"], "env": ["A=B"],
            "nccl_version": "2.27.5", "config": {"nthreads": 1, "ngpus": 1, "devices": devices}, "results": results,
            "out_of_bounds": {"count": 0, "okay": "true"},
            "average_bus_bandwidth": {"bandwidth": 68.66, "okay": "unchecked"}}  # fmt: skip
    return data | changes


def test_the_json_of_nccl_tests_gives_the_same_records_as_its_text(tmp_path: Path) -> None:
    from_text = read(tmp_path, log(Layout(), POINTS)).records
    from_json = read(tmp_path, json.dumps(nccl_json())).records
    for one, two in zip(from_text, from_json, strict=True):
        same = {"run": "", "line": 0, "wrong": None, "version": "", "device": ""}
        assert replace(one, **same) == replace(two, **same)
    assert from_json[0].version == "2.27.5"
    huge = nccl_json(average_bus_bandwidth={"bandwidth": 10**400})
    assert len(read(tmp_path, json.dumps(huge)).records) == len(from_json)


def test_json_of_one_process_counts_all_its_devices(tmp_path: Path) -> None:
    data = nccl_json()
    data["config"] |= {"ngpus": 8, "devices": data["config"]["devices"][:1]}
    assert read(tmp_path, json.dumps(data)).records[0].ranks == 8


def test_json_that_was_cut_keeps_its_whole_rows(tmp_path: Path) -> None:
    text = json.dumps(nccl_json())
    found = read(tmp_path, text[: text.index(str(4 * MIB)) + 40])
    assert [r.size_bytes for r in found.records] == [MIB, MIB, 2 * MIB, 2 * MIB]
    assert any("the file was cut" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"results": [{"size": 8, "count": "2"}]}, r"results\[0\]: size and count must be whole"),
        ({"results": [{"size": 8, "count": 2, "out_of_place": {"cpu_time": 1.0}}]}, "launch times of the CPU"),
        ({"results": [{"size": 8, "count": 2, "in_place": {"time": "nan"}}]}, "in_place.time 'nan' is no number"),
        ({"results": {}}, "a JSON file without results"),
        ({"args": [], "results": [{"size": 8, "count": 2, "out_of_place": FLAT}]}, "give --collective NAME"),
    ],
)
def test_json_that_is_wrong_is_refused_with_the_place(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, json.dumps(nccl_json(**changes)))


def test_records_of_a_log_survive_a_journal(tmp_path: Path) -> None:
    records = read(tmp_path, log(LAYOUTS["rccl appends"], POINTS)).records
    Journal(tmp_path / "r.jsonl").extend(records)
    assert tuple(read_records(tmp_path / "r.jsonl")) == records
    assert is_log(tmp_path / "a.log")
    assert not is_log(tmp_path / "r.jsonl")


def rccl_rows(separator: str = ",\n", **changes: Any) -> str:
    """As rccl-tests writes them: an object for each placement."""
    rows = [
        {"numCycle": 0, "name": "AllReduce", "nodes": 2, "ranks": 8, "ranksPerNode": 4, "gpusPerRank": 1, "size": size,
         "type": "float", "redop": "sum", "inPlace": place, "time": time, "algBw": round(size / time / 1e3, 6),
         "busBw": round(size / time / 1e3 * 1.75, 6), "wrong": "0"} | changes
        for size, *times in POINTS for place, time in enumerate(times)
    ]  # fmt: skip
    return f"[\n{separator.join(map(json.dumps, rows))}\n]\n"


@pytest.mark.parametrize("separator", [",\n", "\n", ""])  # before its pull request 140 there was none
def test_the_rows_of_rccl_tests_give_the_same_figures(tmp_path: Path, separator: str) -> None:
    from_text = read(tmp_path, log(Layout(), POINTS)).records
    found = read(tmp_path, rccl_rows(separator))
    assert found.notes == ()
    assert {(r.library, r.ranks, r.hosts) for r in found.records} == {("RCCL", 8, 2)}
    for one, two in zip(from_text, found.records, strict=True):
        same = {"run": "", "line": 0, "version": "", "library": "", "device": "", "hosts": 1, "gpus_per_process": 1}
        assert replace(one, **same) == replace(two, **same)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ranks": "8"}, "row 1: ranks '8' is no number of ranks"),
        ({"size": 1.5}, "row 1: size '1.5' is no whole number"),
        ({"time": "inf"}, "row 1: time 'inf' is no number"),
        ({"wrong": "x"}, "row 1: wrong 'x' is no number"),
        ({"name": "AllThings"}, "collective 'AllThings' is unknown"),
        ({"ranks": 16}, "another collective, or rows of another run"),
    ],
)
def test_rows_of_rccl_tests_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read(tmp_path, rccl_rows(**changes))


SIZES = st.lists(st.integers(6, 33), min_size=1, max_size=8, unique=True).map(sorted)
COLLECTIVES = st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "alltoall", "broadcast", "reduce"])


@given(st.sampled_from(list(LAYOUTS.values())), SIZES, COLLECTIVES, st.integers(2, 64), st.floats(2, 1e6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_printed_is_read_back(
    tmp_path: Path, layout: Layout, exponents: list[int], collective: str, ranks: int, rate: float
) -> None:
    points = [(2**k * ranks, 5 + 2**k * ranks / rate, 6 + 2**k * ranks / rate) for k in exponents]
    found = read(tmp_path, log(layout, points, collective, ranks))
    wanted = [t for _, *times in points for t in times[2 - len(layout.placements) :][: len(layout.placements)]]
    if len(layout.placements) == 1:
        wanted = [out for _, out, _ in points]
    assert [r.time_s * 1e6 for r in found.records] == pytest.approx(wanted, abs=0.0051)
    assert not [r.problem for r in found.records if r.problem]


@given(st.sampled_from(list(LAYOUTS.values())), st.integers(0, 10**6), st.text(max_size=3), st.integers(0, 40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_log_is_refused_or_marked_and_never_read_wrong(
    tmp_path: Path, layout: Layout, at: int, put_in: str, taken: int
) -> None:
    """One place of it is overwritten. Figures of 1 GB/s and more have enough digits to notice whatever happened."""
    text = log(layout, POINTS)
    at %= len(text)
    whole = {(r.size_bytes, r.in_place, round(r.time_s * 1e6, 2)) for r in read(tmp_path, text).records}
    try:
        found = read(tmp_path, text[:at] + put_in + text[at + taken :], collective="all-reduce")
    except CommbenchError:
        return
    for record in found.records:
        json.loads(record.to_json())
        if not record.problem:
            near = [time for size, _, time in whole if size == record.size_bytes]
            assert any(record.time_s * 1e6 == pytest.approx(time, rel=1e-3) for time in near)


@given(st.binary(max_size=400) | st.text(alphabet='#0123456789 .\n[]<>:size count time algbw busbw{}",', max_size=400))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_at_all_is_read_or_refused(tmp_path: Path, data: bytes | str) -> None:
    file = tmp_path / "x.log"
    head = "# size count type redop root time algbw busbw #wrong\n"
    for before in ("", head):
        file.write_bytes(data if isinstance(data, bytes) else (before + data).encode())
        try:
            read_log(file, "all-reduce", 4)
        except CommbenchError:
            continue
