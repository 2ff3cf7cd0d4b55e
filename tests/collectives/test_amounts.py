# SPDX-License-Identifier: Apache-2.0
"""Sizes of a sweep, and how a buffer is cut into chunks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.collectives.schedule import chunk_offsets
from commbench.collectives.sizes import dtype_bytes, sweep
from commbench.errors import InputError


def test_one_size() -> None:
    assert sweep("1M", "1M") == [2**20]


def test_an_open_end() -> None:
    """Up to 32 MiB as in nccl-tests, or just the first size where that is larger."""
    assert sweep("8M", None) == [8 * 2**20, 16 * 2**20, 32 * 2**20]
    assert sweep("64M", None) == [64 * 2**20]


def test_doubling_is_the_default() -> None:
    assert sweep("8", "128") == [8, 16, 32, 64, 128]


def test_another_factor() -> None:
    """1.5: 100, 150, 225, 337.5; each rounded down to whole 4-byte elements."""
    assert sweep("100", "400", factor=1.5) == [100, 148, 224, 336]


def test_a_step() -> None:
    assert sweep("1K", "4K", step="1K") == [1024, 2048, 3072, 4096]


def test_the_last_size_may_be_missed() -> None:
    assert sweep("8", "100", factor=4) == [8, 32]


def test_whole_elements_and_none_twice() -> None:
    """8, 9, 10 ... 17 bytes of 8-byte elements: 8 eight times and 16 twice."""
    assert sweep("8", "17", step="1", element_bytes=8) == [8, 16]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("3", "3"), {}, "-b 3: smaller than one element of 4 B, and so is all up to -e"),
        (("8", "4"), {}, "-e 4: smaller than -b 8"),
        (("8", "64"), {"factor": 2.0, "step": "8"}, "-f and -i: give one of them, not both"),
        (("8", "64"), {"factor": 1.0}, "-f 1: the factor must be above 1"),
        (("8", "64"), {"factor": float("nan")}, "-f nan: the factor must be above 1"),
        (("8", "64"), {"step": "0"}, "-i 0: the step must be at least one byte"),
    ],
)
def test_bad_sweeps(arguments: tuple[str, str | None], options: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        sweep(*arguments, **options)
    assert str(error.value) == message


def test_a_size_that_is_none() -> None:
    with pytest.raises(InputError, match="'8Q' is not a size"):
        sweep("8Q", None)


def test_element_sizes() -> None:
    assert [dtype_bytes(name) for name in ("float16", "float32", "int64")] == [2, 4, 8]
    with pytest.raises(InputError, match=r"dtype 'float3' is unknown; did you mean float32\? known: float16, bfloat16"):
        dtype_bytes("float3")


@given(st.integers(0, 2**40), st.integers(1, 2000))
def test_chunks_cover_the_buffer_evenly(num_elements: int, num_chunks: int) -> None:
    """From 0 to the end, never back, and no two chunks differ by more than one element."""
    offsets = chunk_offsets(num_elements, num_chunks).tolist()
    sizes = [b - a for a, b in pairwise(offsets)]
    assert len(offsets) == num_chunks + 1
    assert (offsets[0], offsets[-1]) == (0, num_elements)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 0


def test_fewer_elements_than_chunks() -> None:
    """3 elements in 5 chunks: floor(c x 3 / 5) = 0, 0, 1, 1, 2, 3."""
    assert chunk_offsets(3, 5).tolist() == [0, 0, 1, 1, 2, 3]


@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 8))
def test_slices_of_chunks_have_the_borders_of_the_chunks(num_elements: int, chunks: int, slices: int) -> None:
    """Cutting each chunk finer does not move the borders of the chunks."""
    whole, fine = chunk_offsets(num_elements, chunks), chunk_offsets(num_elements, chunks * slices)
    assert fine[::slices].tolist() == whole.tolist()
