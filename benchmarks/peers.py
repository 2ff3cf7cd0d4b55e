# SPDX-License-Identifier: Apache-2.0
"""Figures of other simulators on the ring of benchmarks.against_simgrid, for those that do not take part in a run.

They are kept, not measured here: LogGOPSim and ASTRA-sim have no packages, and their inputs take steps of their own
(schedgen and txt2bin, Chakra traces). Compare their ratios only: they were taken on another machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.report.tables import Cell, Column, Table
from commbench.report.text import time_parts

__all__ = ["KEPT", "SOURCE", "KeptFigure", "peer_table"]

SOURCE = "measured in November 2026 on a machine of 2 cores, whole processes, repeats within 10 %; not measured here"


@dataclass(frozen=True, slots=True)
class KeptFigure:
    """One program on a ring all-reduce of 64 MiB per rank in 2 (N - 1) steps, links of 12.5e9 bytes/s and 1 us.

    Attributes:
        program: with its model. ranks: N. wall_s: of the whole process. peak_mib: largest resident set, 2^20 bytes;
            None where nobody took it. growth: g in wall ~ N^g, None likewise.
    """

    program: str
    ranks: int
    wall_s: float
    peak_mib: int | None = None
    growth: float | None = None


KEPT = (
    KeptFigure("LogGOPSim, receives chained (LogGP; making its input takes 4.2 s more)", 1024, 1.33, 176, 2.1),
    KeptFigure("LogGOPSim, all receives posted first (LogGP)", 1024, 9.39, 576, 2.9),
    KeptFigure("ASTRA-sim analytical, congestion unaware", 1024, 2.57, 354, 2.15),
    KeptFigure("ASTRA-sim analytical, congestion aware, ring", 1024, 3.55, 355, 2.1),
    KeptFigure("ASTRA-sim analytical, congestion aware, switch", 1024, 4.20, 355, 2.1),
    KeptFigure("SimGrid 3.32 C++, raw model (CM02), fat tree", 1024, 7.10, 48, 2.05),
    KeptFigure("SimGrid 3.32 C++, random placement", 512, 3.4, 40),
    KeptFigure("SimGrid 3.32 C++, 10 % jitter", 512, 3.5, 40),
    KeptFigure("SimPy, store and forward, a process per transfer", 1024, 32),
)


def peer_table(measured: Sequence[str]) -> Table:
    """The kept figures of programs that are not among those measured; the heading says that they are kept."""
    columns = (
        Column("program", numeric=False),
        Column("ranks"),
        Column("wall"),
        Column("peak memory"),
        Column("growth", "wall ~ ranks^g"),
    )
    rows = tuple(_row(one) for one in KEPT if not one.program.startswith(tuple(measured)))
    return Table("peers", f"Other programs, {SOURCE}", (), columns, rows)


def _row(one: KeptFigure) -> tuple[Cell, ...]:
    number, unit = time_parts(one.wall_s)
    none = Cell("not told", -1.0, tone="muted")
    return (
        Cell(one.program, one.program),
        Cell(f"{one.ranks:,}", one.ranks),
        Cell(number, one.wall_s, unit),
        none if one.peak_mib is None else Cell(f"{one.peak_mib}", one.peak_mib, "MiB"),
        none if one.growth is None else Cell(f"{one.growth:.2f}", one.growth),
    )
