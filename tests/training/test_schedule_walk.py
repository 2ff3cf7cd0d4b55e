# SPDX-License-Identifier: Apache-2.0
"""Walks through schedules whose seconds can be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from commbench.training.crowding import Crowds, crowded
from commbench.training.schedule_walk import KINDS, Given, lay, walk
from commbench.training.stage_seconds import Edges

NAMES = list(Edges.__dataclass_fields__)


def given(stages: int, lasts: tuple[float, float, float, float], sent: float, **edges: float) -> Given:
    """Passes that last the same on every stage (F, B, I, W), and their edges, of F alone."""
    shape, none = (stages, len(KINDS)), np.zeros(stages)
    ways = np.array([[sent * (stage < stages - 1), sent * (stage > 0)] for stage in range(stages)])
    found = np.zeros((len(NAMES), *shape))
    for name, value in edges.items():
        found[NAMES.index(name), :, 0] = value
    zeros = np.zeros(shape)
    return Given(np.tile(lasts, (stages, 1)), ways, found, none, none, none, none, zeros, zeros)


def test_a_gather_is_over_before_the_input_comes() -> None:
    """Two ranks, one microbatch: the second rank fetches while it waits. It was added to the pass, and the bound of
    steps of mixtures was above what they took.
    """
    one = given(2, (4.0, 8.0, 0.0, 0.0), 1.0, first=3.0)
    walked = walk(lay("1f1b", 2, 1, 1), one, blocks=True)
    assert walked.begun.tolist() == [3, 3 + 4 + 1 + 4 + 8 + 1, 8, 12]


def test_a_second_gather_that_began_early_leaves_less_to_wait_for() -> None:
    """The layer computes 1 s beside a gather of 4 s: the first rank waits for all of it, the second for none."""
    one = given(2, (4.0, 8.0, 0.0, 0.0), 1.0, first=1.0, second=4.0, opening=1.0)
    walked = walk(lay("1f1b", 2, 1, 1), one, blocks=True)
    assert walked.ended[0] == pytest.approx(1 + 4)
    assert walked.ended[2] - walked.begun[2] == pytest.approx(4 - 3)


def test_outputs_over_one_boundary_come_one_after_the_other() -> None:
    """ZB-H1 does not wait for what it sends; the second output is there as long as sending takes behind the first."""
    laid = lay("zb-h1", 2, 2, 1)
    walked = walk(laid, given(2, (1.0, 0.0, 1.0, 1.0), 10.0), blocks=False)
    there = [walked.arrived[part] for part in laid.sends.tolist() if laid.stage[part] == 0]
    assert there == [11.0, 21.0]


def test_two_outputs_to_one_rank_share_what_it_has() -> None:
    """Interleaved stages: where the pipeline turns, one of a stage's eight outputs meets another all the way, and half
    of that second is too much.
    """
    laid = lay("interleaved-1f1b", 4, 8, 2)
    one = given(8, (4.0, 4.0, 0.0, 0.0), 1.0)
    full = Crowds(
        others=np.ones((8, 2)), fetches=np.zeros((8, 2)), reduces=np.zeros((8, 2)),
        alike=np.zeros((8, 2), np.int64), passes=np.zeros((1, 8, len(KINDS))),
    )  # fmt: skip
    found = crowded(laid, one, walk(laid, one, blocks=True), full, blocks=True)
    assert sorted(set((found.sent - one.sent).ravel().tolist())) == pytest.approx([0, 0.5 / 8])
    assert (found.lasts == one.lasts).all()
    apart = crowded(laid, one, walk(laid, one, blocks=True), replace(full, others=np.zeros((8, 2))), blocks=True)
    assert (apart.sent == one.sent).all()


def test_a_transfer_and_the_collectives_of_a_pass_share_what_its_rank_has() -> None:
    laid = lay("zb-h1", 2, 4, 1)
    one = given(2, (4.0, 0.0, 4.0, 4.0), 2.0)
    half = Crowds(
        others=np.zeros((2, 2)), fetches=np.zeros((2, 2)), reduces=np.zeros((2, 2)),
        alike=np.zeros((2, 2), np.int64), passes=np.full((1, 2, len(KINDS)), 0.5),
    )  # fmt: skip
    found = crowded(laid, one, walk(laid, one, blocks=False), half, blocks=False)
    assert found.sent[0, 0] > 2.1
    assert found.lasts.sum() > one.lasts.sum()
