# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run: nccl-tests' table on stdout; header notes and a progress bar on stderr."""

import textwrap
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from commbench.collectives.spec import get_collective
from commbench.live.backend import BACKENDS
from commbench.live.group_job import GroupJob
from commbench.live.observe import Observer, SessionFacts
from commbench.live.plan import Plan
from commbench.live.progress import Position
from commbench.results.log_write import log_foot, log_head, log_row
from commbench.results.records import Measured
from commbench.tables import Column, average_line, head_text, rate_text, row_text
from commbench.terminal import put, tell
from commbench.units import GB, format_bytes, rate_unit

__all__ = [
    "JsonLines",
    "NcclTestsText",
    "RunTable",
    "header_lines",
    "iterations_text",
    "row",
    "row_of_both",
    "row_of_percentiles",
    "session_notes",
    "tell_session",
]

_WIDTH = 80
_NO_ROOT = -1  # as nccl-tests prints it
_BAR_S = 0.5  # between redraws: the ranks need the cores more than the bar does


def header_lines(plan: Plan, facts: SessionFacts, *, percentiles: bool = False) -> list[str]:
    """Lines above the table: what runs, where, and how its figures are defined."""
    env = facts.environment
    where = ", ".join(dict.fromkeys(env.get("hosts") or [env["hostname"]]))
    slices = f" in {plan.slices} slices" if plan.slices > 1 else ""
    both = plan.place == "both"
    place = " and ".join("in place" if way else "out of place" for way in plan.in_places)
    if both and len(plan.in_places) == 1:
        place += " alone, as there is no other way"
    ranks = f"{facts.ranks} rank{'s' * (facts.ranks > 1)}"
    channels = f", {plan.channels} channels" if plan.channels > 1 else ""
    lines = [
        f"# {plan.collective}, {plan.algorithm}{slices}{channels}: {ranks} on {facts.backend}, started by "
        f"{facts.launcher}",
        f"# {where}: {_machine(env)}",
        f"# torch {env['torch']}" + (f", NCCL {env['nccl']}, {env['gpu']}" if "nccl" in env else ""),
        f"# {plan.timing} timing, {place}, {iterations_text(plan)}{', cold caches' * plan.cold_cache}",
        "# time: median over iterations of the slowest rank; spread: median absolute",
        "# deviation of the same; 1 GB = 1e9 B",
    ]
    if percentiles:
        lines.append("# p95, p99: of the slowest rank's iterations, nearest rank; max: the slowest")
    if both or percentiles:
        lines.append(f"# {plan.dtype}" + (f", {plan.op}" if plan.spec.reduces else "") + _root(plan))
    told = [part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="#   ")]
    unit = _unit(facts)[1]
    if both:
        return [*told, _OVER_BOTH, *head_text(_columns_of_both(unit)).splitlines()]
    if percentiles:
        return [*told, *head_text(_columns_of_percentiles(unit)).splitlines()]
    return [*told, *head_text(_columns(unit)).splitlines()]


def iterations_text(job: Plan | GroupJob) -> str:
    """How many iterations a size has, or how much time."""
    many = f"{job.budget_s:g} s of iterations" if job.budget_s else f"{job.iters} iterations"
    if isinstance(job, Plan) and job.graphs:
        many = f"{job.graphs} launches of a graph of {job.iters} iterations"
    return f"{many} after {job.warmup} of warm-up"


def _root(plan: Plan) -> str:
    return f", root {plan.root}" if plan.spec.rooted else ""


def _columns(unit: str = "GB/s") -> tuple[Column, ...]:
    return (
        Column("size", "(B)", width=9),
        Column("count", "(elements)", width=10),
        Column("type", width=8),
        Column("redop", width=5),
        Column("root", width=4),
        Column("time", "(us)", width=8),
        *(Column(name, f"({unit})", width=7) for name in ("algbw", "busbw")),
        Column("spread", "(us)", width=6),
        Column("#wrong", width=6),
    )


def _columns_of_percentiles(unit: str = "GB/s") -> tuple[Column, ...]:
    return (
        Column("size", "(B)", width=10),
        *(Column(name, "(us)", width=9) for name in ("time", "p95", "p99", "max")),
        *(Column(name, f"({unit})", width=7) for name in ("algbw", "busbw")),
        Column("#wrong", width=7),
    )


