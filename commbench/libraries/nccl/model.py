# SPDX-License-Identifier: Apache-2.0
"""The whole answer: what NCCL takes on a machine, and how long; for many sizes at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from commbench.libraries.nccl.graph import Graphs, graphs_of
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.tables import Tables, tables_of
from commbench.libraries.nccl.timing import PLUGINS, CallShape, names_of, shape_of, time_of
from commbench.libraries.nccl.tuning import Cost, costs_of, formula_us, passed_on

__all__ = ["NcclCall", "Option", "call_of", "chosen"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate at some sizes: its cost, NCCL's own estimate in us, and the shape of its time."""

    cost: Cost | None
    formula_us: FloatArray
    shape: CallShape


@dataclass(frozen=True, slots=True)
class NcclCall:
    """A collective at some sizes on a machine, before any constant is known."""

    machine: NcclMachine
    graphs: Graphs
    options: tuple[Option, ...]


@lru_cache(maxsize=256)
def _graphs(machine: NcclMachine) -> tuple[Graphs, Tables]:
    tables = tables_of(machine.version)
    return graphs_of(machine, tables), tables


def call_of(
    machine: NcclMachine, kind: str, sizes: Sequence[float] | FloatArray, dtype: str = "float32", redop: str = "sum"
) -> NcclCall:
    """All candidates of a collective."""
    graphs, tables = _graphs(machine)
    at = np.asarray(sizes, dtype=np.float64)
    element = 1 if dtype in ("int8", "uint8") else 4
    if kind.startswith("all-to-all"):
        return NcclCall(
            machine, graphs, (Option(None, np.zeros_like(at), shape_of(None, machine, graphs, kind, at, 4)),)
        )
    costs = costs_of(machine, graphs, tables, kind, dtype, redop)
    new = tables_of("2.30")
    newest = {(c.algorithm, c.protocol): c for c in costs_of(machine, graphs, new, kind, dtype, redop)}
    if machine.nodes > 1 and machine.network in PLUGINS:
        costs = tuple(cost for cost in costs if cost.protocol == "Simple")
    clocks = [newest.get((cost.algorithm, cost.protocol), cost) for cost in costs]
    options = tuple(
        Option(
            cost,
            formula_us(cost, at, machine, graphs, tables, kind),
            shape_of(passed_on(clock, machine, graphs, new, kind), machine, graphs, kind, at, element),
        )
        for cost, clock in zip(costs, clocks, strict=True)
    )
    return NcclCall(machine, graphs, options)


def chosen(call: NcclCall, constants: Mapping[str, float]) -> npt.NDArray[np.int64]:
    """Number of the option that is taken at each size: NCCL's formula decides, with a plugin the time itself."""
    if call.machine.nodes > 1 and call.machine.network in PLUGINS:
        shapes = [option.shape for option in call.options]
        if all(name in constants for shape in shapes for name in names_of(shape)):
            return np.asarray(np.argmin([time_of(shape, constants) for shape in shapes], axis=0))
    return np.asarray(np.argmin([option.formula_us for option in call.options], axis=0))
