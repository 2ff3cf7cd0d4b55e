# SPDX-License-Identifier: Apache-2.0
"""Damaged inputs for every reader: refused in words or read as they mean, never a traceback.

Each has 10 s of the processor and 2 GiB.

See one again: ``python -m tests.fuzz.child SEED READERS NUMBER NUMBER+1 [--show]``, READERS with commas between, in
the order of the tests (the full test takes one reader at a time).
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.fuzz.child import START_S, WAIT_S
from tests.fuzz.readers import ROOT

SEED = "1"
READERS = (
    "results", "topology", "device", "scenario", "experiment", "schedule", "msccl", "pipeline", "gemm", "lab-state",
    "quantity", "options", "log", "imported", "trace", "infragraph",
)  # fmt: skip
SLOW = ("page", "step")  # that draw or simulate what they accept: fewer of them
GOOD = ("refused", "accepted")


class Verdict(NamedTuple):
    """Of one input; ``most_mib`` is that of all so far."""

    number: int
    reader: str
    what: str
    words: str
    cpu_s: float = 0.0
    most_mib: int = 0


def verdicts(names: tuple[str, ...], count: int, seed: str = SEED) -> Iterator[Verdict]:
    """A verdict on each input; a child that dies is replaced by one that goes on behind it."""
    number = 0
    while number < count:
        command = [sys.executable, "-m", "tests.fuzz.child", seed, ",".join(names), str(number), str(count)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(command, cwd=ROOT, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
        assert child.stdout is not None
        watch = threading.Timer(2 * START_S, child.kill)
        watch.start()
        before = number
        for line in child.stdout:
            watch.cancel()
            found = Verdict(*json.loads(line))
            number = found.number + 1
            yield found
            watch = threading.Timer(2 * WAIT_S, child.kill)  # an input that no signal interrupts
            watch.start()
        watch.cancel()
        said = child.communicate()[1].strip().splitlines()
        if number < count:
            assert number > before or child.returncode < 0 or "MemoryError" in "".join(said), said[-5:]
            what = "hang" if child.returncode == -9 else "died"
            yield Verdict(number, names[number % len(names)], what, "; ".join(said[-1:]))
            number += 1


def bad(names: tuple[str, ...], count: int, seed: str = SEED) -> list[str]:
    """What must not be, one line each; the figures of all go to standard output (pytest -s shows them)."""
    found = list(verdicts(names, count, seed))
    whats = ", ".join(f"{times} {what}" for what, times in sorted(Counter(one.what for one in found).items()))
    cpu_s, mib = max(one.cpu_s for one in found), max(one.most_mib for one in found)
    print(f"\n{', '.join(names)}: {len(found)} inputs, {whats}; at most {cpu_s:.1f} s of the processor, {mib} MiB")
    return [
        f"{one.reader} {one.number} (seed {seed}): {one.what}: {one.words}" for one in found if one.what not in GOOD
    ]


@pytest.fixture(scope="module")
def few() -> list[str]:
    return bad(READERS, 30 * len(READERS)) + bad(SLOW, 16)


@pytest.mark.parametrize("reader", [*READERS, *SLOW])
def test_a_damaged_input_is_refused_or_read(reader: str, few: list[str]) -> None:
    assert not [line for line in few if line.startswith(f"{reader} ")]


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes minutes; set COMMBENCH_FULL=1")
@pytest.mark.parametrize("reader", [*READERS, *SLOW])
def test_six_thousand_damaged_inputs(reader: str) -> None:
    assert not bad((reader,), 600, "6000")
