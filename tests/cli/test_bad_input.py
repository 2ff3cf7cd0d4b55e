# SPDX-License-Identifier: Apache-2.0
"""Bad input at the command line: one line on stderr that says what, where and which rule; exit code 2; no traceback.

Bad input that needs live ranks (--nproc 0, NCCL without a GPU, a rank that dies) stands in tests/live.
"""

import subprocess
from pathlib import Path

import pytest

from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.text import to_text
from commbench.results.journal import Journal
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective
from tests.cli.commands import commbench

ROOT = Path(__file__).resolve().parents[2]
FAT_TREE = (ROOT / "topologies" / "fat-tree-16.yaml").read_text(encoding="utf-8")


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one error line; a schedule's grid may stand above it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last.removeprefix("error: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  wiring: plain", "  wiring: plain\n  colour: red", "mine.yaml: line 8: host.colour: unknown key"),
        ("value: 100 Gbit/s", "value: '100'", "mine.yaml: line 11: host.bus.bandwidth.value: '100' is not a bandwidth"),
        ("value: 100 Gbit/s", "value: -100 Gbit/s", "mine.yaml: line 11: host.bus.bandwidth.value: bandwidth"),
        ("spines: 4", "spines: 0", "mine.yaml: line 20: fabric.spines: 0: must be at least 1"),
    ],
)  # fmt: skip
def test_a_topology_file_that_breaks_a_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in FAT_TREE
    (tmp_path / "mine.yaml").write_text(FAT_TREE.replace(old, new), encoding="utf-8")
    found = the_error(commbench("sim", "all-reduce", "--topology", "mine.yaml", "-b", "1M", folder=tmp_path))
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--topology fat-tree-17 -b 1M", "topology 'fat-tree-17': not found; did you mean fat-tree-1"),
        ("--topology star-8 -b 3 -e 3", "-b 3: smaller than one element of 4 B"),
        ("--topology star-8 -b 1M -e 1K", "-e 1K: smaller than -b 1M"),
        ("--topology star-8 -b 1Q", "'1Q' is not a size: give a number and a unit"),
        ("--topology star-8 --algorithm rinng", "algorithm 'rinng' is unknown for all-reduce; did you mean ring?"),
        ("--topology star-8 --algorithm no/such.txt", "no/such.txt: cannot be read: "),
        ("--topology star-8 --ranks 9", "9 ranks on topology star-8: it has 8 endpoints, give 1 to that many"),
        ("--topology star-8 --routing fastest", "routing 'fastest' is unknown; known: ecmp, d-mod-k, rail-aware"),
        ("--topology star-8 --placement best", "placement 'best' is unknown; known: linear, random"),
        ("--topology star-8 --slices 0", "algorithm ring: slices must be at least 1, not 0"),
        ("--topology star-8 --dtype int3", "--dtype 'int3' is unknown; did you mean int32? known: float16"),
        ("--topology star-8 --rank 3", "No such option: --rank"),
        ("-b 1M", "Missing option '-t' / '--topology'"),
    ],
)
def test_an_option_that_breaks_a_rule(tmp_path: Path, options: str, message: str) -> None:
    assert message in the_error(commbench("sim", "all-reduce", *options.split(), folder=tmp_path))


def test_a_send_without_a_receive_is_refused_with_the_place_and_the_grid(tmp_path: Path) -> None:
    ring = build_schedule("all-reduce", "ring", 4)
    kept = [op for op in ring if not (op.rank == 2 and op.step == 3 and op.kind is not Kind.SEND)]
    broken = Schedule.from_ops("all-reduce", "lossy", 4, 4, kept)
    (tmp_path / "lossy.txt").write_text(to_text(broken), encoding="utf-8")
    for command in (["algorithm", "verify", "lossy.txt"], ["sim", "all-reduce", "-t", "star-8", "-a", "lossy.txt"]):
        done = commbench(*command, folder=tmp_path)
        assert "has no matching receive" in the_error(done)
        assert "on 4 ranks: rank 1, step" in the_error(done)
        grid = done.stderr.splitlines()[:-1]
        assert sum(line.count("*") for line in grid) == 1


def test_a_results_file_cut_in_the_middle_is_named_and_its_whole_records_can_be_had(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "runs.jsonl")
    for size in (2**20, 2**22):
        journal.append(simulate_collective(load_fabric("star-8"), "all-reduce", "ring", size).record)
    text = journal.path.read_text(encoding="utf-8")
    journal.path.write_text(text[:-100], encoding="utf-8")
    found = the_error(commbench("report", "runs.jsonl", folder=tmp_path))
    assert found.startswith("runs.jsonl, line 2: not a whole JSON object")
    assert found.endswith("1 records are complete: --salvage reads them")
    done = commbench("report", "runs.jsonl", "--salvage", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Left out: runs.jsonl, line 2" in page  # the page says what it could not show


@pytest.mark.parametrize(("collective", "total"), [("all-reduce", "65,536"), ("all-to-all", "131,072")])
def test_buffers_that_the_machine_cannot_hold_are_refused_before_ranks_start(
    collective: str, total: str, tmp_path: Path
) -> None:
    done = commbench("run", collective, "-g", "8", "-b", "8T", "-e", "8T", "-n", "1", folder=tmp_path)
    message = the_error(done)
    assert message.startswith(f"-e 8 TiB: {collective} on 8 ranks of this machine takes at least {total} GiB of memory")
    assert "or less, or fewer ranks" in message
    assert not (tmp_path / "runs").exists()
