# SPDX-License-Identifier: Apache-2.0
"""What a page says in words: what ran where and when, and where every number came from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from commbench.report.identity import base_name
from commbench.report.tables import Table, word_cell
from commbench.report.text import plural, shortened, size_range
from commbench.results.records import Compared, Measured, Record, Simulated
from commbench.results.reported import Reported
from commbench.tables import Column
from commbench.units import format_bytes

if TYPE_CHECKING:
    from commbench.topology.fabric import Fabric
    from commbench.topology.model import Quantity

__all__ = [
    "MOST_RUNS",
    "Fact",
    "Number",
    "RunFacts",
    "environment_rows",
    "environment_tables",
    "numbers",
    "provenance_counts",
    "run_facts",
    "sample_facts",
]

MOST_RUNS = 4
"""Runs whose environments stand side by side, and that are named above the page's sections."""
_LONGEST = 300  # letters of a fact on the page; the records have it whole
_BYTES_KEYS = frozenset({"memory_bytes"})


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is known under it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """One input number: key, value with unit, provenance word, source, and the topology or fit it belongs to."""

    name: str
    text: str
    provenance: str
    source: str
    owner: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Raw sample facts of the sizes that one run measured alike."""

    run: str
    what: str
    sizes: str
    iterations: str
    warmups: str
    timing: str
    wrong: str
    tone: str


def run_facts(records: Sequence[Record]) -> list[Fact]:
    """What was run, where and when."""
    kinds = ((Measured, "Measured"), (Simulated, "Simulated"), (Reported, "Reported"), (Compared, "Compared"))
    points = {name: [r for r in records if isinstance(r, kind)] for kind, name in kinds}
    facts = _merged([Fact(name, _what(members)) for name, members in points.items() if members])
    measured = [r for r in records if isinstance(r, Measured)]
    hosts = _distinct(host for r in measured for host in _hosts(r.environment))
    topologies = _distinct(r.topology for r in records if isinstance(r, Simulated | Compared))
    if hosts:
        facts.append(Fact("Machine" if len(hosts) == 1 else "Machines", _some(hosts)))
    if topologies:
        facts.append(Fact("Fabric" if len(topologies) == 1 else "Topologies", _some(topologies)))
    started = sorted(r.started_at for r in measured)
    if started:
        facts.append(Fact("When", _when(started[0], started[-1])))
    return facts


def _merged(facts: Sequence[Fact]) -> list[Fact]:
    """Facts of the same text as one."""
    names: dict[str, list[str]] = {}
    for fact in facts:
        names.setdefault(fact.text, []).append(fact.name)
    return [
        Fact("What", f"{text}; {', '.join(same).lower()}") if len(same) > 1 else Fact(same[0], text)
        for text, same in names.items()
    ]


def _when(first: str, last: str) -> str:
    """Two times of ISO 8601 as one readable span; as they stand if they are not."""
    try:
        begin, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    except ValueError:
        return " to ".join(_distinct((first, last)))
    zone = begin.strftime("%Z") or "zone not told"
    if begin.date() == end.date() and begin.utcoffset() == end.utcoffset():
        return f"{begin:%Y-%m-%d}, {' to '.join(_distinct((f'{begin:%H:%M}', f'{end:%H:%M}')))} ({zone})"
    return f"{begin:%Y-%m-%d %H:%M} ({zone}) to {end:%Y-%m-%d %H:%M} ({end.strftime('%Z') or 'zone not told'})"


def _what(points: Sequence[Any]) -> str:
    collectives = ", ".join(_distinct(p.collective for p in points))
    algorithms = ", ".join(_distinct(base_name(p) if isinstance(p, Reported) else p.algorithm for p in points))
    ranks = ", ".join(str(n) for n in sorted({p.ranks for p in points}))
    return f"{collectives} ({algorithms}); {ranks} ranks; {size_range([p.size_bytes for p in points])}"


def _hosts(environment: Mapping[str, Any]) -> list[str]:
    name = environment.get("hostname")
    return [str(host) for host in environment.get("hosts") or ([name] if name else [])]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _some(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def numbers(topologies: Sequence["Fabric"], calibration: Mapping[str, "Quantity"] | None) -> list[Number]:
    """Every input number with its origin: the calibration's first, then those of each topology."""
    owned = [("calibration", calibration or {}), *((t.name, t.numbers) for t in topologies)]
    return [
        Number(name, q.text, str(q.provenance), q.source, owner)
        for owner, quantities in owned
        for name, q in quantities.items()
    ]


