# SPDX-License-Identifier: Apache-2.0
"""``make bench``: every comparison in one run, as tables on the terminal and as a page; ``--quick`` takes seconds.

Exit code 1 if predictions differ that must not; speed is told, not judged.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.against_simgrid import CASES, QUICK_CASES, SimGrid, races, simgrid
from benchmarks.cold_start import cold_start
from benchmarks.engines import QUICK_RANKS, RANKS, engines
from benchmarks.page import render, sections
from benchmarks.records import Observation, Skipped, write
from benchmarks.shared_link import FLOWS, QUICK_FLOWS, shared_link
from benchmarks.tables import text
from benchmarks.training_steps import CASES as STEPS
from benchmarks.training_steps import QUICK_CASES as QUICK_STEPS
from benchmarks.training_steps import training_steps
from benchmarks.verdicts import fell_short, verdicts
from benchmarks.whole import JOBS, QUICK_JOBS, timed
from commbench.errors import CommbenchError
from commbench.results.environment import collect_environment

REPEATS, QUICK_REPEATS = 5, 1


def observe(peer: SimGrid | Skipped, quick: bool) -> Iterator[Observation]:
    """Everything that is measured, comparison by comparison."""
    repeats = QUICK_REPEATS if quick else REPEATS
    yield from cold_start(repeats, tell)
    if isinstance(peer, Skipped):
        tell(f"left out: {peer.what}: {peer.why}")
        yield peer
    yield from races(QUICK_CASES if quick else CASES, peer if isinstance(peer, SimGrid) else None, repeats, tell)
    yield from engines(QUICK_RANKS if quick else RANKS, repeats, tell)
    yield from shared_link(QUICK_FLOWS if quick else FLOWS, repeats, tell)
    yield from training_steps(QUICK_STEPS if quick else STEPS, repeats, tell)
    yield from timed(QUICK_JOBS if quick else JOBS, repeats, tell)


def tell(words: str) -> None:
    """A line of progress, on stderr."""
    print(f"bench: {words}", file=sys.stderr)


def environment(peer: SimGrid | Skipped) -> dict[str, Any]:
    """The machine and every program that takes part, with its version."""
    found = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), **collect_environment()}
    for package in ("numba", "numpy", "simpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if isinstance(peer, SimGrid):
        return {**found, "simgrid": peer.version, "compiler": peer.compiler}
    return {**found, "simgrid": f"left out: {peer.why}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small part of everything, once")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder for index.html and bench.jsonl")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            peer = simgrid(Path(folder))
            facts = environment(peer)
            found = list(observe(peer, options.quick))
    except CommbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write(options.out / "bench.jsonl", facts, found)
    command = shlex.join(["python", "-m", "benchmarks", *(["--quick"] if options.quick else [])])
    page = options.out / "index.html"
    page.write_text(render(found, facts, command), encoding="utf-8")
    _print(found, page)
    for sentence in fell_short(found):
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if fell_short(found) else 0


def _print(found: Sequence[Observation], page: Path) -> None:
    for section in sections(found):
        for table in section.tables:
            print(text(table), end="\n\n")
    for v in verdicts(found):
        print(f"{v.word}: {v.sentence}".replace("\N{NO-BREAK SPACE}", " "))
    print(page)


if __name__ == "__main__":
    sys.exit(main())
