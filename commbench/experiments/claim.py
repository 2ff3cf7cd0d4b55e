# SPDX-License-Identifier: Apache-2.0
"""A claim in an experiment file: what somebody says, which quantity of the runs decides it, and within which bounds.

::

    claim:
      says: GPT-3 is trained on 10,000 V100 in a month
      source: where it was read
      quantity: days
      tokens: 300e9
      at-most: 31

The verdict is computed from the records of the file's runs: ``holds``, ``does not hold``, or, where a speed of the GPUs
would make it hold, ``holds if`` they reached that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from commbench.errors import InputError, unknown
from commbench.experiments.reader import read_keys
from commbench.results.records import Simulated
from commbench.results.steps import SimulatedStep
from commbench.units import format_bytes
from commbench.workload.groups import GROUP_KINDS, Degrees, ParallelGroups
from commbench.yaml_reader import problems_text, read_yaml

__all__ = ["Claim", "read_claim", "verdict"]

Record = Simulated | SimulatedStep
DAY_S = 86400.0
OF = ("each", "ratio", "growth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed.

    Attributes:
        says, source: the claim, and where it stands.
        quantity: one of QUANTITIES. of: "each" run's, the "ratio" of the last run's to the first's, or the "growth",
            each run's over that of the run before.
        at_least, at_most: bounds, one of them at least.
        tokens: of a whole training. days: in which it is to be done.
        groups: ranks of the groups of a kind, for the quantity "groups"; any order of groups.
    """

    says: str
    source: str
    quantity: str
    of: str = "each"
    at_least: float | None = None
    at_most: float | None = None
    tokens: float | None = None
    days: float | None = None
    groups: Mapping[str, Any] | None = None

    def allows(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and (high is None or value <= high)

    @property
    def bounds(self) -> str:
        """For people, such as "at least 90 and at most 100"."""
        named = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {_shown(value)}" for word, value in named if value is not None)


def _time(claim: Claim, record: Record) -> float:
    return record.iteration_s if isinstance(record, SimulatedStep) else record.time_s


def _step(record: Record) -> SimulatedStep:
    if not isinstance(record, SimulatedStep):
        raise InputError("claim.quantity: needs training steps, not collectives; the quantity time takes both")
    return record


def _days(claim: Claim, record: Record) -> float:
    step = _step(record)
    return step.iteration_s * _asked(claim, "tokens") / (step.global_batch * step.sequence) / DAY_S


def _gpus(claim: Claim, record: Record) -> float:
    return _step(record).ranks * _days(claim, record) / _asked(claim, "days")


def _flops(claim: Claim, record: Record) -> float:
    step = _step(record)
    whole = step.model_flops * _asked(claim, "tokens") / (step.global_batch * step.sequence)
    return whole / (_asked(claim, "days") * DAY_S)


def _used(record: SimulatedStep) -> int:
    return sum(record.memory_bytes.values()) + record.margin_bytes


def _memory(claim: Claim, record: Record) -> float:
    return _used(_step(record)) / _step(record).capacity_bytes


def _replica(claim: Claim, record: Record) -> float:
    step = _step(record)
    return float(sum(sum(use.values()) for use in step.memory_by_position) * step.tp * step.cp)


def _hidden(claim: Claim, record: Record) -> float:
    """How many times as fast a step would be whose communication were all hidden."""
    step = _step(record)
    spent = sum(step.time_s.get(kind, 0.0) for kind in step.exposed_s)
    return step.iteration_s / (step.iteration_s - spent)


def _bound(claim: Claim, record: Record) -> float:
    if isinstance(record, SimulatedStep):
        raise InputError("claim.quantity over-bound: needs collectives, not training steps")
    if not record.lower_bound_s:
        raise InputError(f"claim.quantity over-bound: {record.collective} has no least time")
    return record.time_s / record.lower_bound_s


def _replica_gpus(claim: Claim, record: Record) -> float:
    return _step(record).ranks / _step(record).dp


QUANTITIES: Mapping[str, tuple[Callable[[Claim, Record], float], str]] = {
    "time": (_time, "s"),
    "days": (_days, "days"),
    "gpus": (_gpus, "GPUs"),
    "flops": (_flops, "FLOP/s"),
    "memory": (_memory, "of a device's memory"),
    "replica-memory": (_replica, "bytes on the GPUs of one replica"),
    "replica-gpus": (_replica_gpus, "GPUs in a replica"),
    "without-communication": (_hidden, "times as fast with all communication hidden"),
    "over-bound": (_bound, "of the least possible time"),
}
"""What is taken of a run, and in which unit; "groups" compares lists instead."""


def read_claim(file: Path) -> Claim | None:
    """The claim of an experiment file; None where it has none.

    Raises:
        InputError: a key or value of it breaks a rule; names file and line.
    """
    document = read_yaml(file, InputError, example="cluster: star-8")
    given = document.data.get("claim")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InputError(f"{file}, line {document.line(['claim'])}: claim must be a mapping: says, source, quantity")
    problems: list[tuple[tuple[str | int, ...], str]] = []
    plain = {key: value for key, value in given.items() if key != "groups"}
    values = read_keys(Claim, (((("claim", key)), value) for key, value in plain.items()), problems)
    values["groups"] = given.get("groups")
    missing = [name for name in ("says", "source", "quantity") if name not in values and name not in given]
    if missing:
        problems.append((("claim",), f"{', '.join(missing)} must be given"))
    if not problems:
        problems += [(("claim", key), why) for key, why in _wrong(Claim(**values))]
    if problems:
        raise InputError(problems_text(str(file), [(document.line(path), problem) for path, problem in problems]))
    return Claim(**values)


def _wrong(claim: Claim) -> list[tuple[str, str]]:
    """(key, why) of values that are none."""
    found = []
    if claim.quantity not in (*QUANTITIES, "groups"):
        found.append(("quantity", f"quantity {claim.quantity!r} {unknown(claim.quantity, [*QUANTITIES, 'groups'])}"))
    if claim.of not in OF:
        found.append(("of", f"of {claim.of!r} {unknown(claim.of, OF)}"))
    if claim.quantity == "groups":
        if not _are_groups(claim.groups):
            found.append(("quantity", f"groups must have lists of lists of ranks by kind: {', '.join(GROUP_KINDS)}"))
    elif claim.bounds == "":
        found.append(("quantity", "at-least or at-most must be given"))
    needs = {"days": ("tokens",), "gpus": ("tokens", "days"), "flops": ("tokens", "days")}.get(claim.quantity, ())
    for key in needs:
        if not (getattr(claim, key) or 0) > 0:
            found.append(("quantity", f"quantity {claim.quantity} needs {key} above 0"))
    return found


def _are_groups(given: object) -> bool:
    """Whether these are lists of lists of ranks by kinds of groups."""
    if not isinstance(given, dict) or not given or not set(given) <= set(GROUP_KINDS):
        return False
    return all(
        isinstance(lists, list)
        and all(isinstance(group, list) and all(type(rank) is int for rank in group) for group in lists)
        for lists in given.values()
    )


def _asked(claim: Claim, key: str) -> float:
    value = getattr(claim, key)
    assert value is not None
    return float(value)


def verdict(claim: Claim, records: Sequence[Record]) -> str:
    """One line: whether the claim holds, with the figures.

    Raises:
        InputError: the quantity is not one of these runs, or there are too few of them.
    """
    if claim.quantity == "groups":
        return _groups_verdict(claim, _step(records[0]))
    measure, unit = QUANTITIES[claim.quantity]
    values = [measure(claim, record) for record in records]
    if claim.of != "each":
        if len(values) < 2:
            raise InputError(f"claim.of {claim.of}: needs two runs, there is one")
        pairs = [(values[0], values[-1])] if claim.of == "ratio" else list(pairwise(values))
        if not all(before for before, _ in pairs):
            raise InputError(f"claim.of {claim.of}: the {claim.quantity} of a run is 0, of which there is no ratio")
        values, unit = [after / before for before, after in pairs], f"times the {claim.quantity}"
        return _line(claim, values, unit, "")
    if claim.quantity == "days":
        return _line(claim, values, unit, _needed(claim, values, [_step(record) for record in records]))
    return _line(claim, values, unit, _runs(claim, values, records))


def _line(claim: Claim, values: Sequence[float], unit: str, condition: str) -> str:
    held = all(claim.allows(value) for value in values)
    figures = ", ".join(_shown(value) for value in values)
    word = "holds" if held else f"holds {condition}" if condition else "does not hold"
    return f"{word}: simulated {figures} {unit}, claimed {claim.bounds}"


def _needed(claim: Claim, values: Sequence[float], steps: Sequence[SimulatedStep]) -> str:
    """The speed of a GPU with which the days of the first run would be those claimed; "" where none has it."""
    if all(claim.allows(value) for value in values):
        return ""
    value, step = values[0], steps[0]
    wanted = claim.at_most if claim.at_most is not None and value > claim.at_most else claim.at_least
    assert wanted is not None
    mfu = step.mfu * value / wanted
    if mfu > 1:
        return ""
    reached, peak = step.mfu * step.peak_flops / 1e12, step.peak_flops / 1e12
    return f"if a GPU reaches {mfu * peak:.3g} of its {peak:.0f} TFLOP/s ({mfu:.0%}; simulated {reached:.3g})"


def _runs(claim: Claim, values: Sequence[float], records: Sequence[Record]) -> str:
    """Of several runs those for which it holds; "" where there are none, or one run alone."""
    names = [
        record.model if isinstance(record, SimulatedStep) else f"{format_bytes(record.size_bytes)} on {record.topology}"
        for record, value in zip(records, values, strict=True)
        if claim.allows(value)
    ]
    return f"for {', '.join(names)} alone" if names and len(names) < len(values) else ""


def _groups_verdict(claim: Claim, step: SimulatedStep) -> str:
    """Whether the groups are those claimed, in any order."""
    assert claim.groups is not None
    degrees = Degrees(tp=step.tp, cp=step.cp, ep=step.ep, dp=step.dp, pp=step.pp)
    own = ParallelGroups(degrees)
    wrong, counts = [], []
    for kind, lists in claim.groups.items():
        there = own.of(kind)
        counts.append(f"{len(there)} {kind}")
        if sorted(map(tuple, lists)) != sorted(there):
            wrong.append(f"{kind} groups are {' '.join(str(list(group)) for group in there)}")
    words = f"of {degrees.num_ranks} ranks, tp {step.tp} pp {step.pp} dp {step.dp}"
    return f"does not hold {words}: {'; '.join(wrong)}" if wrong else f"holds {words}: {', '.join(counts)} groups"


def _shown(value: float) -> str:
    """Three digits, thousands apart."""
    if value >= 1e7 or 0 < value < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


