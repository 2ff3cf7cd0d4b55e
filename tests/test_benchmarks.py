# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks``: the whole path once, small; what it measures, derives and writes. No speed is judged."""

import json
import random
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import benchmarks.__main__ as bench
from benchmarks import process
from benchmarks.against_simgrid import STYLES, Case, SimGrid, races, simgrid
from benchmarks.commands import commbench, run_checked
from benchmarks.page import render
from benchmarks.records import ColdStart, Engines, Observation, Race, SharedLink, Skipped, growth
from benchmarks.shared_link import shared_link
from benchmarks.tables import effort_table, link_table, speed_table, text
from benchmarks.verdicts import fell_short, verdicts
from commbench.errors import InputError, RunError
from tests.bench_samples import MIB, race

# 2 (N - 1) steps of 64 MiB / N bytes at 12.5e9 bytes/s, and 4 us of latency as soon as the ring crosses a leaf. At 16
# ranks each step takes that: 30 x (335.544 32 + 4) us.
SIXTEEN_PS = 30 * (335_544_320 + 4_000_000)
SIXTY_FOUR_PS = 11_073_646_080


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> SimGrid:
    found = simgrid(tmp_path_factory.mktemp("simgrid"))
    if isinstance(found, Skipped):
        pytest.skip(f"needs g++ and SimGrid's headers: {found.why}")
    return found


def both_engines(compiled_time_s: float = 0.01) -> Engines:
    return Engines(
        ranks=16,
        transfers=480,
        reference_s=(0.5, 0.4),
        compiled_s=(0.01, 0.02),
        floor_s=(0.1, 0.2),
        reference_time_s=0.01,
        compiled_time_s=compiled_time_s,
    )


EVERYTHING: tuple[Observation, ...] = (
    ColdStart(command="python -c 'import numpy'", walls_s=(0.5, 0.25, 0.25), cpus_s=(0.5, 0.0625, 0.125)),
    ColdStart(command="commbench --help", walls_s=(0.5, 0.25, 0.125), cpus_s=(0.5, 0.25, 0.25)),
    race(16),
    race(64, ours_s=1.0, peer_s=32.0),
    both_engines(),
    SharedLink(engine="compiled", flows=1, num_shares=2, walls_s=(1e-4,)),
    SharedLink(engine="reference", flows=1, num_shares=2, walls_s=(1e-3,)),
    SharedLink(engine="compiled", flows=4, num_shares=5, walls_s=(16e-4,)),
)
ENVIRONMENT = {
    "started_at": "2030-01-02T03:04:05+00:00",
    "cpu_model": "<b>&",
    "cores_usable": 2,
    "load_1min": 0.25,
    "simgrid": "1.2.3",
    "memory_bytes": 2**30,
}


# Measuring a process -------------------------------------------------------------------------------------------------


def test_a_process_is_measured_by_its_own_memory_and_not_its_parents() -> None:
    mine = bytearray(300 * MIB)
    small = process.run([sys.executable, "-S", "-c", "print('out')"])
    big = process.run([sys.executable, "-S", "-c", "held = bytearray(200 * 2**20)"])
    assert len(mine) == 300 * MIB
    assert small.peak_bytes < 100 * MIB
    assert 200 * MIB <= big.peak_bytes < 300 * MIB
    assert (small.stdout, small.stderr, small.status) == ("out\n", "", 0)


def test_wall_time_covers_the_whole_process() -> None:
    slept = process.run(["sleep", "0.3"])
    assert slept.wall_s >= 0.3
    assert slept.cpu_s < slept.wall_s


@pytest.mark.parametrize(("status", "error"), [(2, InputError), (1, RunError), (3, RunError)])
def test_a_command_that_fails_is_an_error_with_its_words(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"exit code {status}: the reason"):
        run_checked(["sh", "-c", f"echo the reason >&2; exit {status}"])


# Figures -------------------------------------------------------------------------------------------------------------


def test_ratio_is_of_the_best_walls() -> None:
    assert race(ours_s=0.5, peer_s=2.0).ratio == 4.0
    assert race(ours_s=0.5, peer_s=2.0).cpu_ratio == 4.0
    assert (race(peer_s=None).ratio, race(peer_s=None).cpu_ratio) == (None, None)
    assert race(predicted_s=0.0101).difference == pytest.approx(0.01, rel=1e-9)


def test_growth_is_the_local_exponent() -> None:
    assert growth([1, 2, 8], [1.0, 4.0, 4.0]) == [None, 2.0, 0.0]
    assert growth([], []) == []


def test_predictions_that_differ_fall_short() -> None:
    assert fell_short(EVERYTHING) == []
    assert fell_short([race(predicted_s=0.01 * 1.0009)]) == []
    assert len(fell_short([race(predicted_s=0.01 * 1.0011), race(predicted_s=0.01 * 0.9989), race(peer_s=None)])) == 2
    assert len(fell_short([both_engines(compiled_time_s=0.01 + 1e-12)])) == 1


