# SPDX-License-Identifier: Apache-2.0
"""Who sends when: shares that add up to what the transfers last, whatever the groups and slices."""

import re
from itertools import pairwise

import numpy as np
import pytest

from commbench.report.activity import under_way
from commbench.report.gantt import gantt
from tests.report import samples


@pytest.mark.parametrize("bounds", [[0, 16], [0, 1, 7, 16], list(range(17))])
@pytest.mark.parametrize("slices", [1, 7, 160])
def test_shares_add_up_to_what_transfers_last(bounds: list[int], slices: int) -> None:
    done = samples.simulation("leaf-spine-16-4to1", "double-binary-tree")
    edges = np.unique(np.linspace(0, done.trace.finish_ps, slices + 1).astype(np.int64))
    shares = under_way(done, np.array(bounds), edges)
    sends = done.flat.peer >= 0
    lasted = (done.trace.end_ps - done.trace.start_ps)[sends]
    for group, (first, after) in enumerate(pairwise(bounds)):
        mine = (done.flat.rank[sends] >= first) & (done.flat.rank[sends] < after)
        total = (shares[group] * np.diff(edges)).sum() * (after - first)
        assert total == pytest.approx(lasted[mine].sum())
    assert shares.min() >= 0


def test_a_slice_has_what_is_under_way_in_it() -> None:
    """A ring of 4: every rank sends all the time, but for what the slower ones make it wait."""
    done = samples.simulation("star-8")
    edges = np.array([0, done.trace.finish_ps])
    assert under_way(done, np.arange(9), edges) == pytest.approx(np.ones((8, 1)))


def test_a_chart_that_leaves_something_out_has_an_overview() -> None:
    assert gantt(samples.simulation("fat-tree-16")).overview is None
    chart = gantt(samples.simulation("fat-tree-64")).overview
    assert chart is not None
    assert "ranks 62 to 63" in chart.svg
    opacities = [float(o) for o in re.findall(r'fill-opacity="([\d.]+)"', chart.svg)]
    assert max(opacities) == 1
    assert ": 1.00 transfers under way per rank" in chart.svg
