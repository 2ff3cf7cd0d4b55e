# SPDX-License-Identifier: Apache-2.0
"""The sizes of a sweep, the nccl-tests way: from -b to -e, times -f or plus -i."""

from collections.abc import Iterable

from commbench.collectives.spec import CollectiveSpec
from commbench.errors import InputError, did_you_mean
from commbench.units import parse_size

__all__ = [
    "DTYPE_BYTES",
    "buffer_elements",
    "dtype_bytes",
    "dtype_name",
    "fitting_sizes",
    "plain_dtype",
    "short_dtype",
    "sweep",
    "whole_elements",
]

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8, "int8": 1, "uint8": 1,
               "float8_e4m3fn": 1, "float8_e5m2": 1}  # fmt: skip

_SPELLINGS = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "fp32": "float32",
              "double": "float64", "fp64": "float64", "int": "int32", "long": "int64", "char": "int8",
              "f8e4m3": "float8_e4m3fn", "fp8": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}  # fmt: skip
"""Names of nccl-tests (-d) and of torch for the same types."""
_ALSO = ("fp16", "bf16", "fp32", "fp64", "int", "long", "char", "fp8")  # that nccl-tests does not print today
_NOT_YET = ("uint32", "uint64", "all")
"""What nccl-tests 2.19 takes behind -d and commbench has not."""

_MOST_STEPS = 10_000  # of a sweep
_DEFAULT_LAST = 32 * 2**20  # bytes: where a sweep ends unless told otherwise, as in nccl-tests 2.19 (-e)


def dtype_name(dtype: str) -> str:
    """torch's name of an element type that may be spelled as nccl-tests does ("half").

    Raises:
        InputError: unknown type, or one that commbench does not have yet.
    """
    name = plain_dtype(dtype)
    if name not in DTYPE_BYTES:
        same = "is not supported yet: sizes are in bytes, so another type moves as many, but for what the "
        same += "switches add (NVLS), which not every type has"
        why = same if name in _NOT_YET else "is unknown"
        near = "" if name in _NOT_YET else did_you_mean(name, DTYPE_BYTES)
        raise InputError(f"--dtype {dtype!r} {why}; {near}known: {', '.join(DTYPE_BYTES)}")
    return name


def plain_dtype(dtype: str) -> str:
    """torch's name of an element type, whether commbench has the type or not; what is not known stays as it is."""
    return _SPELLINGS.get(dtype.lower(), dtype.lower())


def short_dtype(dtype: str) -> str:
    """nccl-tests' name of an element type that is called as torch does: "half" for float16."""
    return next((name for name, known in _SPELLINGS.items() if known == dtype and name not in _ALSO), dtype)


def dtype_bytes(dtype: str) -> int:
    """Bytes of one element, by any name of its type.

    Raises:
        InputError: as :func:`dtype_name`.
    """
    return DTYPE_BYTES[dtype_name(dtype)]


def sweep(
    min_bytes: str,
    max_bytes: str | None,
    *,
    factor: float | None = None,
    step: str | None = None,
    element_bytes: int = 4,
) -> list[int]:
    """Sizes in bytes, ascending, each rounded down to whole elements, none twice.

    ``max_bytes`` None ends the sweep at 32 MiB, or at ``min_bytes`` where that is larger; without factor and step,
    sizes double.

    Raises:
        InputError: a size that cannot be read or is below one element, an empty range, or a step that leads nowhere.
    """
    first = parse_size(min_bytes)
    last = max(first, _DEFAULT_LAST) if max_bytes is None else parse_size(max_bytes)
    if first < 1:
        raise InputError(f"-b {min_bytes}: the smallest size must be at least one byte")
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
    size, steps = float(first), 0
    while size <= last:
        if steps == _MOST_STEPS:  # also where many round to one size
            raise InputError(f"-b {min_bytes} to {last} B has more than {_MOST_STEPS} steps: give a larger -f or -i")
        steps += 1
        sizes[int(size) // element_bytes * element_bytes] = None
        size = size + increment if step is not None else size * (2.0 if factor is None else factor)
    sizes.pop(0, None)  # less than one element
    if not sizes:
        raise InputError(f"-b {min_bytes}: smaller than one element of {element_bytes} B, and so is all up to -e")
    return list(sizes)


def fitting_sizes(
    collective: CollectiveSpec, num_ranks: int, sizes_bytes: Iterable[int], element_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes that hold an element for each rank's block, rounded down to whole ones, and those that hold none.

    Raises:
        InputError: no size does.
    """
    unit = element_bytes * (num_ranks if collective.by_rank else 1)
    sizes = tuple(sizes_bytes)
    small = tuple(size for size in sizes if size < unit)
    if len(small) == len(sizes):
        whole_elements(collective, num_ranks, sizes[-1], element_bytes)  # says why not
    return tuple(dict.fromkeys(size // unit * unit for size in sizes if size >= unit)), small


def whole_elements(collective: CollectiveSpec, num_ranks: int, size_bytes: int, element_bytes: int) -> int:
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


def buffer_elements(collective: CollectiveSpec, num_ranks: int, num_elements: int) -> int:
    """Elements of the buffer that a schedule cuts: of all-to-all-v, whose buffer holds all rows, n times the size's."""
    return num_elements * num_ranks if collective.rows else num_elements
