# SPDX-License-Identifier: Apache-2.0
"""Parallel groups: which ranks share a tensor, a sequence, experts, gradients or a pipeline.

The rank order is data: ``order`` lists the axes from the one whose neighbours are consecutive ranks to the one whose
neighbours are furthest apart. The default is Megatron's, "tp-cp-ep-dp-pp" (Megatron-LM core 0.12,
megatron/core/parallel_state.py, initialize_model_parallel; its docstring example with tp 2, dp 2, pp 4 is a test).

As in Megatron there are two meshes over the same ranks. Dense weights: tp x cp x dp x pp = all ranks. Expert weights:
tp x ep x edp x pp = all ranks, so ep takes its ranks from cp x dp and must divide it; edp, the expert-data-parallel
ranks that hold the same experts, is what remains.
"""

import re
from dataclasses import dataclass, field
from math import prod

import numpy as np

from commbench.errors import InputError

__all__ = ["DEFAULT_ORDER", "GROUP_KINDS", "Degrees", "ParallelGroups"]

AXES = ("tp", "cp", "ep", "dp", "pp")
DEFAULT_ORDER = "tp-cp-ep-dp-pp"
GROUP_KINDS = {
    "tp": "ranks that share the tensors of a layer",
    "cp": "ranks that share a sequence",
    "dp": "ranks with the same part of the model and other data",
    "dp-cp": "ranks that sum the gradients of dense weights",
    "pp": "ranks that hold the stages of one pipeline, in stage order",
    "tp-pp": "ranks that hold one whole replica of the model",
    "pp-ends": "first and last rank of one pipeline, which sum the gradients of a tied embedding",
    "ep": "ranks among which the experts of a layer are spread",
    "edp": "ranks that sum the gradients of the same experts",
}
"""Kinds of groups and what their ranks have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """How many ways the work is split along each axis.

    Attributes:
        tp: tensor. cp: context (sequence). ep: expert. dp: data, expert parallelism within it. pp: pipeline.
        order: the axes, nearest ranks first.

    Raises:
        InputError: a degree below 1, an order that does not name each axis once, or ep that does not divide cp x dp.
    """

    tp: int = 1
    cp: int = 1
    ep: int = 1
    dp: int = 1
    pp: int = 1
    order: str = DEFAULT_ORDER

    def __post_init__(self) -> None:
        for axis in AXES:
            if getattr(self, axis) < 1:
                raise InputError(f"degree {axis} = {getattr(self, axis)} must be at least 1")
        if sorted(self.order.split("-")) != sorted(AXES):
            raise InputError(
                f"rank order {self.order!r} must name each of {', '.join(AXES)} once, joined by '-' (--rank-order)"
            )
        if self.cp * self.dp % self.ep:
            raise InputError(
                f"ep {self.ep} does not divide cp x dp = {self.cp} x {self.dp} = {self.cp * self.dp}: experts are "
                "spread over the ranks that hold the same dense weights"
            )

    @property
    def num_ranks(self) -> int:
        """tp x cp x dp x pp; ep lies within cp x dp."""
        return self.tp * self.cp * self.dp * self.pp

    @property
    def edp(self) -> int:
        """Ranks that hold the same experts."""
        return self.cp * self.dp // self.ep

    def span(self, kind: str) -> tuple[int, int]:
        """Ranks of each group of a kind, see :meth:`ParallelGroups.of`, and how far apart they stand in the default
        order.

        Raises:
            KeyError: a kind whose ranks do not stand evenly.
        """
        whole, cut, part = _cut(kind)
        ranks, stride = {
            "tp": (self.tp, 1),
            "cp": (self.cp, self.tp),
            "ep": (self.ep, self.tp),
            "edp": (self.edp, self.tp * self.ep),
            "dp-cp": (self.dp * self.cp, self.tp),
            "pp-ends": (min(2, self.pp), self.tp * self.cp * self.dp),
        }[whole]
        if cut == "/":
            return part, stride
        return (ranks // part, stride * part) if cut else (ranks, stride)

    def check_ranks(self, num_ranks: int) -> None:
        """Raise unless the degrees multiply to the ranks there are.

        Raises:
            InputError: names the degrees, their product and the ranks.
        """
        if self.num_ranks != num_ranks:
            raise InputError(
                f"tp {self.tp} x cp {self.cp} x dp {self.dp} x pp {self.pp} = {self.num_ranks} ranks, "
                f"but there are {num_ranks}; the degrees must multiply to the ranks"
            )


def _cut(kind: str) -> tuple[str, str, int]:
    """A kind's name, and how and into what it is cut; nothing and 0 where it is whole."""
    whole, cut, part = re.split(r"([/%])", kind, maxsplit=1) if set("/%") & set(kind) else (kind, "", "0")
    return whole, cut, int(part)


