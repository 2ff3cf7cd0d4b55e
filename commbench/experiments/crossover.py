# SPDX-License-Identifier: Apache-2.0
"""Which algorithm wins where: the race that options ask for, and who was left out of it."""

from collections.abc import Callable, Sequence
from typing import Any

from commbench.collectives.sizes import sweep
from commbench.collectives.spec import get_collective
from commbench.collectives.summary import algorithms_of
from commbench.errors import InputError
from commbench.experiments.collective import Sizes
from commbench.sim.crossover import SLICES, Crossover, crossover
from commbench.topology.load import load_fabric

__all__ = ["left_out", "race"]


def race(
    *,
    topology: str,
    collective: str,
    ranks: str | None,
    sizes: Sizes,
    algorithms: str | None,
    channels: str | None,
    slices: str | None,
    live_only: bool,
    advance: Callable[[float], None],
    **given: Any,
) -> list[Crossover]:
    """Simulate as the options of the same names say; ``advance`` hears the share that is done.

    Raises:
        InputError: an option that cannot be read or does not fit; names it.
    """
    fabric, collective = load_fabric(topology), get_collective(collective).name
    names = None if algorithms is None else [name.strip() for name in algorithms.split(",") if name.strip()]
    if live_only:
        live = [a.name for a in algorithms_of(collective) if a.live]
        names = live if names is None else [name for name in names if name in live]
    first, last, factor, step = sizes
    return crossover(
        fabric,
        collective,
        ranks=_world_sizes(ranks, fabric.num_ranks),
        sizes_bytes=sweep(first, last, factor=factor, step=step),
        algorithms=names,
        channels=None if channels is None else _counts("--channels", channels),
        slices=SLICES if slices is None else _counts("--slices", slices),
        progress=lambda done, total: advance(done / total),
        **given,
    )


def _world_sizes(text: str | None, most: int) -> list[int]:
    if text is None:
        return [2**k for k in range(1, most.bit_length()) if 2**k <= most] or [most]
    return _counts("--ranks", text)


def _counts(option: str, text: str) -> list[int]:
    try:
        return sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise InputError(f"{option} {text!r} must be whole numbers with commas between, such as 2,4,8") from None


def left_out(records: Sequence[Crossover]) -> list[str]:
    """Why algorithms were left out, and for which world sizes."""
    found: dict[tuple[str, str], list[int]] = {}
    for record in records:
        for name, reason in record.skipped.items():
            worlds = found.setdefault((name, reason), [])
            if record.ranks not in worlds:
                worlds.append(record.ranks)
    return [f"{name} left out for {', '.join(map(str, worlds))} ranks: {why}" for (name, why), worlds in found.items()]
