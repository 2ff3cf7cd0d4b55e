# SPDX-License-Identifier: Apache-2.0
"""Damaged inputs for every reader: refused in words or read as they mean, within 10 s and 2 GiB, never a traceback.

See one again: ``python -m tests.fuzz.child SEED READERS NUMBER NUMBER+1 [--show]``, READERS with commas between, in
the order of the tests (the full test takes one reader at a time).
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.fuzz.child import LIMIT_S, START_S
from tests.fuzz.readers import ROOT

SEED = "1"
READERS = (
    "results", "topology", "scenario", "schedule", "msccl", "pipeline", "gemm", "lab-state", "quantity",
)  # fmt: skip
SLOW = ("page", "step")  # that draw or simulate what they accept: fewer of them
GOOD = ("refused", "accepted")


def verdicts(names: tuple[str, ...], count: int, seed: str = SEED) -> Iterator[tuple[int, str, str, str]]:
    """(number, reader, verdict, words) of each input; a child that dies is replaced by one that goes on behind it."""
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
            found = json.loads(line)
            number = found[0] + 1
            yield tuple(found)
            watch = threading.Timer(3 * LIMIT_S, child.kill)  # an input that no signal interrupts
            watch.start()
        watch.cancel()
        said = child.communicate()[1].strip().splitlines()
        if number < count:
            assert number > before or child.returncode < 0 or "MemoryError" in "".join(said), said[-5:]
            yield number, names[number % len(names)], "hang" if child.returncode == -9 else "died", "; ".join(said[-1:])
            number += 1


def bad(names: tuple[str, ...], count: int, seed: str = SEED) -> list[str]:
    """What must not be, one line each."""
    return [
        f"{name} {number} (seed {seed}): {what}: {words}"
        for number, name, what, words in verdicts(names, count, seed)
        if what not in GOOD
    ]


@pytest.fixture(scope="module")
def few() -> list[str]:
    return bad(READERS, 30 * len(READERS)) + bad(SLOW, 16)


BEING_MENDED = pytest.mark.xfail(reason="its reader is being mended", strict=False)
ALL = [pytest.param(one, marks=BEING_MENDED if one == "lab-state" else ()) for one in (*READERS, *SLOW)]


@pytest.mark.parametrize("reader", ALL)
def test_a_damaged_input_is_refused_or_read(reader: str, few: list[str]) -> None:
    assert not [line for line in few if line.startswith(f"{reader} ")]


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes minutes; set COMMBENCH_FULL=1")
@pytest.mark.parametrize("reader", [*READERS, *SLOW])
def test_six_thousand_damaged_inputs(reader: str) -> None:
    assert not bad((reader,), 300 if reader in SLOW else 600, "6000")
