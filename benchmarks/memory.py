# SPDX-License-Identifier: Apache-2.0
"""Published memory per GPU against the model's: ``python -m benchmarks.memory [--page] [--rows] [FILE.csv]``.

Predicts every row of ``sims/published/memory.csv`` (or of the file that is named) and prints signed errors by source.
``--rows`` prints every row with its kinds; ``--page`` writes docs/memory.md.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from textwrap import fill

from benchmarks.bubbles import bubble_table
from commbench.experiments.step_rows import StepRow, read_rows
from commbench.workload.memory import MemoryUse
from commbench.workload.stack_memory import memory_words, stack_memories, stack_memory

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "sims/published/memory.csv"
PAGE = ROOT / "docs/memory.md"
UNITS = {"GiB": 2**30, "GB": 10**9}


@dataclass(frozen=True, slots=True)
class Compared:
    """One published figure.

    Attributes:
        name, source: of its row. counts: what was counted. reported: bytes; of a step that did not fit, those it
            exceeded. predicted: bytes. use: of the rank that needs most. did_not_fit: whether it was out of memory.
    """

    name: str
    source: str
    counts: str
    reported: float
    predicted: float
    use: MemoryUse
    did_not_fit: bool

    @property
    def error(self) -> float:
        """Predicted / reported - 1."""
        return self.predicted / self.reported - 1


def compare(path: Path) -> list[Compared]:
    """Every row of a file.

    Raises:
        InputError: the file cannot be read.
    """
    rows, left = read_rows(path, timed=False)
    for name, why in left:
        print(f"left out: {name}: {why}")
    with path.open(encoding="utf-8", newline="") as file:
        figures = {row["id"]: row for row in csv.DictReader(file)}
    return [_compared(row, figures[row.name]) for row in rows]


def _compared(row: StepRow, figure: dict[str, str]) -> Compared:
    uses = replace(row.plan, stack_memory=stack_memory(row.stack)).memory()
    counts, text = figure["counts"], figure["reported"]
    use = max(uses, key=lambda one: counted(one, counts))
    reported = float(text.lstrip(">")) * UNITS[figure["unit"]]
    source = row.source if counts not in ("states", "activations") else f"{row.source} {counts}"
    return Compared(row.name, source, counts, reported, counted(use, counts), use, text.startswith(">"))


def counted(use: MemoryUse, counts: str) -> int:
    """What a source counted: "device" (nvidia-smi), "reserved" or "allocated" (torch), "states", "activations"."""
    if counts == "states":
        return use.parameters + use.gradients + use.optimizer
    if counts == "activations":
        return use.activations
    return use.total if counts == "device" else int(getattr(use, counts))


def by_source(found: Sequence[Compared]) -> dict[str, list[Compared]]:
    """Those that fitted, by source."""
    sources = sorted({one.source for one in found if not one.did_not_fit})
    return {name: [one for one in found if one.source == name and not one.did_not_fit] for name in sources}


def table(found: Sequence[Compared]) -> list[str]:
    """Signed errors by source, and what was out of memory, as lines of Markdown."""
    lines = ["| source | counts | figures | mean error | mean \\|error\\| | worst |", "|---|---|---|---|---|---|"]
    for source, own in by_source(found).items():
        worst = max(own, key=lambda one: abs(one.error))
        mean, bias = fmean(abs(one.error) for one in own), fmean(one.error for one in own)
        lines.append(
            f"| {source} | {own[0].counts} | {len(own)} | {bias:+.1%} | {mean:.1%} | {worst.error:+.1%} {worst.name} |"
        )
    out = [one for one in found if one.did_not_fit]
    right = sum(one.predicted > one.reported for one in out)
    return [*lines, "", f"Of {len(out)} configurations that were out of memory, {right} are predicted to be."]


def rows_text(found: Sequence[Compared]) -> list[str]:
    """Every row with its kinds in GiB."""
    kinds = [f.name for f in fields(MemoryUse)]
    lines = [" ".join(["error".rjust(7), "reported", *(kind[:11].rjust(11) for kind in kinds), "row"])]
    for one in found:
        sizes = [f"{getattr(one.use, kind) / 2**30:11.2f}" for kind in kinds]
        lines.append(" ".join([f"{one.error:+7.1%}", f"{one.reported / 2**30:8.2f}", *sizes, one.name]))
    return lines


def constants() -> list[str]:
    """What each stack needs, as lines of Markdown."""
    return [fill(f"- {name}: {memory_words(name)}", 120, subsequent_indent="  ") for name in stack_memories()]


def page(found: Sequence[Compared]) -> str:
    """docs/memory.md."""
    head = (ROOT / "benchmarks/memory.md").read_text(encoding="utf-8")
    bubbles = "\n".join(bubble_table())
    return head.format(table="\n".join(table(found)), constants="\n".join(constants()), bubbles=bubbles)


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=ROWS, help="CSV file [sims/published/memory.csv]")
    parser.add_argument("--rows", action="store_true", help="print every row with its kinds")
    parser.add_argument("--page", action="store_true", help="write docs/memory.md")
    given = parser.parse_args()
    found = compare(given.file)
    print("\n".join([*(rows_text(found) if given.rows else ()), *table(found)]))
    if given.page:
        PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
