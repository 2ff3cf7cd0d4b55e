# SPDX-License-Identifier: Apache-2.0
"""Records as a table: one row a record, for pandas, CSV, JSON and Parquet.

Columns are the file, the kind, and the record's fields and derived figures under their names in the JSON, units among
them. A mapping has a column a key (``environment.hostname``, ``time_s.forward``). Rows of samples are summarised:
``samples_s.count``, ``.min``, ``.median`` and ``.max``, of the slowest rank in each iteration. Spans, other
sequences, and what lies deeper than two mappings are left out; they are in the results file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commbench.errors import InputError
from commbench.results.journal import read_records
from commbench.results.records import Record
from commbench.results.statistics import median, slowest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "frame_of", "read_frame", "table"]

FORMATS = ("csv", "json", "parquet")
_DEEPEST = 2  # mappings in mappings


def read_frame(files: Sequence[Path | str], *, salvage: bool = False) -> "pd.DataFrame":
    """The records of results files as a DataFrame; see the module.

    Raises:
        ResultsError: a file cannot be read, or (without ``salvage``) a line is no whole record.
    """
    pairs = [(str(file), record) for file in files for record in read_records(Path(file), salvage=salvage)]
    return frame_of(pairs)


def frame_of(records: Sequence[tuple[str, Record]]) -> "pd.DataFrame":
    """The same of records, each with the file that it stands in; whole numbers, truth values and text may be missing.

    Returns:
        Columns of type Int64, float64, boolean or string; ``started_at`` is a UTC time.
    """
    import pandas as pd

    rows = [_row(file, record) for file, record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        columns[name] = (
            pd.to_datetime(pd.Series(values, dtype="object"), utc=True, format="ISO8601")
            if name == "started_at"
            else pd.Series(values, dtype=_type(values))
        )
    return pd.DataFrame(columns)


def table(records: Sequence[tuple[str, Record]], form: str) -> bytes:
    """The rows as a file of one of :data:`FORMATS`; JSON is one list of objects, without what a record does not have.

    Raises:
        InputError: Parquet without pyarrow.
    """
    if form == "json":
        rows = ",\n".join(json.dumps(_row(file, record), allow_nan=False) for file, record in records)
        return f"[\n{rows}\n]\n".encode()
    frame = frame_of(records)
    if form == "csv":
        text: str = frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z")
        return text.encode()
    try:
        import pyarrow  # noqa: F401  what pandas needs for it
    except ImportError:
        raise InputError("--format parquet needs pyarrow: pip install 'commbench[parquet]'; or give csv") from None
    return bytes(frame.to_parquet(index=False, engine="pyarrow"))


def _row(file: str, record: Record) -> dict[str, Any]:
    """One record by column."""
    found: dict[str, Any] = {"file": file, "kind": record.kind}
    for field in fields(record):
        if field.name not in getattr(record, "bulky", ()):
            found |= _columns(field.name, getattr(record, field.name))
    for name, value in record.derived().items():
        found |= _columns(name, value)
    return found


def _columns(name: str, value: object, depth: int = 0) -> dict[str, Any]:
    """The columns of one field; none for what has no place in a table."""
    if value is None or isinstance(value, str | int | float):
        return {name: value}
    if isinstance(value, Mapping):
        if depth == _DEEPEST:
            return {}
        parts = [_columns(f"{name}.{key}", part, depth + 1) for key, part in value.items()]
        return {column: cell for part in parts for column, cell in part.items()}
    samples = _samples(value)
    if not samples:
        return {}
    figures = {"count": len(samples), "min": min(samples), "median": median(samples), "max": max(samples)}
    return {f"{name}.{figure}": number for figure, number in figures.items()}


def _samples(value: object) -> Sequence[float]:
    """Of rows of seconds, rank x iteration, the slowest rank in each; of one row, itself; [] for anything else."""
    if not isinstance(value, tuple) or not value:
        return []
    rows = value if all(isinstance(row, tuple) for row in value) else (value,)
    if not all(isinstance(cell, float) for row in rows for cell in row) or len({len(row) for row in rows}) > 1:
        return []
    return slowest(rows)


def _type(values: Sequence[object]) -> str:
    """The type of a column, by what stands in it."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return "float64"  # what may be missing everywhere are numbers
    if kinds <= {bool}:
        return "boolean"
    if kinds <= {int}:
        return "Int64" if all(abs(v) < 2**63 for v in values if isinstance(v, int)) else "float64"
    return "float64" if kinds <= {int, float} else "string"
