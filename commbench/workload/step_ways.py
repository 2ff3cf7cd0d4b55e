# SPDX-License-Identifier: Apache-2.0
"""Collectives of a step as operations of a program, or of a block that is made for one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from commbench.program.operations import NOTHING, ProgramBuilder
from commbench.workload.step_units import Communications
from commbench.workload.traffic import Traffic

__all__ = ["Appends", "Ways"]


class Appends(Protocol):
    """A program, or the rows of a block."""

    def add(self, row: tuple[int, ...], after: Iterable[int]) -> int:
        """An operation, by its columns; returns its number."""


class Ways:
    """Adds collectives, one for every class of groups, to a program or to the rows of a block."""

    def __init__(self, program: ProgramBuilder, communications: Communications, rows: Appends | None = None) -> None:
        self._program, self._communications = program, communications
        self._rows: Appends = program if rows is None else rows

    def collectives(
        self, one: Traffic, position: int, stream: str, after: Mapping[int, Sequence[int]] | None = None
    ) -> dict[int, int]:
        """One collective of every class of groups; returns unit -> operation."""
        done: dict[int, int] = {}
        program = self._program
        for of in self._communications.classes(one.group, position):
            name = f"{one.kind} {one.collective} at position {position}"
            what = self._communications.collective(name, of, one.collective, one.size_bytes)
            waits = [number for unit in of.units for number in (after or {}).get(unit, ())]
            row = (
                *(NOTHING, 0, program.number_of(what)),
                *(program.streams[stream], program.labels[what.name], program.purposes[one.kind]),
            )
            number = self._rows.add(row, waits)
            done.update(dict.fromkeys(of.units, number))
        return done

    def gradients(
        self, sent: Iterable[Traffic], position: int, after: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[int, int]]:
        """Calls that send gradients, as (unit, operation). What sums shares over groups that hold the same goes beside
        later calls: torch's FSDP has a stream for it (_fsdp_param_group.py, FSDPCommContext.all_reduce_stream).
        """
        reduced = dict(after)
        for one in sent:
            if "%" in one.group:
                yield from self.collectives(one, position, "shares", reduced).items()
                continue
            done = self.collectives(one, position, "data", after)
            reduced |= {unit: [number] for unit, number in done.items()}
            yield from done.items()