def test_verdicts_name_the_largest_race_and_what_was_left_out() -> None:
    skipped = Skipped(what="SimGrid", why="no C++ compiler")
    found = {v.word: v for v in verdicts([*EVERYTHING, skipped])}
    assert set(found) == {"32.00 times as fast as SimGrid", "Same predictions", "40 times as fast", "Left out"}
    assert "64 ranks, in order: 8,064 transfers" in found["32.00 times as fast as SimGrid"].sentence
    assert "no C++ compiler" in found["Left out"].sentence
    slow, where, _ = verdicts([race(ours_s=0.5, peer_s=0.25)])
    assert (slow.tone, slow.word) == ("bad", "2.00 times slower than SimGrid")
    assert where.sentence.startswith("16 ranks, in order. Start and end of a commbench process take 375")


def test_tables_on_the_terminal_are_aligned() -> None:
    races_ = [o for o in EVERYTHING if isinstance(o, Race)]
    lines = text(speed_table(races_)).splitlines()
    assert lines[0] == "Wall-clock time of the whole process"
    assert len(lines) == 1 + 2 + len(races_)
    assert lines[3].split()[:8] == ["16", "in", "order", "480", "500.0", "ms", "2.000", "s"]
    assert "4.00 ×" in lines[3]
    assert {len(line) for line in lines[2:]} == {len(lines[2])}
    assert "none" in text(speed_table([race(peer_s=None)]))
    links = [o for o in EVERYTHING if isinstance(o, SharedLink)]
    assert [cell.text for cell in link_table(links).rows[1]] == ["4", "5", "1.600", "2.00", "none", "none"]
    assert [cell.text for cell in effort_table(races_).rows[1]][7:9] == ["0.50", "2.00"]  # 1 / 0.5, 32 / 2 per 64 / 16


# Page ----------------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Every tag closed in order; what it points to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "link", "br", "path", "use", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "rect", "circle"):
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "observations",
    [EVERYTHING, [race(peer_s=None)], [EVERYTHING[0]], [Skipped(what="all", why="of <b>it</b>")]],
    ids=["everything", "no peer", "cold start only", "nothing"],
)
def test_the_page_is_whole_and_fetches_nothing(observations: list[Observation]) -> None:
    page = render(observations, ENVIRONMENT, "python -m benchmarks")
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert [link for link in reader.links if not link.startswith(("#", "data:"))] == []
    assert "&lt;b&gt;&amp;" in page
    assert "<b>it" not in page
    assert page == render(observations, ENVIRONMENT, "python -m benchmarks")


def test_the_page_holds_the_figures() -> None:
    page = render(EVERYTHING, ENVIRONMENT, "python -m benchmarks")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    figures = ("32.0 ×", "4.00 ×", "8,064", "10,000.000", "125.0 ms", "62.50 ms", "40.0 ×", "1.600 ms", "1.00 GiB")
    for expected in figures:
        assert expected.replace("1.00 GiB", "1 GiB") in words
    assert {"commbench", "SimGrid", "in order", "compiled", "reference", "bare SimPy"} <= {
        label.strip() for label in re.findall(r"<text [^>]*>([^<]*)</text>", page)
    }
    assert page.count("<figure>") == 4
    assert page.count("<script>") == 1
    assert page.count("<table") == 9


# SimGrid -------------------------------------------------------------------------------------------------------------


def ring(peer: SimGrid, *arguments: str) -> int:
    return int(json.loads(run_checked([str(peer.path), *arguments]).stdout)["time_ps"])


@pytest.mark.parametrize("style", STYLES)
def test_simgrid_gives_the_known_times(peer: SimGrid, style: str) -> None:
    assert ring(peer, "16", str(64 * MIB), "4", style) == SIXTEEN_PS
    assert ring(peer, "64", str(64 * MIB), "8", style) == SIXTY_FOUR_PS


def test_both_styles_of_simgrid_predict_the_same(peer: SimGrid, tmp_path: Path) -> None:
    hosts = random.Random(7).sample(range(64), 64)
    file = tmp_path / "placement"
    file.write_text(" ".join(map(str, hosts)), encoding="utf-8")
    special = ["--placement", str(file), "--jitter", "0.1", "--seed", "3"]
    times = {ring(peer, "64", str(64 * MIB), "8", style, *special) for style in STYLES}
    assert len(times) == 1
    assert times.pop() > 2 * SIXTY_FOUR_PS  # flows meet on the links between leaves


