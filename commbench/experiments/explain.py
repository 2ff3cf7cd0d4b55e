# SPDX-License-Identifier: Apache-2.0
"""Why two results differ, term by term: what ``commbench explain A B`` and its page show."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.experiments.file import read_experiment
from commbench.experiments.simulated import CollectiveOptions, prepare
from commbench.experiments.step_options import simulate_options
from commbench.results.journal import read_records
from commbench.results.records import SCHEMA, Record
from commbench.results.terms import terms_ps
from commbench.units import format_bytes, seconds

__all__ = ["Explanation", "Term", "explain"]


@dataclass(frozen=True, slots=True)
class Term:
    """Picoseconds of a term in A and in B."""

    name: str
    a_ps: int
    b_ps: int

    @property
    def difference_ps(self) -> int:
        """B less A."""
        return self.b_ps - self.a_ps


@dataclass(frozen=True, slots=True)
class Explanation:
    """Two results and the terms of both: ``what`` both are, ``terms`` in the order of A, those of B alone last.

    Whole picoseconds: the terms add up to either time, and their differences to the difference, exactly.
    """

    what: str
    a: Record
    b: Record
    terms: tuple[Term, ...]

    @property
    def a_ps(self) -> int:
        """Time of A."""
        return sum(term.a_ps for term in self.terms)

    @property
    def b_ps(self) -> int:
        """Time of B."""
        return sum(term.b_ps for term in self.terms)

    @property
    def difference_ps(self) -> int:
        """B less A."""
        return self.b_ps - self.a_ps

    def to_json(self) -> str:
        """One JSON object; times in seconds."""
        terms = {t.name: {"a_s": seconds(t.a_ps), "b_s": seconds(t.b_ps), **_difference(t)} for t in self.terms}
        whole: dict[str, Any] = {"a_s": seconds(self.a_ps), "b_s": seconds(self.b_ps), **_difference(self)}
        return json.dumps({"kind": "explained", "schema": SCHEMA, "what": self.what, **whole, "terms": terms})


def _difference(of: Term | Explanation) -> dict[str, float]:
    return {"difference_s": seconds(of.difference_ps)}


def explain(a: Path, b: Path, tell: Callable[[str], None]) -> list[Explanation]:
    """Results of A beside those of B that are of the same kind, collective and size, in the order of A.

    Each file is a results file, or an experiment file, which is simulated; ``tell`` hears notes of that.

    Raises:
        InputError: a file has no results with terms, none of them has a partner, or a partner is not the only one.
    """
    first, second = (_with_terms(file, tell) for file in (a, b))
    pairs = []
    for key, records in first.items():
        others = second.get(key, [])
        if others and len(others) != len(records):
            raise InputError(
                f"{_what(records[0])}: {a} has {len(records)} such results and {b} {len(others)}; leave one of each"
            )
        pairs += list(zip(records, others, strict=bool(others)))
    if not pairs:
        of_a, of_b = ("; ".join(_what(records[0]) for records in found.values()) for found in (first, second))
        raise InputError(f"nothing to compare: {a} has {of_a}; {b} has {of_b}")
    return [_explained(*pair) for pair in pairs]


def _explained(a: Record, b: Record) -> Explanation:
    of_a, of_b = terms_ps(a), terms_ps(b)
    names = dict.fromkeys([*of_a, *of_b])
    return Explanation(_what(a), a, b, tuple(Term(name, of_a.get(name, 0), of_b.get(name, 0)) for name in names))


def _with_terms(file: Path, tell: Callable[[str], None]) -> dict[tuple[object, ...], list[Record]]:
    """The results of a file that have terms, by what they are of.

    Raises:
        InputError: there are none.
    """
    simulated = file.suffix in (".yaml", ".yml")
    found: dict[tuple[object, ...], list[Record]] = {}
    for record in _simulated(file, tell) if simulated else read_records(file):
        if terms_ps(record):
            found.setdefault(_key(record), []).append(record)
    if not found:
        raise InputError(
            f"{file}: no result in it has terms; those of `commbench sim COLLECTIVE --explain --out FILE`, of `sim "
            "train`, and of `run pipeline` and `run tensor-parallel` have"
        )
    return found


def _key(record: Record) -> tuple[object, ...]:
    return (record.kind, getattr(record, "collective", ""), getattr(record, "size_bytes", 0))


def _what(record: Record) -> str:
    kind, collective, size = _key(record)
    return f"{collective} of {format_bytes(float(str(size)))}" if collective else str(kind)


def _simulated(file: Path, tell: Callable[[str], None]) -> Sequence[Record]:
    """Every run of an experiment file, with its terms."""
    records: list[Record] = []
    for options, members in groupby(read_experiment(file), key=lambda run: run.options):
        if isinstance(options, CollectiveOptions):
            case = prepare(options, [run.sizes for run in members], tell)
            records += [case.run(size, explain=True).record for size in case.sizes_bytes]
        else:
            records.append(simulate_options(options))
    return records
