# SPDX-License-Identifier: Apache-2.0
"""Which port is crowded, on two switches: links 0 and 1 feed link 2, link 3 is inside a host."""

import numpy as np
import pytest

from commbench.engine.crowded import CrowdedPort, crowded_port
from commbench.engine.setting import Paths
from commbench.engine.trace import Trace
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram

INTO = ((0, 2), (1, 2))


def port(
    routes: tuple[tuple[int, ...], ...],
    spans: tuple[tuple[int, int], ...],
    *,
    bandwidths: tuple[float, ...] = (4.0, 4.0, 6.0, 6.0),
    finish_ps: int = 100,
) -> CrowdedPort | None:
    """Transfers over these routes, under way from start to end, behind one task of compute."""
    count = len(routes)
    zeros = np.zeros(count + 1, np.int64)
    kinds = np.array([COMPUTE, *[TRANSFER] * count], np.int64)
    tasks = FlatProgram(
        num_ranks=2, kind=kinds, rank=zeros, peer=zeros + 1, num_bytes=zeros + 1, duration_ps=zeros, channel=zeros,
        step=zeros, operation=zeros, first=np.zeros(count + 2, np.int64), needs=np.empty(0, np.int64),
    )  # fmt: skip
    start, end = np.array([(0, finish_ps), *spans], np.int64).T
    paths = Paths.of_lists(bandwidths, routes, [0] * count, [-1, *range(count)])
    inside = np.array([False, False, False, True])
    return crowded_port(tasks, Trace(start, end, 0, finish_ps), Paths(**_fields(paths) | {"inside": inside}))


def _fields(paths: Paths) -> dict[str, object]:
    return {name: getattr(paths, name) for name in ("bandwidths", "first", "links", "latency_ps", "route_of")}


def test_two_feeds_that_bring_more_than_the_port_takes() -> None:
    assert port(INTO, ((0, 60), (20, 90))) == CrowdedPort(link=2, senders=2, inflow=8.0, share=0.4)


def test_of_two_ports_the_one_that_is_crowded_for_longer() -> None:
    routes = ((0, 2), (1, 2), (0, 4), (1, 4))
    spans = ((0, 20), (0, 20), (20, 100), (50, 100))
    paths = Paths.of_lists([4.0, 4.0, 6.0, 6.0, 7.0], routes, [0] * 4, [-1, 0, 1, 2, 3])
    zeros = np.zeros(5, np.int64)
    tasks = FlatProgram(
        num_ranks=2, kind=np.array([COMPUTE, *[TRANSFER] * 4]), rank=zeros, peer=zeros + 1, num_bytes=zeros + 1,
        duration_ps=zeros, channel=zeros, step=zeros, operation=zeros, first=np.zeros(6, np.int64),
        needs=np.empty(0, np.int64),
    )  # fmt: skip
    start, end = np.array([(0, 100), *spans], np.int64).T
    found = crowded_port(tasks, Trace(start, end, 0, 100), paths)
    assert found == CrowdedPort(link=4, senders=2, inflow=8.0, share=0.5)


@pytest.mark.parametrize(
    ("routes", "spans", "bandwidths"),
    [
        (INTO, ((0, 50), (50, 90)), (9.0, 4.0, 6.0, 6.0)),  # one after the other: one feed at a time
        (INTO, ((0, 60), (20, 90)), (4.0, 4.0, 8.0, 6.0)),  # the port takes both
        (INTO, ((0, 60), (59, 90)), (4.0, 4.0, 6.0, 6.0)),  # over at once
        (((0, 2), (0, 2)), ((0, 60), (0, 60)), (9.0, 4.0, 6.0, 6.0)),  # one feed: its host holds back
        (((0, 3), (1, 3)), ((0, 60), (0, 60)), (4.0, 4.0, 6.0, 6.0)),  # inside a host
        (((2,), (2,)), ((0, 60), (0, 60)), (4.0, 4.0, 6.0, 6.0)),  # no link before
    ],
)
def test_no_port_is_crowded(
    routes: tuple[tuple[int, ...], ...], spans: tuple[tuple[int, int], ...], bandwidths: tuple[float, ...]
) -> None:
    assert port(routes, spans, bandwidths=bandwidths) is None


def test_an_empty_run() -> None:
    assert port((), ()) is None