@pytest.mark.parametrize("seed", range(5, 11))
def test_jitter_is_the_rule_that_is_written(peer: SimGrid, seed: int) -> None:
    """Two ranks on one leaf, two steps: each step lasts as long as the larger of its two transfers."""

    def transfer_bytes(step: int, rank: int) -> int:
        x = (seed << 40) + (step << 20) + rank + 0x9E3779B97F4A7C15
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        u = ((x ^ x >> 31) >> 11) * 2**-53
        return int(MIB * (1 + 0.1 * (2 * u - 1)) + 0.5)

    steps = [max(transfer_bytes(step, rank) for rank in (0, 1)) for step in (0, 1)]
    expected = sum(b * 80 + 2_000_000 for b in steps)  # 80 ps per byte, two links of 1 us
    special = ["--jitter", "0.1", "--seed", str(seed)]
    assert ring(peer, "2", str(2 * MIB), "2", "actors", *special) == pytest.approx(expected, rel=0, abs=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["16", "100", "4", "actors"], "multiple of 4 x RANKS"),
        (["16", "640", "5", "actors"], "multiple of HOSTS_PER_LEAF"),
        (["16", "640", "4", "threads"], "STYLE must be"),
        (["16", "640", "4", "actors", "--jiter", "1"], "--jiter is unknown"),
        (["16", "640", "4", "actors", "--placement", "/dev/null"], "0 host numbers for 16 ranks"),
    ],
)
def test_the_simgrid_program_refuses_what_it_cannot_do(peer: SimGrid, arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_checked([str(peer.path), *arguments])


def test_without_a_compiler_simgrid_is_left_out_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert simgrid(tmp_path) == Skipped(what="SimGrid", why="no C++ compiler: g++ is not on PATH")


def test_without_headers_simgrid_is_left_out_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "g++"
    fake.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = simgrid(tmp_path)
    assert isinstance(found, Skipped)
    assert "libsimgrid-dev" in found.why


# The whole path ------------------------------------------------------------------------------------------------------


def quick(out: Path, monkeypatch: pytest.MonkeyPatch, peer: SimGrid | Skipped) -> list[dict[str, object]]:
    """Run it with what was compiled already; the records that it wrote."""
    monkeypatch.setattr(bench, "simgrid", lambda folder: peer)
    assert bench.main(["--quick", "--out", str(out)]) == 0
    lines = (out / "bench.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: SimGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    records = quick(tmp_path, monkeypatch, peer)
    assert [r["kind"] for r in records[:6]] == ["environment", *["cold-start"] * 5]
    found = {(r["ranks"], r["case"]): r for r in records if r["kind"] == "race"}
    assert list(found) == [(16, "in order"), (128, "in order"), (128, "random placement, 10 % jitter")]
    assert found[16, "in order"]["ours"]["predicted_s"] == SIXTEEN_PS / 1e12  # type: ignore[index]
    assert [r["difference"] for r in found.values()] == pytest.approx([0, 0, 0], abs=1e-7)
    assert {(r["engine"], r["flows"]) for r in records if r["kind"] == "shared-link"} == {
        (engine, flows) for engine in ("compiled", "reference") for flows in (1, 16, 256)
    }
    printed = capsys.readouterr().out
    assert "Predicted times" in printed
    assert "10,186.330" in printed
    assert printed.splitlines()[-1] == str(tmp_path / "index.html")
    assert "10,186.330" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_without_simgrid_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK_CASES", (Case(16),))
    monkeypatch.setattr(bench, "QUICK_RANKS", (16,))
    monkeypatch.setattr(bench, "QUICK_FLOWS", (1, 4))
    records = quick(tmp_path, monkeypatch, Skipped(what="SimGrid", why="not here"))
    (only,) = (r for r in records if r["kind"] == "race")
    assert (only["peer"], only["ratio"]) == (None, None)
    assert only["ours"]["predicted_s"] == SIXTEEN_PS / 1e12  # type: ignore[index]
    heard = capsys.readouterr()
    assert "Left out: SimGrid: not here" in heard.out
    assert "left out: SimGrid: not here" in heard.err


def test_what_commbench_refuses_is_left_out_aloud() -> None:
    (found,) = races([Case(16, "sideways")], None, 1, lambda words: None)
    assert isinstance(found, Skipped)
    assert "placement 'sideways' is unknown" in found.why


def test_predictions_that_differ_set_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def observe(peer: object, quick: bool) -> list[Observation]:
        return [race(predicted_s=0.02)]

    monkeypatch.setattr(bench, "observe", observe)
    monkeypatch.setattr(bench, "simgrid", lambda folder: Skipped(what="SimGrid", why="not here"))
    assert bench.main(["--out", str(tmp_path)]) == 1
    assert "error: 16 ranks, in order: predictions differ by +1.0e+00" in capsys.readouterr().err


def test_flows_on_one_link_are_shared_at_every_end() -> None:
    silent: Callable[[str], None] = lambda words: None  # noqa: E731
    found = {o.engine: o for o in shared_link([8], 1, silent)}
    assert {name: o.num_shares for name, o in found.items()} == {"compiled": 9, "reference": 9}  # one start, 8 ends


def test_the_command_is_the_one_beside_this_python() -> None:
    assert run_checked(commbench("--version")).stdout.startswith("commbench ")