_OVER_BOTH = f"#{'out of place':>33}{'in place':>31}"


def _columns_of_both(unit: str = "GB/s") -> tuple[Column, ...]:
    once = (
        Column("time", "(us)", width=8),
        *(Column(name, f"({unit})", width=7) for name in ("algbw", "busbw")),
        Column("#wrong", width=6),
    )
    return (Column("size", "(B)", width=10), *once, *once)


def _unit(facts: SessionFacts) -> tuple[float, str]:
    """Of the bandwidths: by the fastest link of a lab, GB/s elsewhere."""
    rates = facts.environment.get("emulated", {}).get("link_rates_bytes_per_s") or [GB]
    return rate_unit(max(rates))


def row(record: Measured, root: int = _NO_ROOT, unit: float = GB) -> str:
    """One line of the table, bandwidths in ``unit`` bytes/s.

    The count is nccl-tests': elements of one rank's block where the buffer is blocks.
    """
    blocks = record.ranks if get_collective(record.collective).by_rank else 1
    kind = (record.dtype, record.op, root)
    rates = (rate_text(rate, unit) for rate in (record.algbw_GBps, record.busbw_GBps))
    count = record.num_elements // blocks
    fields = (record.size_bytes, count, *kind, _us(record.time_s, 8), *rates, _us(record.spread_s, 6), record.wrong)
    return row_text(_columns(), fields)


def row_of_percentiles(record: Measured, unit: float = GB) -> str:
    """One line of the table with percentiles."""
    times = (_us(each, 9) for each in (record.time_s, record.p95_s, record.p99_s, max(record.slowest_s)))
    rates = (rate_text(rate, unit) for rate in (record.algbw_GBps, record.busbw_GBps))
    return row_text(_columns_of_percentiles(), (record.size_bytes, *times, *rates, record.wrong))


def row_of_both(aside: Measured | None, inside: Measured | None, unit: float = GB) -> str:
    """One line of the table with both ways, of one size at least; "n/a" where there is but one."""
    fields: list[str | float | None] = []
    for record in (aside, inside):
        if record is None:
            fields += [None] * 4
            continue
        rates = (rate_text(rate, unit) for rate in (record.algbw_GBps, record.busbw_GBps))
        fields += [_us(record.time_s, 8), *rates, record.wrong]
    (size, *_) = (record.size_bytes for record in (aside, inside) if record is not None)
    return row_text(_columns_of_both(), (size, *fields))


def tell_session(facts: SessionFacts, *, cores: bool = True) -> None:
    """Say on stderr what was detected, and with ``cores`` what a reader must know to judge the figures."""
    for note in [*facts.notes, *(session_notes(facts) if cores else ())]:
        tell(note if note.startswith("warning: ") else f"note: {note}")


def session_notes(facts: SessionFacts) -> list[str]:
    """What a reader must know to judge the figures."""
    env, notes = facts.environment, []
    hosts, room = env["hosts"], env["cores_by_host"]
    for host, cores in room.items() if BACKENDS[facts.backend].device_type == "cpu" else ():
        if hosts.count(host) > cores:
            where = f"{hosts.count(host)} ranks on {cores:g} cores" + (f" of {host}" if len(room) > 1 else "")
            notes.append(f"{where}: oversubscribed, times include waiting for a core")
    if env.get("load_1min") and env["load_1min"] > 0.5 * env["cores_usable"]:
        notes.append(f"load average {env['load_1min']:.1f} at the start: something else is running")
    return notes


class JsonLines(Observer):
    """One JSON object per line on stdout; notes on stderr."""

    def started(self, facts: SessionFacts) -> None:
        """Say on stderr what runs."""
        tell(f"backend {facts.backend}, {facts.ranks} ranks, started by {facts.launcher}")
        tell_session(facts)

    def measured(self, record: Measured) -> None:
        """Print the record."""
        print(record.to_json(), flush=True)


class _Ways:
    """Records of a size, put together as far as it is measured in both ways."""

    def __init__(self, plan: Plan) -> None:
        self._both = len(plan.in_places) == 2
        self._aside: Measured | None = None

    def of(self, record: Measured) -> tuple[Measured | None, Measured | None] | None:
        """Out of place and in place, once the size is done."""
        if not record.in_place:
            self._aside = record
            return None if self._both else (record, None)
        return (self._aside if self._both else None), record


