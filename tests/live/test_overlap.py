# SPDX-License-Identifier: Apache-2.0
"""What is timed beside something else, when that ends first: once more with more of it, and only then no answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from commbench.live.overlap import _OverlapBench


@pytest.mark.parametrize(
    ("enough", "counts", "samples"), [(1, [41], (1.0,)), (100, [41, 161], (2.0,)), (999, [41, 161], ())]
)
def test_a_busy_moment_is_no_reason_to_give_up(enough: int, counts: list[int], samples: tuple[float, ...]) -> None:
    bench = _OverlapBench.__new__(_OverlapBench)
    bench._session = SimpleNamespace(agreed=lambda ended: ended)  # type: ignore[assignment]
    bench._job = SimpleNamespace(iters=8, warmup=2)  # type: ignore[assignment]
    begun: list[int] = []

    @contextmanager
    def other(count: int) -> Iterator[Callable[[], bool]]:
        begun.append(count)
        yield lambda: count >= enough

    assert bench._beside(lambda: (float(len(begun)),), other, ratio=1.0) == samples
    assert begun == counts
