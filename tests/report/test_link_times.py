# SPDX-License-Identifier: Apache-2.0
"""Links over time: what the chart shows adds up to the bytes of the record, and stays within the links."""

import re

import numpy as np
import pytest

from commbench.report.link_times import link_times
from commbench.sim.link_load import busiest_spans
from commbench.topology.load import load_fabric
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
