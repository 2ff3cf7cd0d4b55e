# SPDX-License-Identifier: Apache-2.0
"""What a validation measures, here or on emulated fabrics, and what is kept of it."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commbench.results.records import Measured, Record

__all__ = ["Part", "circumstances", "keep", "measure_here", "measure_in_fabrics"]


class Part(StrEnum):
    """How much of the emulated campaign."""

    ALL = "all"
    SMOKE = "smoke"
    WIDE = "wide"


def measure_here(
    min_bytes: str, max_bytes: str, factor: float, iters: int, out: Path, tell: Callable[[str], None]
) -> "list[Measured]":
    """The legs of the validation on live ranks of this machine."""
    from commbench.collectives.sizes import sweep
    from commbench.live.ending import end_in_order
    from commbench.validate.campaign import LEGS, measure_legs

    end_in_order()
    return measure_legs(LEGS, sweep(min_bytes, max_bytes, factor=factor), out=out, iters=iters, tell=tell)


def measure_in_fabrics(part: Part | str, out: Path, tell: Callable[[str], None]) -> "list[Measured]":
    """The emulated campaign, a part of it, or a topology of one's own (name or path) and what is needed to fit, on
    fabrics of network namespaces; goes on where it stopped. Returns all points of a campaign that ``out`` holds."""
    from commbench.emulate.privilege import gain
    from commbench.live.ending import end_in_order

    gain()  # first of all: what is imported below may start threads
    end_in_order()
    from commbench.topology.load import load_fabric
    from commbench.validate.lab_runs import measure_in_labs
    from commbench.validate.legs import CAMPAIGN, FIT_LEGS, SMOKE, legs_on
    from commbench.validate.wide_legs import WIDE

    if isinstance(part, Part):
        legs = {Part.ALL: (*CAMPAIGN, *WIDE), Part.SMOKE: SMOKE, Part.WIDE: (*FIT_LEGS, *WIDE)}[part]
    else:
        legs = (*FIT_LEGS, *legs_on(part, load_fabric(part).num_hosts))
    return measure_in_labs(legs, out, tell=tell)


def keep(records: "Sequence[Record]", journal: Path) -> None:
    """Write what is derived from the runs, anew each time."""
    from commbench.results.journal import Journal

    journal.unlink(missing_ok=True)
    for record in records:
        Journal(journal).append(record)


def circumstances(records: "Sequence[Measured]") -> list[str]:
    """On what and when it was measured, for the page."""
    where = {
        f"{e['cpu_model']}, {e['cores_usable']} cores, Linux {e['kernel']}, torch {e['torch']}"
        for e in (record.environment for record in records)
        if {"cpu_model", "cores_usable", "kernel", "torch"} <= e.keys()
    }
    loads = [record.environment["load_1min"] for record in records if record.environment.get("load_1min")]
    times = sorted(record.started_at for record in records)
    found = [f"Measured on {each}." for each in sorted(where)]
    if loads:
        found.append(f"Load average while it was measured: {min(loads):.1f} to {max(loads):.1f}.")
    return [*found, f"{len(records)} records, from {times[0]} to {times[-1]}."]
