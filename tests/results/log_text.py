# SPDX-License-Identifier: Apache-2.0
"""Made-up logs in nccl-tests' layouts of all times, with figures that follow from their times."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.collectives.spec import get_collective

BODY = ("time", "algbw", "busbw", "#wrong")
UNITS = {"size": "(B)", "count": "(elements)", "time": "(us)", "algbw": "(GB/s)", "busbw": "(GB/s)", "i_min": "(us)"}


@dataclass(frozen=True)
class Layout:
    """One way in which such a table was printed."""

    lead: tuple[str, ...] = ("size", "count", "type", "redop", "root")
    body: tuple[str, ...] = BODY
    skipped: tuple[str, ...] = ()  # lead columns of the header that rows leave blank
    placements: tuple[str, ...] = ("out-of-place", "in-place")
    trailer: str = ""
    trailer_named: bool = False
    tag: str = ""
    wrong: str = "0"
    noise: str = ""  # a line between all others
    footer: bool = True


def row(layout: Layout, size: int, times_us: Sequence[float], collective: str = "all_reduce", ranks: int = 8) -> str:
    """A line whose bandwidths follow from its times."""
    spec = get_collective(collective)
    per_rank = ranks if spec.by_rank else 1
    lead = {"size": str(size), "count": str(size // 4 // per_rank), "type": "float", "redop": "sum" if spec.reduces
            else "none", "root": "2" if spec.rooted else "-1"}  # fmt: skip
    parts = [lead[name].rjust(12) if name not in layout.skipped else " " * 8 for name in layout.lead]
    for time in times_us[: len(layout.placements)]:
        shown = round(time, 2)
        algbw = size / shown / 1e3 if shown else 0.0
        figures = {"time": f"{shown:.2f}", "algbw": f"{algbw:.2f}", "busbw": f"{algbw * spec.busbw_factor(ranks):.2f}"}
        parts += [figures.get(name, layout.wrong if name in ("#wrong", "error") else "1.5") for name in layout.body]
    return "  ".join([*parts, *([layout.trailer] if layout.trailer else [])])


def log(
    layout: Layout,
    points: Sequence[tuple[int, float, float]],
    collective: str = "all_reduce",
    ranks: int = 8,
    *,
    devices: bool = True,
    named: bool = True,
) -> str:
    """A whole log: (size, out-of-place us, in-place us) at every point."""
    lines = ["# nccl-tests version 2.19.2 nccl-headers=22907 nccl-library=22105"]
    lines += [f"# Collective test starting: {collective}_perf"] if named else []
    lines += ["# nThread 1 nGpus 1 minBytes 8 maxBytes 8 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1", "#"]
    if devices:
        lines += ["# Using devices"]
        lines += [f"#  Rank {r:2} Group  0 Pid 77 on n{r // 8} device {r % 8:2} [0x1b] NVIDIA X1" for r in range(ranks)]
    lines += ["#", "# " + " " * 50 + "   ".join(layout.placements)]
    names = [*layout.lead, *layout.body * len(layout.placements)]
    lines += ["# " + "  ".join([*names, *(["algo proto nchannels"] if layout.trailer_named else [])])]
    lines += ["# " + "  ".join(UNITS.get(name, "") for name in names)]
    lines += [row(layout, size, times, collective, ranks) for size, *times in points]
    lines += ["# Out of bounds values : 0 OK", "#"] if layout.footer else []
    told = [layout.tag + line for line in lines]
    return "\n".join(f"{line}\n{layout.noise}" if layout.noise else line for line in told) + "\n"