def provenance_counts(found: Sequence[Number]) -> list[tuple[str, int]]:
    """How many numbers came from where, in order of first appearance."""
    words = _distinct(n.provenance for n in found)
    return [(word, sum(n.provenance == word for n in found)) for word in words]


def sample_facts(records: Sequence[Record]) -> list[RunFacts]:
    """Per run and algorithm: iterations, warm-ups, timing mode, wrong values."""
    groups: dict[tuple[object, ...], list[Measured]] = {}
    for r in records:
        if isinstance(r, Measured):
            groups.setdefault(
                (r.run, r.collective, r.algorithm, r.slices, r.ranks, r.timing, r.dtype, r.op), []
            ).append(r)
    return [_run_facts(members) for members in groups.values()]


def _run_facts(members: Sequence[Measured]) -> RunFacts:
    first = members[0]
    slices = f", {first.slices} slices" if first.slices > 1 else ""
    checked = [m.wrong for m in members if m.wrong is not None]
    unchecked = len(members) - len(checked)
    wrong = f"{sum(checked):,} in {plural(len(checked), 'size')}" if checked else ""
    wrong += f"{', ' if checked else ''}{unchecked} not checked" if unchecked else ""
    return RunFacts(
        run=first.run,
        what=f"{first.collective}, {first.algorithm}{slices}, {plural(first.ranks, 'rank')}, {first.dtype} {first.op}",
        sizes=size_range([m.size_bytes for m in members]),
        iterations=_spanned(len(m.slowest_s) for m in members),
        warmups=_spanned(len(m.warmup_s[0]) if m.warmup_s else 0 for m in members),
        timing=first.timing,
        wrong=wrong,
        tone="bad" if sum(checked) else "",
    )


def _spanned(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def environment_rows(records: Sequence[Record]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(runs, rows): for each fact about the machines and software, its text in every run, in order of the runs."""
    runs = {r.run: r for r in reversed(records) if isinstance(r, Measured)}  # the first record of each run stays
    described = {run: _described(runs[run]) for run in reversed(runs)}
    keys = _distinct(key for facts in described.values() for key in facts)
    rows = [(key, [facts.get(key, "not recorded") for facts in described.values()]) for key in keys]
    return list(described), rows


def environment_tables(records: Sequence[Record]) -> list[Table]:
    """The environment of runs that are too many to stand side by side: what all share, and a row for each run."""
    runs, rows = environment_rows(records)
    if len(runs) <= MOST_RUNS:
        return []
    shared = tuple((name, texts[0]) for name, texts in rows if len(set(texts)) == 1)
    differing = [(name, texts) for name, texts in rows if len(set(texts)) > 1]
    columns = (Column("run", numeric=False), *(Column(name, numeric=False) for name, _ in differing))
    cells = tuple(
        (word_cell(run), *(word_cell(texts[number]) for _, texts in differing)) for number, run in enumerate(runs)
    )
    return [Table("environments", "Environment of the runs", shared, columns, cells)]


def _described(record: Measured) -> dict[str, str]:
    facts = {"started": record.started_at, "backend": record.backend, "launcher": record.launcher}
    for key, value in record.environment.items():
        facts[key.replace("_", " ").removesuffix(" bytes")] = _plain(key, value)
    return facts


def _plain(key: str, value: object) -> str:
    if value is None:
        return "not told"
    if key in _BYTES_KEYS and isinstance(value, int | float):
        return format_bytes(value)
    if isinstance(value, Mapping):
        return shortened(", ".join(f"{k}={v}" if not isinstance(v, Mapping) else f"{k}: {_plain(key, v)}"
                                   for k, v in value.items()) or "none", _LONGEST)  # fmt: skip
    if isinstance(value, list | tuple):
        counted = {str(v): sum(w == v for w in value) for v in value}
        return _some([f"{name} × {count}" if count > 1 else name for name, count in counted.items()])
    return f"{value:.4g}" if isinstance(value, float) else str(value)
