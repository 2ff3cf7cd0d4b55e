# SPDX-License-Identifier: Apache-2.0
"""The messages that torch's gloo really sends, counted on real interfaces, against the ``gloo`` schedules.

python -m pytest -s tests/live/test_gloo_bytes.py      # as root; prints the table of docs/gloo.md
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pytest

from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.spec import get_collective
from tests.live import gloo_ranks
from tests.live.gloo_ranks import ELEMENT, ITERATIONS, PREAMBLE, Case, Counted

pytestmark = [pytest.mark.live, pytest.mark.root]
pytest.importorskip("torch")

WORLDS = (2, 3, 4)
HEADERS = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps: bytes of a packet that are not TCP payload
MAX_PACKET = 2**16  # the kernel hands the interface up to this much at once
KIB, MIB = 2**10, 2**20
SIZES = (4 * KIB, 64 * KIB + 4, 4 * MIB + 100)
LARGE = 9 * MIB + 4  # all worlds then have more than two segments per rank


def cases(n: int) -> list[Case]:
    """All collectives; those of blocks at whole multiples of n elements, and halves of whole elements."""
    found = [Case("all-reduce", size) for size in (ELEMENT, *SIZES, MIB, LARGE)]
    found += [Case("reduce", size, root) for root in (0, n - 1) for size in (ELEMENT, SIZES[1], LARGE)]
    found += [Case("broadcast", size, 1) for size in SIZES] + [Case("send-recv", SIZES[1])]
    for name in ("reduce-scatter", "all-gather", "all-to-all", "gather", "scatter"):
        unit, root = n * ELEMENT * (2 if name == "all-gather" else 1), n - 1 if get_collective(name).rooted else 0
        found += [Case(name, size // unit * unit, root) for size in SIZES]
    found += [Case(name, 8 * KIB * n, lists=True) for name in ("reduce-scatter", "all-gather", "all-to-all")]
    found += [Case("all-gather", 999 * n * ELEMENT), Case("barrier", ELEMENT)]
    return found


def schedules_of(case: Case, n: int) -> list[Schedule]:
    """What runs, one after the other: one schedule, but for the reduce-scatter of a list, one all-reduce per block."""
    name, num_bytes = case.collective, case.num_bytes
    repeat = 1
    if case.lists and name == "reduce-scatter":
        name, num_bytes, repeat = "all-reduce", num_bytes // n, n
    size = {"num_elements": num_bytes // ELEMENT, "element_bytes": ELEMENT}
    return [build_schedule(name, "gloo", n, root=case.root, **size)] * repeat


@dataclass(frozen=True)
class Wanted:
    """What one rank should send: payloads in order, by peer; and what it should receive: messages by peer."""

    data: dict[int, list[int]]
    received: Counter[int]

    @property
    def sizes(self) -> list[int]:
        return [size for messages in self.data.values() for size in messages]

    @property
    def tcp_bytes(self) -> int:
        """Payload, a header per message, and a notice for every send and every receive."""
        return sum(self.sizes) + PREAMBLE.size * (2 * len(self.sizes) + self.received.total())


def wanted_of(case: Case, n: int, rank: int) -> Wanted:
    """By the schedules; a barrier's messages are empty, and copies inside a rank are no messages."""
    data: dict[int, list[int]] = defaultdict(list)
    receives: Counter[int] = Counter()
    schedules = schedules_of(case, n)
    borders = schedules[0].offsets(case.num_bytes // len(schedules) // ELEMENT) * ELEMENT
    for op in [op for schedule in schedules for op in schedule.ops_of(rank) if op.peer != rank]:
        if op.kind is Kind.SEND:
            size = int(borders[op.chunk + op.count] - borders[op.chunk])
            data[op.peer].append(0 if case.collective == "barrier" else size)
        else:
            receives[op.peer] += 1
    return Wanted(dict(data), receives)


@cache
def count(n: int) -> dict[Case, list[Counted]]:
    """Run all cases on n ranks; what every rank counted."""
    with tempfile.TemporaryDirectory(prefix="commbench-gloo-") as folder:
        given = cases(n)
        Path(folder, "cases").write_text(json.dumps([asdict(case) for case in given]))
        arguments = [sys.executable, gloo_ranks.__file__, str(n), folder]
        run = subprocess.run(["unshare", "--net", *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        ranks = [json.loads(Path(folder, f"counted{rank}").read_text()) for rank in range(n)]
    return {case: [Counted(**ranks[rank][i]) for rank in range(n)] for i, case in enumerate(given)}


@pytest.mark.parametrize("n", WORLDS)
def test_messages_are_those_of_the_schedule(n: int) -> None:
    """Every message of every rank to every peer: as many, as long, and in the order that the schedule says.

    Where a block of an all-gather has an odd number of elements, gloo halves the one in the middle. There is one notice
    for every send and one for every receive.
    """
    for case, ranks in count(n).items():
        for rank, counted in enumerate(ranks):
            wanted = wanted_of(case, n, rank)
            data = wanted.data
            if case.collective == "all-gather" and case.num_bytes // n // ELEMENT % 2:
                half = ELEMENT // 2
                data = {p: [s - half if i % 2 else s + half for i, s in enumerate(data[p])] for p in data}
            found = {int(p): sizes for p, sizes in counted.data.items() if sizes}
            if case.lists and case.collective == "reduce-scatter":  # two all-reduces run side by side
                found, data = ({p: sorted(sizes) for p, sizes in side.items()} for side in (found, data))
            assert found == data, f"{case}, rank {rank}"
            notices = {p: [len(data.get(p, [])), wanted.received[p]] for p in data.keys() | wanted.received.keys()}
            assert {int(p): pair for p, pair in counted.notices.items()} == notices, f"{case}, rank {rank}"


@pytest.mark.parametrize("n", WORLDS)
def test_bytes_of_the_interface(n: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted bytes less packet headers = payload + 48 per message + 48 per notice, to the byte, on every rank."""
    lines = []
    for case, ranks in count(n).items():
        wanted = [wanted_of(case, n, rank) for rank in range(n)]
        found = [(counted.bytes - HEADERS * counted.packets) / ITERATIONS for counted in ranks]
        lines.append(_line(n, case, ranks, wanted, found))
        for counted, there, here in zip(ranks, wanted, found, strict=True):
            # What TCP sends again is counted again.
            again = MAX_PACKET * counted.retransmitted / ITERATIONS
            assert there.tcp_bytes <= here <= there.tcp_bytes + again, lines[-1]
    with capsys.disabled():
        print("", _HEAD, *lines, sep="\n")


_HEAD = (
    "| ranks | collective | buffer | messages | payload | TCP computed | TCP counted | difference | packets "
    "| interface |\n|" + "---|" * 10
)


def _line(n: int, case: Case, ranks: list[Counted], wanted: list[Wanted], found: list[float]) -> str:
    """A row of the table in docs/gloo.md: bytes of one iteration, by rank where they differ."""
    name = case.collective + (f", root {case.root}" if get_collective(case.collective).rooted else "")
    computed = sum(there.tcp_bytes for there in wanted)
    cells = (
        n,
        name + (" of a list" if case.lists else ""),
        case.num_bytes,
        _by_rank(len(there.sizes) for there in wanted),
        _by_rank(sum(there.sizes) for there in wanted),
        _by_rank(there.tcp_bytes for there in wanted),
        _by_rank(found),
        f"{sum(found) / computed - 1:.3%}",
        _by_rank(round(counted.packets / ITERATIONS) for counted in ranks),
        _by_rank(round(counted.bytes / ITERATIONS) for counted in ranks),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _by_rank(values: Iterable[float]) -> str:
    texts = [f"{value:.10g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
