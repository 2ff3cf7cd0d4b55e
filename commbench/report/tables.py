# SPDX-License-Identifier: Apache-2.0
"""Records as table rows: what is shown, and the raw value that sorting uses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commbench.report.identity import NOTHING, base_name, identity, labels
from commbench.report.kinds import FIELDS
from commbench.report.text import decimals_for, percent, plural, signed_percent, time_parts
from commbench.results.judged import FAST, OK, UNKNOWN, Judged
from commbench.results.records import Compared, Measured, Record, Simulated, Summary
from commbench.results.reported import Reported
from commbench.tables import Column
from commbench.units import GB, format_bytes, rate_unit

__all__ = [
    "Cell",
    "Column",
    "Field",
    "Table",
    "bytes_cell",
    "compared_table",
    "count_cell",
    "error_cell",
    "filled_table",
    "group_table",
    "identity_fields",
    "job_table",
    "judged_table",
    "link_table",
    "make_table",
    "measured_table",
    "named_sizes",
    "reported_table",
    "share_cell",
    "simulated_table",
    "size_columns",
    "time_cell",
    "word_cell",
    "wrong_cell",
]

_LONG = 44  # letters of a cell, beyond which its words go over several lines


@dataclass(frozen=True, slots=True)
class Cell:
    """One field: ``text`` and ``unit`` are shown, ``sort`` is the raw value, in ``raw_unit`` if it has one.

    ``bar`` from -1 to 1 draws a bar.
    """

    text: str
    sort: float | str
    unit: str = ""
    tone: str = ""
    bar: float | None = None
    raw_unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What the template draws; ``name`` is unique on the page, ``common`` is what all rows share."""

    name: str
    title: str
    common: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def csv_heads(self) -> tuple[str, ...]:
        """A heading for raw values, column by column: "time median (s)"."""
        units = [next((row[i].raw_unit for row in self.rows if row[i].raw_unit), "") for i in range(len(self.columns))]
        return tuple(_csv_head(column, unit) for column, unit in zip(self.columns, units, strict=True))


def _csv_head(column: Column, unit: str) -> str:
    under = "" if column.under.endswith("B/s") else column.under  # the unit of what is shown
    return f"{column.title} {under}".strip() + (f" ({unit})" if unit else "")


def word_cell(text: str) -> Cell:
    """Words, sorted as they read; long ones go over several lines."""
    return Cell(text, text, tone="long" if len(text) > _LONG else "")


def count_cell(value: int) -> Cell:
    """A whole number: "1,024"."""
    return Cell(f"{value:,}", value)


def bytes_cell(num_bytes: float) -> Cell:
    """An amount of memory or data in bytes: "16" "MiB"."""
    number, unit = format_bytes(num_bytes).split(" ")
    return Cell(number, num_bytes, unit, raw_unit="B")


def time_cell(time_s: float) -> Cell:
    """Seconds, with four digits: "9.500" "ms"; less than none with a true minus sign."""
    number, unit = time_parts(time_s)
    return Cell(number.replace("-", "\N{MINUS SIGN}"), time_s, unit, raw_unit="s")


def share_cell(share: float, tone: str = "") -> Cell:
    """A part of a whole, 1 for all of it: "4.1 %"."""
    return Cell(percent(share), share, tone=tone)


def wrong_cell(count: int | None) -> Cell:
    """How many values were wrong; None where nobody looked."""
    if count is None:
        return Cell("not checked", -1, tone="muted")
    return Cell(f"{count:,}", count, tone="bad" if count else "")


def error_cell(error: float, reach: float) -> Cell:
    """A signed error with its bar, which is full at ``reach``: "+4.1 %"."""
    return Cell(signed_percent(error), error, bar=error / reach)


Field = tuple[Column, Callable[[Any], Cell]]
"""A column and what makes its cell of a record."""


def make_table(name: str, title: str, records: Sequence[Record], fields: Sequence[Field]) -> Table | None:
    """One row per record; None without records."""
    return filled_table(name, title, records, fields) if records else None


def filled_table(
    name: str, title: str, records: Sequence[Any], fields: Sequence[Field], common: tuple[tuple[str, str], ...] = ()
) -> Table:
    """One row per record, or whatever else the fields are of; ``common`` is told above the table."""
    filled = [(column, [make(record) for record in records]) for column, make in fields]
    folded = [column.folds and len({cell.sort for cell in cells}) == 1 for column, cells in filled]
    told = tuple(
        (c.title, cells[0].text) for (c, cells), out in zip(filled, folded, strict=True) if out and cells[0].sort != ""
    )
    kept = [pair for pair, out in zip(filled, folded, strict=True) if not out]
    rows = zip(*(cells for _, cells in kept), strict=True)
    return Table(name, title, (*common, *told), tuple(column for column, _ in kept), tuple(rows))


