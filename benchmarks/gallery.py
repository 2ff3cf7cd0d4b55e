# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.gallery``: pictures of what decides how long a collective takes, each from its commands.

Writes docs/gallery.md and docs/gallery/*.png. Nothing on that page is written by hand but what stands here.
"""

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

from commbench.report.plots import plot_file
from commbench.report.text import signed_percent, time_text
from commbench.results.journal import read_records
from commbench.results.records import Record, Simulated
from commbench.units import format_bytes

__all__ = ["CASES", "Case", "page", "records_of"]

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True, slots=True)
class Case:
    """A picture.

    Attributes:
        name: of the file. title, why: in words. commands: behind ``commbench sim``, each with a word for its lines.
    """

    name: str
    title: str
    why: str
    commands: tuple[tuple[str, str], ...]


_SIZES = "-b 64K -e 256M -f 4"
CASES = (
    Case(
        "h100-against-4090",
        "Eight H100 against eight RTX 4090",
        "What nccl-tests would print: NVSwitches that add, against PCIe and host memory.",
        (
            ("8 H100", "all-reduce -t dgx-h100 -b 8 -e 1G -f 8"),
            ("8 RTX 4090", "all-reduce -t pcie-4090 -b 8 -e 1G -f 8"),
        ),
    ),
    Case(
        "nvl72-against-hosts-of-8",
        "64 GPUs in one NVLink domain, or in eight hosts",
        "Inside an NVL72 rack all-reduce does not leave NVLink; between hosts it goes over eight NICs each.",
        (
            ("GB200 NVL72", "all-reduce -t gb200-nvl72 -g 64 -b 8 -e 1G -f 8"),
            ("8 hosts of 8 H100", "all-reduce -t dgx-h100-x16 -g 64 -b 8 -e 1G -f 8"),
        ),
    ),
    Case(
        "ring-against-tree",
        "Ring against double binary tree",
        "The ring's 2 (n - 1) steps cost latency at small sizes; up and down the tree it is some 2 log n of them.",
        (
            ("ring", f"all-reduce -t fat-tree-64 -a ring {_SIZES}"),
            ("tree", f"all-reduce -t fat-tree-64 -a tree --slices 16 {_SIZES}"),
        ),
    ),
    Case(
        "four-to-one",
        "A full fat tree against 4:1",
        "An all-to-all fills the links between leaves and spines; a ring in order leaves each leaf by one link only.",
        (
            ("all-to-all on 1:1", f"all-to-all -t fat-tree-16 {_SIZES}"),
            ("all-to-all on 4:1", f"all-to-all -t leaf-spine-16-4to1 {_SIZES}"),
        ),
    ),
    Case(
        "dying-link",
        "A link at a tenth",
        "From 3 to 6 ms every step of the ring waits for the one transfer that crosses the sick link.",
        (
            ("in health", f"all-reduce -t fat-tree-16 -a ring {_SIZES}"),
            ("one spine link at 10 %", f"all-reduce -t fat-tree-16 -a ring {_SIZES} "
             "--scenario sims/spine-link-at-10-percent.yaml"),
        ),
    ),
    Case(
        "placement",
        "Ranks in order, and at random",
        "A ring whose neighbours are anywhere meets itself on the links between leaves and spines.",
        (
            ("in order", f"all-reduce -t leaf-spine-16-4to1 -a ring {_SIZES}"),
            ("at random", f"all-reduce -t leaf-spine-16-4to1 -a ring {_SIZES} --placement random --seed 7"),
        ),
    ),
)  # fmt: skip


def records_of(case: Case) -> list[Record]:
    """What the commands of a case give, in their order."""
    from commbench.cli.main import outcome

    with TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        out = Path(folder) / "runs.jsonl"
        for _, command in case.commands:
            code = outcome(["sim", *command.split(), "--out", str(out)])
            if code:
                raise SystemExit(f"commbench sim {command}: exit code {code}")
        return list(read_records(out))


def page(found: Sequence[tuple[Case, Sequence[Record]]]) -> str:
    """docs/gallery.md."""
    how = "Simulated, each picture by the commands below it; written by `python -m benchmarks.gallery`."
    lines = ["# Gallery", "", how]
    for case, records in found:
        lines += ["", f"## {case.title}", "", case.why, "", f"![{case.title}](gallery/{case.name}.png)", ""]
        lines += ["```console"]
        lines += [f"$ commbench sim {command} --out runs.jsonl" for _, command in case.commands]
        lines += ["$ commbench report runs.jsonl --out picture.png", "```", "", fill(_told(case, records), 120)]
    return "\n".join(lines) + "\n"


def _told(case: Case, records: Sequence[Record]) -> str:
    """The first command's time against each other one's, at the smallest and the largest size."""
    timed = [one for one in records if isinstance(one, Simulated)]
    runs = list(dict.fromkeys(one.run for one in timed))
    first, *others = [sorted((one for one in timed if one.run == run), key=lambda one: one.size_bytes) for run in runs]
    words = [word for word, _ in case.commands]
    told = []
    for at, size in ((0, first[0]), (-1, first[-1])):
        each = [f"{word} {time_text(run[at].time_s)} ({signed_percent(run[at].time_s / size.time_s - 1)})"
                for word, run in zip(words[1:], others, strict=True)]  # fmt: skip
        told.append(f"{format_bytes(size.size_bytes)}: {words[0]} {time_text(size.time_s)}, {', '.join(each)}")
    return "; ".join(told) + "."


def main() -> None:
    """Write the pictures and the page."""
    found = [(case, records_of(case)) for case in CASES]
    (DOCS / "gallery").mkdir(exist_ok=True)
    for case, records in found:
        (DOCS / "gallery" / f"{case.name}.png").write_bytes(plot_file(records, "png"))
    (DOCS / "gallery.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
