# SPDX-License-Identifier: Apache-2.0
"""Every number that a page shows is found in its records: the page computes nothing new.

Cells and marks carry raw values, which must be numbers of the records; what is shown of them must be what a formatting
function makes of that value. Numbers in sentences must be made of a record's number by one of these too, or stand in a
name, in the command, or in the template itself.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from commbench import __version__
from commbench.report.identity import identity
from commbench.report.page import ReportInput, render
from commbench.report.text import decimals_for, percent, signed_percent, time_parts, time_text
from commbench.results.changes import ChangeSummary
from commbench.results.grouped import MULTI, PAIRWISE, of_experiment, slowdowns
from commbench.results.judged import Judged
from commbench.results.records import Compared, Record, Simulated
from commbench.results.steps import SimulatedStep
from commbench.results.tensor_parallel_records import TensorParallelCompared
from commbench.results.terms import terms_ps
from commbench.topology.fabric import Fabric
from commbench.topology.layout import layout
from commbench.topology.load import load_fabric
from commbench.units import PS_PER_S, format_bandwidth, format_bytes
from tests.report import samples
from tests.report.page_types import PAGE_TYPES

MIB = 2**20
NUMBER = re.compile(r"[+−-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
PIECES = sorted(each.name for each in files("commbench.report").iterdir() if each.name.endswith(".j2"))
FORMULAS = ("8bshe(t−1)/t", "new / old − 1")
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Shown(HTMLParser):
    """Raw values of cells and marks with what is shown of them, and all other text that people read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []
        self.marks: list[dict[str, str]] = []
        self.prose: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "td" and "data-sort" in given:
            self.cells.append((given["data-sort"], ""))
        if "mark" in given.get("class", "").split():
            self.marks.append({k.removeprefix("data-"): v for k, v in given.items() if k.startswith("data-")})
        if tag not in VOID:
            self._open.append((tag, given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        tags = {tag for tag, _ in self._open}
        if tags & {"script", "style", "title"} and "svg" not in tags:
            return
        if "td" in tags and any("data-sort" in given for _, given in self._open):
            raw, text = self.cells[-1]
            self.cells[-1] = raw, text + data
        elif not any("tick" in given.get("class", "") or given.get("class") == "labels" for _, given in self._open):
            self.prose.append(data)


def leaves(value: Any) -> Iterator[float]:
    """Every number in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def derived(thing: object) -> Iterator[float]:
    """Numbers that a record, or a dataclass in it, derives from its own fields."""
    for name, each in vars(type(thing)).items():
        if isinstance(each, property) and isinstance(value := getattr(thing, name), int | float):
            yield value
    for each in fields(thing):  # type: ignore[arg-type]
        value = getattr(thing, each.name)
        for one in value if isinstance(value, tuple) else (value,):
            if is_dataclass(one):
                yield from derived(one)


def numbers_of(records: Sequence[Record]) -> set[float]:
    """Of the records, their derived figures among them, and the sums and shares that the page makes of these."""
    found: set[float] = set()
    for record in records:
        found |= set(leaves(json.loads(record.to_json())))
        found |= set(derived(record))
        if isinstance(record, Judged):  # the predicted time as a bus bandwidth, beside that of the measured one
            found.add(record.size_bytes / record.predicted_s * record.busbw_factor / 1e9)
        if isinstance(record, Compared | TensorParallelCompared):  # the spread as a share, as the error is one
            found.add(record.spread_s / record.measured_s)
        for one in getattr(record, "queues", ()):  # when its slices begin and end
            found |= {number * one["slice_s"] for number in range(len(one["by_time_bytes"]) + 1)}
        terms = terms_ps(record)
        found |= {value / PS_PER_S for value in terms.values()}
        found |= {value / sum(terms.values()) for value in terms.values() if sum(terms.values())}
        if isinstance(record, ChangeSummary):
            found.add(record.ratio - 1)
        if isinstance(record, Simulated):  # the bound as a bus bandwidth beside those of the record, and the ratio
            found.add(record.size_bytes / record.lower_bound_s * record.busbw_factor / 1e9)
            found.add(record.time_s / record.lower_bound_s)
            if record.fluid_time_s:
                found.add(record.time_s / record.fluid_time_s - 1)
        if isinstance(record, SimulatedStep):
            totals = [sum(use.values()) + record.margin_bytes for use in record.memory_by_position]
            found |= {*totals, *(total / record.capacity_bytes for total in totals), sum(record.memory_bytes.values())}
            found |= {time_s / record.iteration_s for time_s in record.exposed_s.values()}
            found |= {end - begin for *_, begin, end in record.spans}
    return found | set(of_groups(list(records)))


def of_groups(records: list[Record]) -> Iterator[float]:
    """Of pairs how many there are and their times over the median; of other groups their times over those alone."""
    pairs = of_experiment(records, PAIRWISE)
    yield len(pairs)
    yield from (pair.time_s / median(each.time_s for each in pairs) for pair in pairs)
    for one in slowdowns(of_experiment(records, MULTI)):
        yield from one.factors.values()


def forms(value: float, rates: Iterable[float]) -> set[str]:
    """What the page may write for a value."""
    places = {*range(5), decimals_for([*rates])}
    texts = {time_text(value), "".join(time_parts(value)), percent(value), signed_percent(value), f"{value:g}"}
    texts.add(f"{value:+z.1f}")
    texts |= {format_bytes(value), format_bandwidth(value), format_bandwidth(1e9 * value), f"{100 * value:.0f} %"}
    texts |= {str(value), f"{value:,}", f"{value:.3g}", f"{'-' if value < 0 else '+'}{time_text(abs(value))}"}
    texts |= {f"{value:z.{places}f}" for places in places} | {f"{value:,.{places}f}" for places in places}
    return {re.sub(r"\s", "", text).replace("-", "−") for text in texts}


def known_numbers(records: list[Record], fabrics: list[Fabric], command: str, values: set[float]) -> set[str]:
    """Numbers that a sentence may have: of records in any form, of their names, of topologies, of the template."""
    texts = [text for value in values for text in forms(value, values)]
    texts += [text for record in records for text in re.findall(r'"([^"]*)"', record.to_json())]
    texts += [text for record in records for text in identity(record).values()]
    texts += [record.run.replace("-", " ") for record in records]  # the end of an identifier may be of digits alone
    texts += [command, __version__, *FORMULAS]
    texts += [*(f"{n.text} {n.source} {key}" for f in fabrics for key, n in f.numbers.items())]
    for fabric in fabrics:
        drawing = layout(fabric)
        texts += [drawing.title, drawing.subtitle, drawing.note, drawing.panel.title, *(b.label for b in drawing.boxes)]
        texts += [text for label in drawing.labels for text in (label.title, label.detail)]
    texts += [files("commbench.report").joinpath(name).read_text("utf-8") for name in PIECES]
    return {number for text in texts for number in NUMBER.findall(text)}


def unfounded(
    page: str, records: list[Record], fabrics: list[Fabric], command: str, made: frozenset[float] = frozenset()
) -> list[str]:
    """What the page shows and no record has, nor was ``made`` of two of them."""
    shown, values = Shown(page), numbers_of(records) | made
    assert shown.cells
    known = known_numbers(records, fabrics, command, values)
    counts = {str(n) for n in range(1, 1 + max(len(records), 40))}
    found = []
    for raw, text in shown.cells:
        if NUMBER.fullmatch(raw.replace("-", "−", 1)) is None:
            continue
        if float(raw) not in values and float(raw) != -1:  # -1 sorts what is not there
            found.append(f"cell {raw}: {text}")
        elif float(raw) != -1 and re.sub(r"\s", "", text).replace("-", "−") not in forms(float(raw), values):
            several = NUMBER.findall(text)  # as in 12.60 ± 2.87 ms
            if len(several) < 2 or any(number not in known | counts for number in several):
                found.append(f"cell {raw} is shown as {text}")
    for mark in shown.marks:
        found += [f"mark {k}={v}" for k, v in mark.items() if k not in ("part", "set") and float(v) not in values]
    for text in shown.prose:
        found += [f"{n} in {text.strip()!r}" for n in NUMBER.findall(text) if n not in known and n not in counts]
    return found


@pytest.fixture(scope="module")
def large() -> tuple[str, list[Record], list[Fabric]]:
    """The page of a simulation of 1,024 ranks, without its transfers, which are no record."""
    fabric = load_fabric("fat-tree-1024")
    sizes = (MIB, 16 * MIB, 64 * MIB)
    done = [samples.simulation("fat-tree-1024", "double-binary-tree", size, links=True, explain=True) for size in sizes]
    records: list[Record] = [one.record for one in done]
    return render(ReportInput("large", records, topologies=[fabric], command="commbench sim")), records, [fabric]


def test_the_page_of_1024_ranks(large: tuple[str, list[Record], list[Fabric]]) -> None:
    assert unfounded(*large, "commbench sim") == []


@pytest.mark.parametrize("name", PAGE_TYPES)
def test_the_page_of_every_type(name: str, tmp_path: Path) -> None:
    made = PAGE_TYPES[name](tmp_path)
    assert unfounded(made.page, list(made.records), list(made.fabrics), made.command, made.made) == []


@pytest.mark.parametrize(
    ("shown", "instead"),
    [(r'data-sort="0\.\d+">\s*\d', 'data-sort="0.123456">1'), ("</h1>", " in 77.7777 ms</h1>")],
)
def test_a_number_of_nobody_would_be_seen(
    large: tuple[str, list[Record], list[Fabric]], shown: str, instead: str
) -> None:
    page, records, fabrics = large
    assert unfounded(re.sub(shown, instead, page, count=1), records, fabrics, "commbench sim") != []


def test_the_chart_of_transfers_shows_what_the_trace_has(tmp_path: Path) -> None:
    done = samples.simulation("fat-tree-16", links=True, explain=True)
    page = render(ReportInput("chart", [done.record], simulation=done))
    spans = set(zip(done.trace.start_ps.tolist(), done.trace.end_ps.tolist(), strict=True))
    bars = re.findall(r'data-b="([^"]+)" data-e="([^"]+)"[^>]*><title>(.*?)</title>', page, re.DOTALL)
    assert len(bars) == done.record.transfers
    for begin, end, words in bars:
        pair = round(float(begin) * PS_PER_S), round(float(end) * PS_PER_S)
        assert pair in spans
        assert words.splitlines()[-1].endswith(time_text((pair[1] - pair[0]) / PS_PER_S))