class NcclTestsText(Observer):
    """The text that nccl-tests prints on stdout, for programs that read it; notes on stderr."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ways = _Ways(plan)
        self._shown: list[Measured] = []

    def started(self, facts: SessionFacts) -> None:
        """Print what stands above the rows."""
        plan, env = self._plan, facts.environment
        hosts = env.get("hosts") or [env["hostname"]] * facts.ranks
        members = [(host, hosts[:rank].count(host), env.get("gpu", "CPU")) for rank, host in enumerate(hosts)]
        notes = [f"measured: {plan.algorithm} on {facts.backend}; time: median over iterations of the slowest rank"]
        put(log_head(plan.collective, members, plan.sizes_bytes, notes, warmup=plan.warmup, iters=plan.iters))
        tell_session(facts)

    def measured(self, record: Measured) -> None:
        """Print the row; the placement that was not measured reads N/A."""
        self._shown.append(record)
        if (ways := self._ways.of(record)) is None:
            return
        times = [None if way is None else way.time_s for way in ways]
        wrong = [None if way is None else way.wrong for way in ways]
        amount = (record.ranks, record.size_bytes, record.num_elements, record.dtype)
        put(log_row(record.collective, *amount, times, op=record.op, root=record.root, wrong=wrong), bad=any(wrong))

    def close(self) -> None:
        """Print what stands below the rows."""
        if self._shown:
            wrong = sum(record.wrong or 0 for record in self._shown)
            put(log_foot(self._plan.collective, [record.busbw_GBps for record in self._shown], wrong))


class RunTable(Observer):
    """A table on stdout, row by row, with a bar on stderr when a terminal watches."""

    def __init__(self, plan: Plan, *, notes: bool = True, percentiles: bool = False) -> None:
        """``notes``: whether to tell those of the session, which hold for all tables of a run; ``percentiles``: the
        table with these, a row for each placement."""
        self._plan = plan
        self._percentiles = percentiles
        self._notes = notes
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._drawn_at = 0.0
        self._done = 0
        self._busbws: list[float | None] = []  # GB/s
        self._unit = GB
        self._ways = _Ways(plan)

    def started(self, facts: SessionFacts) -> None:
        """Print the header."""
        self._unit = _unit(facts)[0]
        put("\n".join(header_lines(self._plan, facts, percentiles=self._percentiles)))
        if self._notes:
            tell_session(facts)
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} sizes"),
            )
            self._bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
            self._task = self._bar.add_task("", total=len(self._plan.sizes_bytes) * len(self._plan.in_places))
            self._bar.start()

    def moved(self, place: Position) -> None:
        """Move the bar."""
        if self._bar is None or time.monotonic() - self._drawn_at < _BAR_S:
            return
        self._drawn_at = time.monotonic()
        self._bar.update(self._task, description=str(place), completed=self._done, refresh=True)

    def measured(self, record: Measured) -> None:
        """Print the row, as soon as it is whole."""
        self._done += 1
        self._busbws.append(record.busbw_GBps)
        if self._percentiles:
            put(row_of_percentiles(record, self._unit), bad=bool(record.wrong))
            return
        if self._plan.place == "both":
            if ways := self._ways.of(record):
                put(row_of_both(*ways, self._unit), bad=any(way and way.wrong for way in ways))
            return
        root = self._plan.root if self._plan.spec.rooted else _NO_ROOT
        put(row(record, root, self._unit), bad=bool(record.wrong))

    def close(self) -> None:
        """Take the bar away, and print the line that nccl-tests ends with and scripts look for."""
        if self._bar is not None:
            self._bar.stop()
        if self._busbws:
            put(average_line(self._busbws, self._unit))


def _machine(env: Mapping[str, Any]) -> str:
    memory = f", {format_bytes(env['memory_bytes'])}" if env.get("memory_bytes") else ""
    return f"{env.get('cpu_model') or env['platform']}, {env['cores_usable']} cores{memory}"


def _us(time_s: float, width: int) -> str:
    microseconds = 1e6 * time_s
    for text in (f"{microseconds:.1f}", f"{microseconds:.0f}"):
        if len(text) <= width:
            return text
    return f"{microseconds:.{width - 6}e}"