def _rates(points: Sequence[Measured] | Sequence[Reported] | Sequence[Simulated]) -> list[Field]:
    """Both bandwidths, in the unit in which the fastest reads well."""
    found = [rate for p in points for rate in (p.algbw_GBps, p.busbw_GBps) if rate is not None]
    factor, unit = rate_unit(GB * max(found, default=0.0))

    def field(name: str) -> Field:
        def cell(point: Any) -> Cell:
            rate = getattr(point, f"{name}_GBps")
            if rate is None:
                return Cell("n/a", -1, tone="muted")
            return Cell(f"{rate * GB / factor:.{places}f}", rate, raw_unit="GB/s")

        places = decimals_for([rate * GB / factor for rate in found])
        return Column(name, unit), cell

    return [field("algbw"), field("busbw")]


def identity_fields(kind: type[Record], *, without: Sequence[str] = ()) -> list[Field]:
    """A column for everything that tells two records of a kind apart; what all rows share is told above the table."""
    return [_identity_field(name) for name in FIELDS[kind] if name not in without]


def _identity_field(name: str) -> Field:
    def cell(record: Any) -> Cell:
        value, text = getattr(record, name, None), identity(record)[name]
        if name in _NUMBERS and isinstance(value, int) and text:
            return Cell(f"{value:,}" if text == str(value) else text, value)
        shown = base_name(record) if name == "algorithm" else text
        return word_cell(shown) if shown else Cell(NOTHING.get(name, "\N{EN DASH}"), shown, tone="muted")

    return Column(name.replace("_", " "), numeric=name in _NUMBERS, folds=True), cell


_NUMBERS = frozenset(
    [
        *("ranks", "channels", "slices", "group", "root", "element_bytes", "seed", "tp", "cp", "ep", "dp", "pp"),
        *("stages", "stages_per_rank", "microbatches", "micro_batch", "global_batch", "sequence", "zero"),
        *("activation_bytes", "hidden", "heads", "ffn", "m", "n", "k", "size_bytes"),
    ]
)
_SIZE: Field = (Column("size"), lambda r: bytes_cell(r.size_bytes))


def _set_cell(point: Compared) -> Cell:
    return Cell(point.set, point.set, tone=f"set-{point.set}")


def compared_table(records: Sequence[Record]) -> Table | None:
    """Every measured point beside its prediction."""
    points = [r for r in records if isinstance(r, Compared)]
    reach = max((abs(p.error) for p in points), default=0.0) or 1.0

    fields: list[Field] = [
        *identity_fields(Compared),
        _SIZE,
        (Column("region", numeric=False), lambda p: word_cell(p.region)),
        (Column("set", numeric=False), _set_cell),
        (Column("measured", "median"), lambda p: time_cell(p.measured_s)),
        (Column("spread", "± of median"), lambda p: share_cell(p.spread_s / p.measured_s)),
        (Column("simulated"), lambda p: time_cell(p.simulated_s)),
        (Column("error", "signed"), lambda p: error_cell(p.error, reach)),
    ]
    return make_table("compared", plural(len(points), "compared point"), points, fields)


def measured_table(records: Sequence[Record]) -> Table | None:
    """Every measured size, with nccl-tests' columns and the tails."""
    points = [r for r in records if isinstance(r, Measured)]
    fields: list[Field] = [
        *identity_fields(Measured),
        _SIZE,
        (Column("time", "median"), lambda p: time_cell(p.time_s)),
        (Column("spread", "MAD"), lambda p: time_cell(p.spread_s)),
        (Column("fastest"), lambda p: time_cell(min(p.slowest_s))),
        (Column("p95"), lambda p: time_cell(p.p95_s)),
        (Column("p99"), lambda p: time_cell(p.p99_s)),
        (Column("slowest"), lambda p: time_cell(max(p.slowest_s))),
        *_rates(points),
        (Column("wrong", "values"), lambda p: wrong_cell(p.wrong)),
    ]
    return make_table("measured", plural(len(points), "measured size"), points, fields)


def reported_table(records: Sequence[Record]) -> Table | None:
    """Every row of somebody else's log."""
    points = [r for r in records if isinstance(r, Reported)]
    fields: list[Field] = [
        *identity_fields(Reported),
        _SIZE,
        (Column("time"), lambda p: time_cell(p.time_s)),
        *_rates(points),
        (Column("wrong", "values"), lambda p: wrong_cell(p.wrong)),
        (Column("odd", numeric=False, folds=True), lambda p: Cell(p.problem, p.problem, tone="bad" * bool(p.problem))),
        (Column("line"), lambda p: Cell(f"{p.line}", p.line)),
    ]
    return make_table("reported", plural(len(points), "reported size"), points, fields)


