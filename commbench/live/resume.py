# SPDX-License-Identifier: Apache-2.0
"""A run that goes on in the file of an earlier one: which run that is, and which of its sizes are there already.

What is there counts only if it is what would be measured now: same definition, same machine, same software.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commbench.collectives.text import digest
from commbench.errors import InputError
from commbench.live.plan import Plan
from commbench.live.session import Session
from commbench.results.journal import read_records
from commbench.results.records import Measured

__all__ = ["done_before"]

_ASKED = ("ranks", "algorithm", "dtype", "root", "channels", "slices", "group", "timing", "weights", "cold_cache")
_SETTINGS = ("hosts", "cpu_model", "gpu", "torch", "nccl", "commbench")


def done_before(plan: Plan, session: Session) -> frozenset[tuple[int, bool | None]]:
    """Sizes and placements of the plan that its run has in its file already; the same on every rank.

    Raises:
        InputError: the file cannot be read, or holds what this run would not measure; on every rank.
    """
    done = session.control.tell(lambda: [(r.size_bytes, r.in_place) for r in _alike(plan, session)])
    return frozenset(done)


def _alike(plan: Plan, session: Session) -> list[Measured]:
    """Records of the run, held to what this one would measure."""
    records = read_records(plan.out, salvage=True)
    found = [r for r in records if isinstance(r, Measured) and (r.run, r.collective) == (plan.run, plan.collective)]
    for record in found:
        _require_alike(plan.out, _of_record(record), _of_plan(plan, session, record), record)
    return found


def _require_alike(path: Path, before: dict[str, Any], now: dict[str, Any], record: Measured) -> None:
    for name, value in before.items():
        if value != now[name]:
            raise InputError(
                f"--resume: {path} has {record.collective} of {record.size_bytes} B measured with {name} "
                f"{_shown(value)}, not {_shown(now[name])}; go on as it was begun, or give another --out"
            )


def _of_record(record: Measured) -> dict[str, Any]:
    names = (*_ASKED, "graphed")
    found: dict[str, Any] = {name: getattr(record, name) for name in (*names, "op", "backend", "launcher", "schedule")}
    return found | {name: record.environment.get(name) for name in _SETTINGS}


def _of_plan(plan: Plan, session: Session, record: Measured) -> dict[str, Any]:
    """The same of what would be measured at the record's size."""
    found: dict[str, Any] = {name: getattr(plan, name) for name in _ASKED} | {"graphed": plan.graphed}
    facts, known = session.facts, record.size_bytes in plan.sizes_bytes
    schedule = plan.schedule_for(record.size_bytes, record.in_place) if known else None
    found |= {"op": plan.recorded_op, "backend": facts.backend, "launcher": facts.launcher}
    found["schedule"] = record.schedule if not known else "" if schedule is None else digest(schedule)
    return found | {name: facts.environment.get(name) for name in _SETTINGS}


def _shown(value: Any) -> str:
    items: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    return ", ".join(dict.fromkeys(map(str, items)))[:80] or "none"
