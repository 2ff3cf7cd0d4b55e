# SPDX-License-Identifier: Apache-2.0
"""``commbench algorithm``: list, show, verify and crossover, and that docs/algorithms.md shows what they print.

``python -m tests.cli.test_algorithm`` writes the outputs and pictures of that page anew.
"""

import json
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from commbench.cli.main import main
from commbench.collectives.msccl import from_msccl
from commbench.collectives.registry import ALGORITHMS
from commbench.collectives.text import from_text
from commbench.collectives.verify import verify

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "algorithms.md"
OUTPUT = re.compile(r"( *)<!-- output of: (.*?) -->\n *```text\n(.*?) *```", re.DOTALL)
RACE = "algorithm crossover --topology fat-tree-16 -c all-reduce --ranks 2,4,8,16 -b 1K -e 64M -f 4"
PICTURES = {"crossover-fat-tree-16.svg": RACE, "crossover-fat-tree-16-live.svg": f"{RACE} --live-only"}
ALL_PAIRS = """
from commbench.collectives.schedule import Kind, Op, Schedule

def build(request):
    n = request.num_ranks
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    ops = [Op(0, a, 0, Kind.SEND, b, 0) for a, b in pairs] + [Op(0, b, 0, Kind.REDUCE, a, 0) for a, b in pairs]
    return Schedule.from_ops("all-reduce", "all-pairs", n, 1, ops)
"""


def run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``commbench COMMAND``, run in this process from the root of the checkout."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["commbench", *shlex.split(command)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


