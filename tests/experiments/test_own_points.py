# SPDX-License-Identifier: Apache-2.0
"""A library's model adapted to one to three points of the user's own machine."""

import json
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.experiments.calibration import calibrate_library
from commbench.experiments.own_points import parse_point, read_own
from commbench.experiments.simulated import CollectiveOptions
from commbench.results.log_write import log_foot, log_head, log_row
from tests.cli.commands import commbench

H100 = CollectiveOptions(collective="all-reduce", topology="dgx-h100-x2", library="nccl", nccl_version="2.21")
SIM = ["sim", "all-reduce", "-t", "dgx-h100-x2", "--library", "nccl", "--nccl-version", "2.21", "--json"]


def simulated(folder: Path, size: str, *more: str) -> dict[str, object]:
    done = commbench(*SIM, "-b", size, "-e", size, *more, folder=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_points_are_sizes_with_times_or_bus_bandwidths() -> None:
    small, large = (parse_point(text, "all-reduce", 16) for text in ("8:13us", "1G:390 GB/s"))
    assert (small.size_bytes, small.time_s) == (8, 13e-6)
    assert large.time_s == pytest.approx(2**30 * 2 * 15 / 16 / 390e9)
    for wrong in ("8", "8:", "x:13us", "8:fast", "0:13us", "8:0us", ":"):
        with pytest.raises(InputError, match=r"--point '.*: give 8:13us, 8M:80us or 1G:391GB/s"):
            parse_point(wrong, "all-reduce", 16)


def test_predictions_go_through_the_points_and_say_so(tmp_path: Path) -> None:
    """A machine whose floor is twice and whose wire is a tenth slower than its class."""
    first = {size: float(simulated(tmp_path, size)["time_s"]) for size in ("8", "8M", "1G")}  # type: ignore[arg-type]
    wanted = {"8": 2.0 * first["8"], "1G": 1.1 * first["1G"]}
    points = [f"{size}:{1e6 * time:.3f}us" for size, time in wanted.items()]
    found = calibrate_library(H100, points, None, tmp_path / "o.yaml")
    latency, wire, knee = (posterior for _, _, posterior, _ in found)
    assert (latency, wire) == (pytest.approx(2.0, rel=0.05), pytest.approx(1.1, rel=0.05))
    assert knee == pytest.approx(1, abs=0.01)  # two points say nothing of it
    for size, time in wanted.items():
        record = simulated(tmp_path, size, "--constants", "o.yaml")
        assert record["time_s"] == pytest.approx(time, rel=0.03)
        assert record["library_version"] == "2.21, calibrated on 2 points"
    assert first["8M"] < float(simulated(tmp_path, "8M", "--constants", "o.yaml")["time_s"])  # type: ignore[arg-type]


def test_a_log_gives_its_smallest_middle_and_largest_size(tmp_path: Path) -> None:
    sizes = [8, 2**13, 2**22, 2**23, 2**25, 2**30]
    times = {size: 30e-6 + size / 150e9 for size in sizes}
    rows = [log_row("all-reduce", 16, size, size // 4, "float32", (times[size], times[size])) for size in sizes]
    members = [(f"h{rank // 8}", rank % 8, "H100") for rank in range(16)]
    text = "\n".join([log_head("all-reduce", members, sizes, []), *rows, log_foot("all-reduce", [1.0])])
    (tmp_path / "mine.log").write_text(text + "\n", encoding="utf-8")
    calibrate_library(H100, [], tmp_path / "mine.log", tmp_path / "o.yaml")
    own = read_own(tmp_path / "o.yaml", "nccl")
    assert own.points == 3
    assert all(f"all-reduce of {size}" in (tmp_path / "o.yaml").read_text() for size in ("8 B", "8 MiB", "1 GiB"))
    for size in (8, 2**23, 2**30):
        record = simulated(tmp_path, str(size), "--constants", "o.yaml")
        assert record["time_s"] == pytest.approx(times[size], rel=0.05)
    fewer = CollectiveOptions(collective="all-reduce", topology="dgx-h100-x2", library="nccl", ranks=8)
    with pytest.raises(InputError, match=r"mine.log: 16 ranks, but 8 take part; give --ranks 16"):
        calibrate_library(fewer, [], tmp_path / "mine.log", tmp_path / "o.yaml")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "give one log of nccl-tests, or --point SIZE:TIME once to three times"),
        (["8:1us", "16:1us", "32:1us", "64:1us"], "4 points: give one to 3, such as 8:13us"),
        (["8:1us", "8:2us"], "two points of one size: give each size once"),
    ],
)
def test_points_that_say_nothing_are_refused(points: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        calibrate_library(H100, points, None, tmp_path / "o.yaml")
    assert not (tmp_path / "o.yaml").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("library: nccl", "library: rccl"), "library 'rccl' is not nccl, which was asked for"),
        (("points: 2", "points: 4"), "line 4: points 4 must be 1 to 3"),
        (("points: 2", "point: 2"), "missing or unknown: point, points"),
        (("knee_bytes: 8388608", "knee_bytes: 0"), "line 8: knee_bytes 0 must be a number from 1 to"),
        (("wire: {value: ", "wire: {value: -"), r"line 6: wire.value -.* must be a number from 0.001 to 1000"),
    ],
)
def test_a_file_of_constants_is_checked(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    calibrate_library(H100, ["8:30us", "1G:300GB/s"], None, tmp_path / "o.yaml")
    text = (tmp_path / "o.yaml").read_text()
    assert change[0] in text
    (tmp_path / "o.yaml").write_text(text.replace(*change))
    with pytest.raises(InputError, match=said):
        read_own(tmp_path / "o.yaml", "nccl")