@dataclass(frozen=True, eq=False)
class ParallelGroups:
    """The groups of a world of ``degrees.num_ranks`` ranks.

    Attributes:
        degrees: sizes and order.
    """

    degrees: Degrees
    _meshes: dict[bool, tuple[tuple[str, ...], np.ndarray]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_meshes", {expert: self._mesh(expert) for expert in (False, True)})

    def _mesh(self, expert: bool) -> tuple[tuple[str, ...], np.ndarray]:
        """Axis names, and the ranks as an array with those axes; the axis of nearest ranks comes last."""
        degrees = self.degrees
        sizes = {"tp": degrees.tp, "cp": degrees.cp, "ep": 1, "dp": degrees.dp, "pp": degrees.pp}
        if expert:
            sizes |= {"cp": 1, "ep": degrees.ep, "dp": degrees.edp}
        axes = tuple(reversed(degrees.order.split("-")))
        return axes, np.arange(prod(sizes.values())).reshape([sizes[axis] for axis in axes])

    def of(self, kind: str) -> tuple[tuple[int, ...], ...]:
        """All groups of a kind, ordered by their first rank; inside a group ranks ascend. "tp/n": the groups "tp",
        cut into parts of n neighbours; "tp%n": the ranks at the same place of each part.

        Raises:
            InputError: the kind is unknown; lists the known ones.
        """
        whole, cut, size = _cut(kind)
        if cut:
            if cut == "%":
                return tuple(one[i::size] for one in self.of(whole) for i in range(size))
            return tuple(one[i : i + size] for one in self.of(whole) for i in range(0, len(one), size))
        if kind not in GROUP_KINDS:
            raise InputError(f"group kind {kind!r} is unknown; known: {', '.join(GROUP_KINDS)}")
        if kind == "pp-ends":
            return tuple((group[0], *group[1:][-1:]) for group in self.of("pp"))
        axes, mesh = self._meshes[kind in ("ep", "edp")]
        wanted = {"dp" if axis == "edp" else axis for axis in kind.split("-")}
        inside = [i for i, axis in enumerate(axes) if axis in wanted]
        outside = [i for i, axis in enumerate(axes) if axis not in wanted]
        rows = mesh.transpose([*outside, *inside]).reshape(-1, prod(mesh.shape[i] for i in inside))
        return tuple(tuple(row) for row in sorted(rows.tolist()))

    def of_rank(self, kind: str, rank: int) -> tuple[int, ...]:
        """The group of a kind that a rank is in.

        Raises:
            InputError: the kind is unknown, or the rank is outside the world.
        """
        if not 0 <= rank < self.degrees.num_ranks:
            raise InputError(f"rank {rank} is outside the world 0..{self.degrees.num_ranks - 1}")
        return next(group for group in self.of(kind) if rank in group)

    def rank_at(self, *, tp: int = 0, cp: int = 0, dp: int = 0, pp: int = 0) -> int:
        """The rank at a place in the dense mesh.

        Raises:
            InputError: a coordinate outside its axis.
        """
        axes, mesh = self._meshes[False]
        place = {"tp": tp, "cp": cp, "ep": 0, "dp": dp, "pp": pp}
        for axis, size in zip(axes, mesh.shape, strict=True):
            if not 0 <= place[axis] < size:
                raise InputError(f"coordinate {axis} = {place[axis]} is outside 0..{size - 1}")
        return int(mesh[tuple(place[axis] for axis in axes)])

    def place_of(self, rank: int) -> dict[str, int]:
        """Coordinates (tp, cp, dp, pp) of a rank in the dense mesh.

        Raises:
            InputError: the rank is outside the world.
        """
        if not 0 <= rank < self.degrees.num_ranks:
            raise InputError(f"rank {rank} is outside the world 0..{self.degrees.num_ranks - 1}")
        axes, mesh = self._meshes[False]
        found = dict(zip(axes, (int(i) for i in np.unravel_index(rank, mesh.shape)), strict=True))
        return {axis: found[axis] for axis in ("tp", "cp", "dp", "pp")}