class Commbench:
    """Runs commands and expects them to be good, or bad input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, command: str) -> str:
        code, out, err = run(command, self.monkeypatch, self.capsys)
        assert code == 0, err
        return out

    def refused(self, command: str) -> tuple[str, str]:
        """The error line, and what stands above it (a grid)."""
        code, out, err = run(command, self.monkeypatch, self.capsys)
        assert (code, out) == (2, ""), err
        *grid, last = err.rstrip().splitlines()
        return last.removeprefix("error: "), "\n".join(grid)


@pytest.fixture
def commbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commbench:
    return Commbench(monkeypatch, capsys)


def test_the_list_names_every_algorithm_within_100_columns(commbench: Commbench) -> None:
    shown = commbench("algorithm list")
    assert max(map(len, shown.splitlines())) <= 100
    for collective, name in ALGORITHMS:
        assert collective in shown
        assert name in shown.split()


def test_the_list_of_one_collective(commbench: Commbench) -> None:
    shown = [json.loads(line) for line in commbench("algorithm list -c all-reduce --json").splitlines()]
    assert {one["collective"] for one in shown} == {"all-reduce"}
    ring = next(one for one in shown if one["algorithm"] == "ring")
    assert (ring["kind"], ring["steps_on_8"], ring["sent_share_on_8"]) == ("algorithm", 14, 1.75)  # 2 x 7, 2 x 7/8
    assert len(shown) == len({a.name for (c, _), a in ALGORITHMS.items() if c == "all-reduce"})


def test_an_unknown_collective(commbench: Commbench) -> None:
    assert commbench.refused("algorithm list -c all-sing")[0].startswith("collective 'all-sing' is unknown; known: all")


def test_show_in_three_forms(commbench: Commbench) -> None:
    assert commbench("algorithm show ring --ranks 3").startswith("step  rank 0")
    text = from_text(commbench("algorithm show ring --ranks 3 --text"))
    xml = from_msccl(commbench("algorithm show ring --ranks 3 --xml"))
    assert sorted(text) == sorted(xml)
    assert text.num_ranks == 3


def test_show_and_verify_as_one_json_object(commbench: Commbench) -> None:
    shown = json.loads(commbench("algorithm show ring --ranks 2 --json"))
    assert (shown["kind"], shown["schema"], shown["ranks"], shown["steps"]) == ("schedule", 1, 2, 2)
    assert shown["columns"] == ["step", "rank", "channel", "kind", "peer", "chunk", "count"]
    assert shown["operations"][:2] == [[0, 0, 0, "send", 1, 0, 1], [0, 0, 0, "reduce", 1, 1, 1]]
    assert len(shown["operations"]) == shown["num_operations"] == 8  # 2 steps, 2 ranks, a send and what it meets
    found = json.loads(commbench("algorithm verify docs/msccl-ring-4.xml --json"))
    assert (found["kind"], found["file"], found["ranks"]) == ("verified", "docs/msccl-ring-4.xml", 4)
    assert len(found["digest"]) == 16


def test_show_finds_the_collective_of_a_name(commbench: Commbench) -> None:
    assert "collective all-to-all\n" in commbench("algorithm show pairwise --text --ranks 3")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("algorithm show rinng", "algorithm 'rinng' is unknown; did you mean ring"),
        ("algorithm show pairwis", "algorithm 'pairwis' is unknown; did you mean pairwise"),
        ("algorithm show zzz", "algorithm 'zzz' is unknown; `commbench algorithm list` shows the names"),
        ("algorithm show rinng -c reduce", "algorithm 'rinng' is unknown for reduce; did you mean ring? known: "),
        ("algorithm show ring --text --xml", "--text and --xml: give one of them, not both"),
        ("algorithm show ring --text --xml --json", "--text and --xml and --json: give one of them, not all"),
        ("algorithm show docs/msccl-ring-4.xml --ranks 8", "docs/msccl-ring-4.xml: a file holds one schedule; it"),
        ("algorithm show ring --slices 65536 --channels 2", "all-reduce by ring on 4 ranks: up to 8.39e6"),
        ("algorithm show ring --ranks 1000000000", "--ranks 1000000000: at most 1048576"),
        ("algorithm verify docs/layout.md", "docs/layout.md: a file of an algorithm ends in .txt, .xml, .py"),
        ("algorithm verify no.py", "no.py: cannot be read: there is no such file"),
        ("algorithm verify docs/msccl-ring-4.xml -c broadcast", "docs/msccl-ring-4.xml: a schedule for all-reduce"),
        ("algorithm crossover -t star-8 --ranks 2,x", "--ranks '2,x' must be whole numbers with commas between"),
        ("algorithm crossover -t star-8 --ranks 16", "16 ranks on topology star-8: it has 8 endpoints"),
        ("algorithm crossover -t star-8 --algorithms rinng", "algorithm 'rinng' is unknown for all-reduce; did you"),
        ("algorithm crossover -t star-8 -e 1K --algorithms ,", "crossover of all-reduce: no algorithms, no sizes"),
        ("algorithm crossover -t star-8 -e 1K --algorithms ring --out /proc/x/a.svg", "--out /proc/x/a.svg: cannot"),
    ],
)  # fmt: skip
def test_bad_input(commbench: Commbench, command: str, message: str) -> None:
    assert commbench.refused(command)[0].startswith(message)


def test_verify_a_file_of_every_kind(commbench: Commbench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALL_PAIRS, encoding="utf-8")
    (tmp_path / "mine.txt").write_text(commbench("algorithm show ring --text"), encoding="utf-8")
    right = "right: all-reduce/all-pairs, 5 ranks, 1 steps, 40 operations"
    assert commbench(f"algorithm verify {tmp_path}/mine.py --ranks 5") == f"{tmp_path}/mine.py: {right}\n"
    assert "right: all-reduce/ring, 4 ranks, 6 steps" in commbench(f"algorithm verify {tmp_path}/mine.txt")
    assert "right: all-reduce/allreduce_ring_inplace" in commbench("algorithm verify docs/msccl-ring-4.xml")


def test_a_wrong_file_of_every_kind_is_refused_with_the_grid(commbench: Commbench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALL_PAIRS.replace("Kind.REDUCE", "Kind.RECV"), encoding="utf-8")
    ring = (ROOT / "docs" / "msccl-ring-4.xml").read_text(encoding="utf-8")
    (tmp_path / "mine.xml").write_text(ring.replace('type="rrcs"', 'type="rcs"', 1), encoding="utf-8")
    for file, where in ((f"{tmp_path}/mine.py", "live chunk"), (f"{tmp_path}/mine.xml", "rank 0 ends chunk 1 without")):
        message, grid = commbench.refused(f"algorithm verify {file}")
        assert message.startswith(f"{file}: schedule all-reduce/")
        assert where in message
        assert grid.count("*") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "mine.py: it must define a function build(request) that returns a Schedule"),
        ("def build(request:", "mine.py: loading it raised SyntaxError: '(' was never closed"),
        ("import torch_gone", "mine.py, line 1: loading it raised ModuleNotFoundError: No module named 'torch_gone'"),
        ("\ndef build(request):\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("\ndef build(request):\n    return 1 / 0", "mine.py, line 3: build(Request(num_ranks=4"),
        ("def build(request): return 7", "mine.py: build returned int, not a Schedule"),
        (ALL_PAIRS.replace("n = ", "n = 1 + "), "mine.py: build returned all-reduce on 5 ranks, not all-reduce on 4"),
        (
            "from commbench.errors import InputError\ndef build(request): raise InputError('mine: powers of two only')",
            "mine: powers of two only",
        ),
        ("import sys\nsys.exit(0)", "mine.py, line 2: loading it called sys.exit(0); it must not end the program"),
        ("\ndef build(request): raise SystemExit", "mine.py, line 2: build(Request(num_ranks=4"),
        ("class Odd(BaseException): pass\nraise Odd('a\\nb')", "mine.py, line 2: loading it raised Odd: a b"),
        ("class Odd(Exception):\n  def __str__(self): return 1\nraise Odd", "Odd: an error that cannot be shown"),
    ],
)
def test_python_that_does_not_do(commbench: Commbench, tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    assert message in commbench.refused(f"algorithm verify {tmp_path}/mine.py")[0]


def test_what_python_prints_is_not_among_the_results(tmp_path: Path, commbench: Commbench) -> None:
    (tmp_path / "mine.py").write_text("print('hello')\n" + ALL_PAIRS, encoding="utf-8")
    said = commbench(f"sim all-reduce -t star-8 --ranks 4 -b 1M -e 1M -a {tmp_path}/mine.py --json")
    assert [json.loads(line)["algorithm"] for line in said.splitlines()] == ["all-pairs"]


def test_an_endless_loop_in_python_ends_by_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('here', flush=True)\nwhile True: pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "commbench", "algorithm", "verify", "mine.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=20)[1]
    assert process.returncode == 130


def test_crossover_as_json(commbench: Commbench) -> None:
    command = "algorithm crossover -t star-8 -c all-reduce --ranks 2,8 -b 1M -e 4M -f 4 --algorithms tree,ring --json"
    records = [json.loads(line) for line in commbench(command).splitlines()]
    assert [(r["size_bytes"], r["ranks"]) for r in records] == [(2**20, 2), (2**20, 8), (2**22, 2), (2**22, 8)]
    for record in records:
        assert record["kind"] == "crossover"
        assert record["times_s"].keys() == {"ring", "double-binary-tree"}
        assert record["time_s"] == min(record["times_s"].values()) >= record["lower_bound_s"] > 0


def outputs(page: str) -> Iterator[tuple[str, str]]:
    """(command, what the page shows for it)."""
    for indent, command, shown in OUTPUT.findall(page):
        yield command.removeprefix("commbench "), textwrap.dedent(shown) if indent else shown


SHOWN = dict(outputs(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("command", [command for command in SHOWN if command not in PICTURES.values()])
def test_the_page_shows_what_is_printed(commbench: Commbench, command: str) -> None:
    assert commbench(command) == SHOWN[command], "write the page anew: python -m tests.cli.test_algorithm"


@pytest.mark.parametrize("name", PICTURES)
def test_the_page_shows_the_map_that_is_drawn(commbench: Commbench, tmp_path: Path, name: str) -> None:
    """Compared by the words in it, because paths differ between versions of matplotlib."""
    printed = commbench(f"{PICTURES[name]} --out {tmp_path}/map.svg")
    assert printed == SHOWN.get(PICTURES[name], printed), "write the page anew: python -m tests.cli.test_algorithm"
    words = [
        re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))
        for path in (ROOT / "docs" / name, tmp_path / "map.svg")
    ]
    assert words[0] == words[1], "draw the map anew: python -m tests.cli.test_algorithm"
    assert len(words[0]) > 80


def test_the_example_of_the_page_is_right(commbench: Commbench, tmp_path: Path) -> None:
    (block,) = re.findall(r" *```python\n(.*?) *```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(textwrap.dedent(block), encoding="utf-8")
    verify(from_text(commbench(f"algorithm show {tmp_path}/mine.py --ranks 6 --text")))


def rewrite() -> None:
    """Write the outputs and pictures of the page anew."""
    import subprocess

    def commbench_prints(command: str) -> str:
        words = [sys.executable, "-m", "commbench", *shlex.split(command)]
        return subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout

    def block(match: re.Match[str]) -> str:
        body = f"<!-- output of: {match[2]} -->\n```text\n{commbench_prints(match[2].removeprefix('commbench '))}```"
        return textwrap.indent(body, match[1])

    PAGE.write_text(OUTPUT.sub(block, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for name, command in PICTURES.items():
        commbench_prints(f"{command} --out docs/{name}")


if __name__ == "__main__":
    rewrite()
