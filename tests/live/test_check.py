# SPDX-License-Identifier: Apache-2.0
"""The correctness check itself: exact in every dtype, and able to fail."""

import pytest

torch = pytest.importorskip("torch")

from commbench.collectives.spec import COLLECTIVES  # noqa: E402
from commbench.live.check import BufferLayout, count_wrong, fill_input, plain_layout  # noqa: E402  needs torch

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64)


def _layout(num_ranks: int, num_elements: int) -> BufferLayout:
    return plain_layout("all-reduce", num_ranks, num_elements)


def _wrong(total: "torch.Tensor", num_ranks: int) -> int:
    return count_wrong(total, _layout(num_ranks, total.numel()), 0)


def _filled(layout: BufferLayout, rank: int, dtype: "torch.dtype" = torch.float32) -> "torch.Tensor":
    memory = torch.empty(layout.num_buffers * layout.num_elements, dtype=dtype)
    fill_input(memory, layout, rank)
    return memory


def _sum(num_ranks: int, num_elements: int, dtype: "torch.dtype", order: int = 1) -> "torch.Tensor":
    """The ranks' inputs added one after the other in the dtype itself."""
    total = torch.zeros(num_elements, dtype=dtype)
    for rank in range(num_ranks)[::order]:
        total += _filled(_layout(num_ranks, num_elements), rank, dtype)
    return total


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_ranks", [1, 2, 7, 64, 300])
def test_sums_are_exact_in_any_order(dtype: "torch.dtype", num_ranks: int) -> None:
    for order in (1, -1):
        assert _wrong(_sum(num_ranks, 20_000, dtype, order), num_ranks) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_wrong_element_counts(dtype: "torch.dtype") -> None:
    total = _sum(4, 1000, dtype)
    total[[3, 500, 999]] += 1
    assert _wrong(total, 4) == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_ranks", [2, 64, 200])
def test_a_chunk_in_anothers_place_shows(dtype: "torch.dtype", num_ranks: int) -> None:
    total = _sum(num_ranks, 4096, dtype)
    for chunk in (1, 2, 64, 1024, 2048):
        moved = total.roll(chunk)
        assert _wrong(moved, num_ranks) > 1000, chunk


def test_ranks_differ() -> None:
    rows = [_filled(_layout(3, 1000), rank) for rank in range(3)]
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32], ids=str)
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_memory_that_nobody_wrote_is_wrong(collective: str, dtype: "torch.dtype") -> None:
    """A rank that does nothing has all of its result wrong but what the input already had right: its own block."""
    own = {"all-gather", "gather", "scatter", "broadcast"}
    for rank in range(4):
        layout = plain_layout(collective, 4, 64, root=1 if COLLECTIVES[collective].rooted else 0)
        wrong = count_wrong(_filled(layout, rank, dtype), layout, rank)
        listed = sum(
            layout.borders[piece + 1] - layout.borders[piece]
            for holder, piece in COLLECTIVES[collective].after(layout.shape)
            if holder == rank
        )
        if collective in own:
            holds = {"all-gather": 16, "gather": 16 * (rank == 1), "scatter": 16 * (rank == 1), "broadcast": 64}
            assert wrong == listed - (holds[collective] if collective != "broadcast" or rank == 1 else 0)
        elif collective == "barrier":
            assert wrong == 48  # of 64 places, one in four is for this rank
        else:
            assert listed * 0.9 <= wrong <= listed


@pytest.mark.parametrize("collective", [name for name, spec in COLLECTIVES.items() if not spec.reduces])
def test_another_ranks_data_in_a_place_is_wrong(collective: str) -> None:
    layout = plain_layout(collective, 3, 9 * 30)
    first = layout.output * layout.num_elements
    result = torch.empty(layout.num_buffers * layout.num_elements)
    for (holder, piece), wanted in COLLECTIVES[collective].after(layout.shape).items():
        ((origin, source),) = wanted
        for other in range(3):
            fill_input(result, layout, holder)
            whole = plain_layout("all-reduce", 3, layout.num_elements)  # every rank's values everywhere, as summands
            inputs = torch.empty(layout.num_elements)
            fill_input(inputs, whole, other)
            size = layout.borders[source + 1] - layout.borders[source]
            right = result[first + layout.borders[piece] :][:size]
            right.copy_(inputs[layout.borders[source] :][:size])
            before = count_wrong(result, layout, holder)
            right.fill_(float("nan"))
            gained = count_wrong(result, layout, holder) - before
            assert (gained == size) == (other == origin), (holder, piece, other)


def test_a_barrier_may_hear_twice_but_not_never() -> None:
    layout = plain_layout("barrier", 3, 3)
    assert count_wrong(torch.tensor([1.0, 4.0, 2.0]), layout, 0) == 0
    assert count_wrong(torch.tensor([1.0, 0.0, float("nan")]), layout, 0) == 2
    assert count_wrong(torch.tensor([1, 1, -(2**29)]), layout, 0) == 1