def judged_table(records: Sequence[Record]) -> Table | None:
    """Every size of a log beside its prediction, with the verdict."""
    points = [r for r in records if isinstance(r, Judged)]
    fields: list[Field] = [
        *identity_fields(Judged),
        _SIZE,
        (Column("measured"), lambda p: time_cell(p.measured_s)),
        (Column("predicted"), lambda p: Cell("unknown", -1) if p.ratio is None else time_cell(p.predicted_s)),
        (Column("ratio", "measured / predicted"), lambda p: _ratio(p.ratio)),
        (Column("verdict", numeric=False), lambda p: Cell(p.verdict, p.verdict, tone=_TONES.get(p.verdict, "bad"))),
        (Column("takes", numeric=False, folds=True), lambda p: word_cell(f"{p.algorithm} {p.protocol}".strip())),
        (Column("note", numeric=False, folds=True), lambda p: word_cell(p.note)),
    ]
    return make_table("judged", plural(len(points), "judged size"), points, fields)


_TONES = {OK: "", FAST: "", UNKNOWN: "muted"}


def _ratio(ratio: float | None) -> Cell:
    return Cell("n/a", -1, tone="muted") if ratio is None else Cell(f"{ratio:.2f}", ratio)


def simulated_table(records: Sequence[Record]) -> Table | None:
    """Every simulated size."""
    points = [r for r in records if isinstance(r, Simulated)]
    fields: list[Field] = [
        *identity_fields(Simulated),
        _SIZE,
        (Column("time"), lambda p: time_cell(p.time_s)),
        (Column("lower bound"), lambda p: time_cell(p.lower_bound_s)),
        *_rates(points),
        (Column("takes", numeric=False, folds=True), _taken),
        (Column("transfers"), lambda p: count_cell(p.transfers)),
        (Column("run time", "of the engine"), lambda p: time_cell(p.wall_s)),
    ]
    return make_table("simulated", plural(len(points), "simulated size"), points, fields)


def _taken(point: Simulated) -> Cell:
    """What a library chose; nothing where the user did."""
    what = f"{point.algorithm} {point.protocol}, {plural(point.channels, 'channel')}"
    return word_cell(what if point.library_version else "")


def link_table(records: Sequence[Record]) -> Table | None:
    """The busiest links of every simulated size that names them."""
    columns = (
        *size_columns(),
        Column("busiest link", numeric=False),
        Column("carried"),
        Column("utilisation", "of the time"),
        Column("utilisation", "of the lower bound"),
    )
    rows = [
        (*cells, word_cell(link["link"]), bytes_cell(link["bytes"]), share_cell(link["utilisation"]), _bound(link))
        for record, cells in named_sizes(records)
        for link in record.links
    ]
    return Table("links", "Busiest links by simulated size", (), columns, tuple(rows)) if rows else None


def _bound(link: Mapping[str, Any]) -> Cell:
    share = link["bound_share"]
    return Cell("n/a", -1, tone="muted") if share is None else share_cell(share)


def job_table(records: Sequence[Record]) -> Table | None:
    """How long each of several jobs took that were simulated at once."""
    columns = (*size_columns(), Column("job"), Column("ranks"), Column("time"))
    rows = [
        (*cells, count_cell(number), count_cell(len(job["ranks"])), time_cell(job["time_s"]))
        for record, cells in named_sizes(records)
        for number, job in enumerate(record.jobs)
    ]
    return Table("jobs", "Jobs at once by simulated size", (), columns, tuple(rows)) if rows else None


def size_columns() -> tuple[Column, Column]:
    """The columns of :func:`named_sizes`."""
    return Column("simulated", numeric=False), Column("size")


def named_sizes(records: Sequence[Record]) -> list[tuple[Simulated, tuple[Cell, Cell]]]:
    """Every simulated size, with cells of what tells it from others and of its size."""
    points = [r for r in records if isinstance(r, Simulated)]
    told = labels(points, known=("algorithm",))
    return [
        (p, (word_cell(", ".join((base_name(p), *words))), bytes_cell(p.size_bytes)))
        for p, words in zip(points, told, strict=True)
    ]


def group_table(summary: Summary, name: str) -> Table | None:
    """The groups of a validation; figures that a later version adds are shown under their own names."""
    members = [(by, label, figures) for by, group in summary.groups.items() for label, figures in group.items()]
    names = list(dict.fromkeys(key for _, _, figures in members for key in figures))
    if not members:
        return None
    columns = (Column("by", numeric=False), Column("group", numeric=False), *(Column(_figure_title(n)) for n in names))
    rows = tuple(
        (word_cell(by), word_cell(label), *(_figure(n, figures) for n in names)) for by, label, figures in members
    )
    return Table(name, "Test points by group", (), columns, rows)


def _figure_title(name: str) -> str:
    known = {"median_abs_error": "median |error|", "p95_abs_error": "95th percentile", "median_error": "median signed"}
    return known.get(name, name.replace("_", " "))


def _figure(name: str, figures: Mapping[str, float]) -> Cell:
    """Errors in percent (signed unless absolute), counts whole."""
    value = figures.get(name)
    if value is None:
        return Cell("", float("-inf"))
    if "error" not in name:
        return Cell(f"{value:,g}", value)
    return Cell(percent(value) if "abs" in name else signed_percent(value), value)
