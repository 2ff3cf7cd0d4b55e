# SPDX-License-Identifier: Apache-2.0
"""Links over time: what the chart shows adds up to the bytes of the record, and stays within the links."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from commbench.report.lanes import names_width
from commbench.report.link_times import link_times
from commbench.report.load import busiest_boxes, fabric_load
from commbench.report.queue_times import largest_queue_times, queue_times
from commbench.report.text import words_width
from commbench.report.trace import collective_trace
from commbench.sim.link_load import busiest_spans, loads_by_time
from commbench.topology.layout import layout, outer_ends
from commbench.topology.load import load_fabric
from commbench.topology.model import LinkKind
from commbench.units import format_bytes
from tests.cases import simulate_collective
from tests.cli.commands import commbench
from tests.report import samples


@pytest.mark.parametrize(("name", "algorithm"), [("fat-tree-16", "ring"), ("dgx-h100-x2", "double-binary-tree")])
def test_mean_loads_add_up_to_the_bytes_of_the_record(name: str, algorithm: str) -> None:
    done = samples.simulation(name, algorithm, links=True)
    told = {link["link"]: link["bytes"] for link in done.record.links}
    fabric, until = load_fabric(name), done.trace.finish_ps
    for one in busiest_spans(done):
        for edges in ([0, until], [0, until // 7, until // 2, until]):
            moved = float(np.sum(one.mean_load(np.array(edges)) * np.diff(edges))) * one.bandwidth
            assert moved / 1e12 == pytest.approx(told[fabric.link_name(one.link)], rel=1e-6)


def test_a_bar_tells_the_load_of_its_time() -> None:
    """In a ring of 2 (n - 1) steps a link waits for the latency of each step and is full for the rest of it."""
    done = samples.simulation("fat-tree-16", "ring", links=True)
    picture = link_times(done, load_fabric("fat-tree-16"))
    assert picture is not None
    bars = re.findall(r"<rect[^>]*>?<title>([^<]*)</title>", picture.svg)
    loads = [float(words.split(": ")[1].split()[0]) for words in bars]
    assert min(loads) > 0
    assert max(loads) <= 100.0
    assert len({words.splitlines()[0] for words in bars}) == 10
    assert link_times(done, load_fabric("fat-tree-128")) is None, "of another fabric nothing is known"


@pytest.mark.parametrize(("name", "algorithm"), [("fat-tree-16", "ring"), ("dgx-h100-x2", "double-binary-tree")])
def test_loads_of_many_links_at_once_are_those_of_each(name: str, algorithm: str) -> None:
    done = samples.simulation(name, algorithm, links=True)
    edges = np.unique(np.linspace(0, done.trace.finish_ps, 14).astype(np.int64))
    spans = list(busiest_spans(done, most=200))
    loads = loads_by_time(done, np.array([one.link for one in spans]), edges)
    assert loads is not None
    assert len(spans) > 10
    for one, row in zip(spans, loads, strict=True):
        assert row == pytest.approx(one.mean_load(edges), rel=1e-6, abs=1e-9)
    idle = np.setdiff1d(np.arange(load_fabric(name).num_links), [one.link for one in spans])
    assert not np.any(loads_by_time(done, idle, edges))


def test_the_drawing_has_the_load_of_the_busiest_link_between_two_boxes() -> None:
    """Over the slices it is at least what the record has for the busier one, and no more than for all together."""
    fabric = load_fabric("fat-tree-16")
    done = samples.simulation("fat-tree-16", "double-binary-tree", 64 * samples.MIB, links=True)
    drawn = {frozenset(stroke.ends) for stroke in layout(fabric).strokes}
    load = fabric_load(fabric, done, drawn)
    assert load.edges_s[0] == 0
    assert load.edges_s[-1] == pytest.approx(done.record.time_s)
    widths = np.diff(load.edges_s)
    between: dict[frozenset[str], list[int]] = {}
    for number, link in enumerate(fabric.links):
        between.setdefault(frozenset(outer_ends(fabric, link)), []).append(number)
    assert len(load.links) > 20
    for ends, one in load.links.items():
        assert len(one.by_time) == len(widths)
        assert max(one.by_time) <= 1000
        sent = done.link_bytes[between[ends]] / fabric.bandwidths[between[ends]]
        shown = float(np.dot(one.by_time, widths)) / 1000
        assert float(sent.max()) - 1e-3 * widths.sum() <= shown <= float(sent.sum()) + 1e-3 * widths.sum()
        assert one.share == pytest.approx(float(sent.max()) / done.record.time_s)
    assert fabric_load(load_fabric("fat-tree-128"), done, drawn).links == {}
    aggregated = samples.simulation("fat-tree-16", links=True, detail="collective")
    assert fabric_load(fabric, aggregated, drawn).edges_s == ()


def test_a_queue_is_shown_as_deep_as_its_record_has_it_over_time() -> None:
    """Seven senders begin at once to each receiver of an all-to-all; when the last packet is through nothing waits."""
    fabric = load_fabric("star-8")
    done = simulate_collective(fabric, "all-to-all", "direct", 2**18, network="packet:dcqcn", links=True)
    for one in done.record.queues:
        assert max(one["by_time_bytes"]) == one["deepest_queue_bytes"]
        assert 32 <= len(one["by_time_bytes"]) <= 64
        assert (len(one["by_time_bytes"]) - 1) * one["slice_s"] < done.record.time_s
    picture = largest_queue_times([done.record])
    assert picture is not None
    bars = re.findall(r"<rect[^>]*>?<title>([^<]*)</title>", picture.svg)
    shown = {format_bytes(depth) for one in done.record.queues for depth in one["by_time_bytes"] if depth}
    assert {words.split(": ")[1] for words in bars} == shown
    assert largest_queue_times([simulate_collective(fabric, "all-to-all", "direct", 2**18).record]) is None
    counters = [e for e in json.loads(collective_trace(done, fabric))["traceEvents"] if e["name"][:5] == "bytes"]
    deepest = {f"bytes before {one['link']}": one["deepest_queue_bytes"] for one in done.record.queues}
    assert {name: max(e["args"]["bytes"] for e in counters if e["name"] == name) for name in deepest} == deepest
    assert counters[-1]["args"]["bytes"] == 0


def _names(svg: str) -> list[tuple[float, str]]:
    """Where the names of rows end, and what they are."""
    told = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end"[^>]*>([^<]*)</text>', svg)
    return [(float(x), words.replace("&gt;", ">")) for x, words in told]


def test_names_of_links_stand_whole_inside_the_picture() -> None:
    """They were cut at the left by the edge and at the right by dots."""
    fabric = load_fabric("fat-tree-1024")
    done = simulate_collective(fabric, "all-to-all", "direct", 2**20, num_ranks=16, placement="random", links=True)
    picture = link_times(done, fabric)
    assert picture is not None
    names = _names(picture.svg)
    assert [name for _, name in names] == [fabric.link_name(one.link) for one in busiest_spans(done)]
    assert "h194/cpu0 -> h194/nic0" in [name for _, name in names]
    assert all(end - words_width(name, 12) >= 0 for end, name in names)


def test_a_name_that_is_too_long_loses_its_end_alone() -> None:
    long = {"link": "a-switch-of-the-second-floor -> another-one-of-the-third", "slice_s": 1.0, "by_time_bytes": [1, 2]}
    picture = queue_times([long], "what", "queues")
    assert picture is not None
    ((end, name),) = _names(picture.svg)
    assert name.endswith("…")
    assert long["link"].startswith(name[:-1])  # type: ignore[attr-defined]
    assert len(name) > 20
    assert end - words_width(name, 12) >= 0
    assert names_width([str(long["link"])]) <= 200, "a phone has 358 pixels"
    assert names_width(["rank 1"]) < 60


def test_both_ends_of_the_busiest_links_are_drawn() -> None:
    fabric = load_fabric("fat-tree-1024")
    done = simulate_collective(fabric, "all-to-all", "direct", 2**20, num_ranks=16, placement="random", links=True)
    drawn = {frozenset(stroke.ends) for stroke in layout(fabric, busiest_boxes(fabric, done)).strokes}
    busy = done.link_bytes / fabric.bandwidths
    for tier in ("spine", "nic"):
        of_tier = [link for link in fabric.links if link.kind is LinkKind.NETWORK and tier in link.src + link.dst]
        first = sorted(of_tier, key=lambda link: -busy[link.index])[:4]
        assert {frozenset(outer_ends(fabric, link)) for link in first} <= drawn
    assert busiest_boxes(load_fabric("fat-tree-128"), done) == {}, "of another fabric nothing is known"


@pytest.mark.parametrize(("size", "known"), [("1M", True), ("16M", False)])
def test_what_a_library_puts_on_links_is_told_where_it_is_known(tmp_path: Path, size: str, known: bool) -> None:
    """Here NCCL takes a ring at 1 MiB, whose messages are simulated; of a tree the model says the time alone."""
    page = tmp_path / "page.html"
    given = ["sim", "all-reduce", "-t", "p3dn-x2", "-b", size, "-e", size, "--links", "--page", str(page)]
    done = commbench(*given, folder=tmp_path)
    assert done.returncode == 0
    why = "what links carry is not known: of nccl's Tree its model says the time, not which links its messages take"
    assert (why in done.stderr) is not known
    assert ("busiest link" in done.stdout) is known
    text = page.read_text("utf-8")
    assert ("not known: of nccl&#39;s Tree its model says the time" in text) is not known
    assert ("idle to in use all the time" in text) is known
    assert ("data-share=" in text) is known
