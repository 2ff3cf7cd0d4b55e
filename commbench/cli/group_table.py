# SPDX-License-Identifier: Apache-2.0
"""What a person sees of groups of ranks that are measured: a row for each, then figures over all of them."""

from collections.abc import Sequence

from commbench.cli.tables import heading
from commbench.live.console import iterations_text, tell_session
from commbench.live.group_job import GroupJob
from commbench.live.observe import Observer, SessionFacts
from commbench.report.text import plural
from commbench.results.grouped import (
    INCAST,
    PAIRWISE,
    by_distance,
    group_text,
    is_alone,
    sent_bytes,
    slowdowns,
)
from commbench.results.records import Measured
from commbench.tables import Column, head_text, rate_text, row_text
from commbench.terminal import put
from commbench.units import GB, format_bytes, format_time

__all__ = ["GroupTable", "group_row", "summary_of_groups"]

_MOST_ROWS = 64
"""Pairs that are shown one by one at each size; of more, the slowest stand in the lines at the end."""
_COLUMNS = (
    Column("size", "(B)", width=10),
    Column("ranks", numeric=False, width=12),
    Column("", numeric=False, width=12),
    Column("time", "(us)", width=10, form=".1f"),
    *(Column(name, "(GB/s)", width=7) for name in ("algbw", "busbw")),
    Column("spread", "(us)", width=7, form=".1f"),
    Column("#wrong", width=6),
)


class GroupTable(Observer):
    """Rows on stdout as they come; notes on stderr."""

    def __init__(self, job: GroupJob, what: str) -> None:
        """``what``: says in a line what is measured."""
        self._job, self._what = job, what
        self._records: list[Measured] = []

    def started(self, facts: SessionFacts) -> None:
        """Print what stands above the rows."""
        job = self._job
        ways = "" if job.experiment == INCAST else f", {job.how.replace('-', ' ')}"
        lines = [
            f"{self._what}: {facts.ranks} ranks on {facts.backend}, started by {facts.launcher}",
            f"{job.collective} by {job.algorithm}{ways}; {iterations_text(job)}",
        ]
        put(f"{heading(*lines)}\n{head_text(_COLUMNS)}")
        tell_session(facts)

    def measured(self, record: Measured) -> None:
        """Print the row, unless there are too many."""
        self._records.append(record)
        pairs = self._job.ranks * (self._job.ranks - 1) // 2
        if self._job.experiment != PAIRWISE or pairs <= _MOST_ROWS or record.wrong:
            put(group_row(record), bad=bool(record.wrong))

    def close(self) -> None:
        """Print the figures over all of them."""
        if lines := summary_of_groups(self._records):
            put("\n".join(lines))


def group_row(record: Measured) -> str:
    """One group at one size; of an incast the size is what each sender sends."""
    told = record.environment["round"]
    beside = "alone" if is_alone(record) else f"{told['groups']} at once"
    incast = told["experiment"] == INCAST
    size = sent_bytes(record) if incast else record.size_bytes
    about = told.get("distance") or (plural(record.ranks - 1, "sender") if incast else beside)
    rates = (rate_text(rate, GB) for rate in (record.algbw_GBps, record.busbw_GBps))
    times = (1e6 * record.time_s, *rates, 1e6 * record.spread_s)
    return row_text(_COLUMNS, (size, _cut(group_text(record)), about, *times, _wrong(record)))


def _cut(text: str, width: int = 12) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _wrong(record: Measured) -> str:
    return "n/a" if record.wrong is None else str(record.wrong)


def summary_of_groups(records: Sequence[Measured]) -> list[str]:
    """Lines of remarks: of pairs by distance, of an incast what the receiver gets, of groups what they cost each other;
    every line fits 80 columns."""
    pairs = [r for r in records if r.environment["round"]["experiment"] == PAIRWISE]
    incasts = [r for r in records if r.environment["round"]["experiment"] == INCAST]
    lines = []
    for one in by_distance(pairs):
        how = "alone" if one.alone else "at once"
        lines.append(
            f"# {format_bytes(one.size_bytes)}, {one.distance}, {how}: {one.pairs} pairs, median {one.median_GBps:.3g} "
            "GB/s,"
        )
        ends = (f"{end.busbw_GBps or 0:.3g} (ranks {group_text(end)})" for end in (one.slowest, one.fastest))
        lines.append(f"#   from {' to '.join(ends)}")
    for size in dict.fromkeys(map(sent_bytes, incasts)):
        lines += _incast_lines([r for r in incasts if sent_bytes(r) == size])
    for slow in slowdowns([r for r in records if r not in pairs and r not in incasts]):
        worst = max(slow.factors, key=lambda name: slow.factors[name])
        lines.append(
            f"# {format_bytes(slow.size_bytes)}: at once {slow.factors[worst]:.2f} times as long as alone at the worst"
            f" (ranks {_cut(worst)})"
        )
    return lines


def _incast_lines(records: Sequence[Measured]) -> list[str]:
    """What the receiver gets from the fewest senders and from the most."""
    if len(records) < 2:
        return []
    few, many = (pick(records, key=lambda r: r.ranks) for pick in (min, max))
    rates = [f"{r.busbw_GBps or 0:.3g} GB/s from {r.ranks - 1}" for r in (few, many)]
    share = (many.busbw_GBps or 0) / (few.busbw_GBps or 1)
    return [f"# {format_bytes(sent_bytes(few))} from each: the receiver gets {rates[0]}, {rates[1]} ({share:.0%});",
            f"#   {format_time(few.time_s)} and {format_time(many.time_s)}"]  # fmt: skip
