# SPDX-License-Identifier: Apache-2.0
"""Which ranks of a training step are simulated as one, and which groups communicate as one.

Ranks at the same pipeline position do the same work. A *folding* splits their tensor- and data-parallel coordinates
into classes; the ranks of one pipeline position, tensor class and data class are one *unit*, a rank of the program.
One class of each is the folded program (a unit per pipeline position); a class per coordinate is the unfolded one.

Groups (of tensor, data, ... parallelism) whose members lie in the same units are one communication: they advance
together. Whether that changes any time is for the simulator to find out: it depends on the fabric (lowering.symmetry).
Where it does, :meth:`Units.finer` tells the ranks apart that are not alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from commbench.arrays import IntArray
from commbench.program.operations import Collective, Communication, Transfer
from commbench.workload.groups import Degrees, ParallelGroups

__all__ = ["Class", "Communications", "Folding", "Units"]


@dataclass(frozen=True, slots=True)
class Folding:
    """Class of every tensor coordinate, and of every data coordinate (place in its dp-cp group)."""

    tensor: tuple[int, ...]
    data: tuple[int, ...]

    @classmethod
    def whole(cls, degrees: Degrees) -> "Folding":
        """Everything that can be: a unit per pipeline position."""
        return cls((0,) * degrees.tp, (0,) * (degrees.dp * degrees.cp))

    @classmethod
    def none(cls, degrees: Degrees) -> "Folding":
        """Nothing: every rank is a unit."""
        return cls(tuple(range(degrees.tp)), tuple(range(degrees.dp * degrees.cp)))

    @classmethod
    def apart(cls, degrees: Degrees, ranks: Sequence[int]) -> "Folding":
        """These ranks' coordinates are classes of their own, all others one class each."""
        places = [_coordinates(degrees, rank) for rank in ranks]
        tensor, data = (sorted({place[i] for place in places}) for i in (1, 2))
        return cls(_classes(degrees.tp, tensor), _classes(degrees.dp * degrees.cp, data))

    @property
    def per_position(self) -> int:
        """Classes of ranks at one pipeline position."""
        return (max(self.tensor) + 1) * (max(self.data) + 1)


def _classes(size: int, alone: Sequence[int]) -> tuple[int, ...]:
    """Classes numbered without gaps: 0 and up for those alone, then one for the rest."""
    return tuple(alone.index(i) if i in alone else len(alone) for i in range(size))


def _coordinates(degrees: Degrees, rank: int) -> tuple[int, int, int]:
    """Pipeline position, tensor coordinate, data coordinate."""
    place = ParallelGroups(degrees).place_of(rank)
    members = ParallelGroups(degrees).of_rank("dp-cp", rank)
    return place["pp"], place["tp"], members.index(rank)


def _alike(rows: IntArray) -> tuple[int, ...]:
    """Numbers of the rows, the same for equal ones."""
    return tuple(np.unique(rows, axis=0, return_inverse=True)[1].ravel().tolist())


