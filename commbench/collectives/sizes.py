# SPDX-License-Identifier: Apache-2.0
"""The sizes of a sweep, the nccl-tests way: from -b to -e, times -f or plus -i."""

from commbench.collectives.spec import Collective, get_collective
from commbench.errors import InputError
from commbench.units import parse_size

__all__ = ["DTYPE_BYTES", "buffer_elements", "dtype_bytes", "sweep", "whole_elements"]

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8}

_DEFAULT_LAST = 32 * 2**20  # bytes: where a sweep ends unless told otherwise, as in nccl-tests 2.19 (-e)


def dtype_bytes(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        InputError: unknown type.
    """
    if dtype not in DTYPE_BYTES:
        raise InputError(f"--dtype {dtype!r} is unknown; known: {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]


def sweep(
    min_bytes: str,
    max_bytes: str | None,
    *,
    factor: float | None = None,
    step: str | None = None,
    element_bytes: int = 4,
    collective: str | None = None,
) -> list[int]:
    """Sizes in bytes, ascending, each rounded down to whole elements, none twice; for a barrier only the first.

    ``max_bytes`` None ends the sweep at 32 MiB, or at ``min_bytes`` where that is larger; without factor and step,
    sizes double.

    Raises:
        InputError: a size that cannot be read or is below one element, an empty range, or a step that leads nowhere.
    """
    first = parse_size(min_bytes)
    if collective is not None and get_collective(collective).covers:
        max_bytes = min_bytes  # whatever the size, it moves one token
    last = max(first, _DEFAULT_LAST) if max_bytes is None else parse_size(max_bytes)
    if first < element_bytes:
        raise InputError(f"-b {min_bytes}: smaller than one element of {element_bytes} B")
    if last < first:
        raise InputError(f"-e {max_bytes}: smaller than -b {min_bytes}")
    if factor is not None and step is not None:
        raise InputError("-f and -i: give one of them, not both")
    if factor is not None and not factor > 1:
        raise InputError(f"-f {factor:g}: the factor must be above 1")
    increment = parse_size(step) if step is not None else 0
    if step is not None and increment < 1:
        raise InputError(f"-i {step}: the step must be at least one byte")
    sizes: dict[int, None] = {}
    size = float(first)
    while size <= last:
        sizes[int(size) // element_bytes * element_bytes] = None
        size = size + increment if step is not None else size * (2.0 if factor is None else factor)
    return list(sizes)


def whole_elements(collective: Collective, num_ranks: int, size_bytes: int, element_bytes: int) -> int:
    """Elements at a size: rounded down to whole ones, and to the same number in every rank's block.

    They are those of the full buffer, of all-to-all-v those of one rank (see :func:`buffer_elements`), and one for a
    barrier whatever the size, because it has none.

    Raises:
        InputError: the size holds not even one element, or one for each rank's block.
    """
    if collective.covers:
        return 1
    unit = num_ranks if collective.by_rank else 1
    num_elements = size_bytes // element_bytes // unit * unit
    if num_elements < 1:
        each = f" for each of {num_ranks} ranks" if collective.by_rank else ""
        raise InputError(f"size {size_bytes} B is smaller than one element of {element_bytes} B{each}")
    return num_elements


def buffer_elements(collective: Collective, num_ranks: int, num_elements: int) -> int:
    """Elements of the buffer that a schedule cuts: of all-to-all-v, whose buffer holds all rows, n times the size's."""
    return num_elements * num_ranks if collective.rows else num_elements
