# SPDX-License-Identifier: Apache-2.0
"""A step of blocks that are made once and repeated is the step whose every operation is made anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from commbench.program.operations import Block, Program, ProgramBuilder
from commbench.workload.step import Step, build_step
from commbench.workload.step_block import BlockMaker, PlacedBlock
from commbench.workload.step_units import Folding
from tests.training.plans import LATENT, MIXTURE, TINY, plan


def one_by_one(self: ProgramBuilder, block: Block, labels: Sequence[int], after: list[tuple[int, int]]) -> int:
    """What ``repeat`` says it does, by ``add`` alone."""
    base, inner = len(self), list(zip(block.waiting.tolist(), block.needed.tolist(), strict=True))
    for number, (*fixed, label, purpose) in enumerate(block.rows.tolist()):
        waits = [base + needed for waiting, needed in inner if waiting == number]
        waits += [earlier for waiting, earlier in after if waiting == number]
        self.add((*fixed, label if label >= 0 else labels[-1 - label], purpose), waits)
    return base


def without_blocks(patch: pytest.MonkeyPatch, *arguments: Any) -> Step:
    made = BlockMaker.block

    def anew(self: BlockMaker, *rest: Any) -> PlacedBlock:
        self._made.clear()
        return made(self, *rest)

    with patch.context() as on:
        on.setattr(BlockMaker, "block", anew)
        on.setattr(ProgramBuilder, "repeat", one_by_one)
        return build_step(*arguments)


def words_of(program: Program) -> list[tuple[object, ...]]:
    """Every communication by what it says."""
    return [
        (type(what).__name__, what.name, what.num_bytes, getattr(what, "kind", ""), what.groups.tolist())
        for what in program.communications
    ]


@pytest.mark.parametrize(
    "step",
    [
        plan(tp=2, dp=2, pp=2, batch=8),
        plan(tp=2, pp=2, dp=2, batch=8, recompute="full", overlap_tensor=True, sequence_parallel=True),
        plan(dp=4, batch=12, zero=3),
        plan(dp=2, pp=2, batch=8, zero=2, bucket_bytes=1),
        plan(tp=2, pp=2, batch=6, schedule="zbv", stages=2, scatter_gather=True),
        plan(pp=2, batch=6, schedule="dualpipev", stages=2),
        plan(MIXTURE, tp=2, ep=2, dp=2, pp=2, batch=8),
        plan(LATENT, tp=2, ep=2, dp=2, pp=2, batch=8, layers=(3, 5), sequence_parallel=True),
        plan(TINY, cp=2, dp=2, batch=4),
    ],
)
def test_blocks_change_nothing(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for folding in (Folding.whole(step.degrees), Folding.none(step.degrees)):
        quick, plain = build_step(step, folding), without_blocks(monkeypatch, step, folding)
        one, other = quick.program, plain.program
        for column in ("rank", "duration_ps", "communication", "stream", "label", "purpose", "first", "after"):
            assert np.array_equal(getattr(one, column), getattr(other, column)), column
        assert (one.streams, one.labels, one.purposes) == (other.streams, other.labels, other.purposes)
        assert words_of(one) == words_of(other)
        assert quick.passes == plain.passes