@dataclass(frozen=True)
class Units:
    """The units of a step.

    Attributes:
        degrees: sizes and rank order.
        folding: what is simulated as one.
    """

    degrees: Degrees
    folding: Folding

    @cached_property
    def groups(self) -> ParallelGroups:
        """The groups of the world."""
        return ParallelGroups(self.degrees)

    @cached_property
    def of_rank(self) -> IntArray:
        """Unit of every rank of the world; units of one pipeline position are neighbours."""
        position, tensor, data = (self._place(kind) for kind in ("pp", "tp", "dp-cp"))
        tensor, data = np.array(self.folding.tensor)[tensor], np.array(self.folding.data)[data]
        width = (max(self.folding.tensor) + 1, max(self.folding.data) + 1)
        return (position * width[1] + data) * width[0] + tensor

    def _place(self, kind: str) -> IntArray:
        """Place of every rank in its group."""
        members = np.array(self.groups.of(kind), dtype=np.int64)
        place = np.empty(self.degrees.num_ranks, dtype=np.int64)
        place[members] = np.arange(members.shape[1])
        return place

    @cached_property
    def num_units(self) -> int:
        """How many there are."""
        return self.degrees.pp * self.per_position

    @property
    def per_position(self) -> int:
        """Units of one pipeline position."""
        return self.folding.per_position

    @cached_property
    def ranks(self) -> tuple[tuple[int, ...], ...]:
        """The ranks that each unit stands for, ascending."""
        order = np.argsort(self.of_rank, kind="stable")
        sizes = np.bincount(self.of_rank, minlength=self.num_units)
        return tuple(tuple(part.tolist()) for part in np.split(order, np.cumsum(sizes)[:-1]))

    def at(self, position: int) -> range:
        """The units of a pipeline position."""
        return range(position * self.per_position, (position + 1) * self.per_position)

    def finer(self, colour: IntArray) -> Folding:
        """The coarsest folding that keeps ranks of different colours apart, and those that this one keeps apart.

        Args:
            colour: a number for every rank of the world.
        """
        position, tensor, data = (self._place(kind) for kind in ("pp", "tp", "dp-cp"))
        table = np.empty((self.degrees.pp, self.degrees.tp, len(self.folding.data)), dtype=np.int64)
        table[position, tensor, data] = colour
        rows = ((table.transpose(1, 0, 2), self.folding.tensor), (table.transpose(2, 0, 1), self.folding.data))
        return Folding(*(_alike(np.column_stack([own, row.reshape(len(own), -1)])) for row, own in rows))

    @property
    def words(self) -> str:
        """What was folded, for people."""
        ranks, pp = self.degrees.num_ranks, self.degrees.pp
        if self.num_units == ranks:
            return f"nothing folded: each of {ranks:,} ranks is simulated by itself"
        of_position = f"ranks of each of {pp} pipeline positions" if pp > 1 else "ranks"
        if self.per_position == 1:
            alike = f"the {ranks // pp:,} {of_position} do the same at the same time"
        else:
            alike = (
                f"the {ranks // pp:,} {of_position} are {self.per_position} classes, and those of a class do the same "
                "at the same time"
            )
        return f"{ranks:,} ranks folded to {self.num_units}: {alike}, so one is simulated for all"


@dataclass(frozen=True, slots=True)
class Class:
    """Groups that advance together: the units that they lie in, and their ranks, shape (groups, members)."""

    units: tuple[int, ...]
    groups: IntArray


class Communications:
    """Makes the communications of a step, each only once.

    Args:
        units: of the step.
    """

    def __init__(self, units: Units) -> None:
        self.units = units
        self._classes: dict[tuple[str, int], tuple[Class, ...]] = {}
        self._pairs: dict[tuple[int, int], tuple[Class, ...]] = {}
        self._made: dict[tuple[object, ...], Communication] = {}

    def classes(self, kind: str, position: int) -> tuple[Class, ...]:
        """The classes of groups of a kind at a pipeline position; none for groups of one rank."""
        key = (kind, position)
        if key not in self._classes:
            groups = np.array(self.units.groups.of(kind), dtype=np.int64)
            for at in range(self.units.degrees.pp):  # all positions at once: sorting a large world takes time
                here = np.isin(self.units.of_rank[groups[:, 0]], self.units.at(at))
                self._classes[kind, at] = self._split(groups[here]) if groups.shape[1] > 1 else ()
        return self._classes[key]

    def pairs(self, src: int, dst: int) -> tuple[Class, ...]:
        """The classes of pairs between two pipeline positions."""
        if (src, dst) not in self._pairs:
            pipelines = np.array(self.units.groups.of("pp"), dtype=np.int64)
            self._pairs[src, dst] = self._split(pipelines[:, [src, dst]])
        return self._pairs[src, dst]

    def _split(self, groups: IntArray) -> tuple[Class, ...]:
        units = np.sort(self.units.of_rank[groups], axis=1)
        kinds, of_group = np.unique(units, axis=0, return_inverse=True)
        return tuple(
            Class(tuple(sorted(set(row.tolist()))), groups[of_group.ravel() == number])
            for number, row in enumerate(kinds)
        )

    def transfer(self, name: str, of: Class, num_bytes: int) -> Communication:
        """From the first member of each group to the second."""
        key = (id(of), num_bytes, "transfer")
        if key not in self._made:
            self._made[key] = Transfer(of.groups, num_bytes, name)
        return self._made[key]

    def collective(self, name: str, of: Class, kind: str, size_bytes: int) -> Communication:
        """A collective of each group; its elements are counted as bytes."""
        key = (id(of), size_bytes, kind)
        if key not in self._made:
            self._made[key] = Collective(kind, of.groups, size_bytes, 1, name=name)
        return self._made[key]
