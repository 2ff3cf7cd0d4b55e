# SPDX-License-Identifier: Apache-2.0
"""The program that is one collective, or the same one for several groups of ranks at a time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from commbench.collectives.sizes import buffer_elements, whole_elements
from commbench.collectives.spec import get_collective
from commbench.program.operations import Collective, Program, ProgramBuilder
from commbench.units import parse_size

__all__ = ["collective_program"]


def collective_program(
    collective: str,
    size: int | str,
    *,
    ranks: int,
    groups: Sequence[npt.NDArray[np.int64]] | None = None,
    element_bytes: int = 4,
    root: int = 0,
) -> Program:
    """A program in which each group of ranks has this collective, at the same time.

    Args:
        collective: which. size: bytes as nccl-tests defines them, or text such as "64 MiB"; rounded down to whole
            elements. element_bytes: of one. root: in each group.
        ranks: of the program. groups: of them, that have it each by itself; None: all together.

    Raises:
        InputError: a size below one element (per rank, where it has blocks).
    """
    spec, size_bytes = get_collective(collective), parse_size(size) if isinstance(size, str) else size
    members = [np.arange(ranks)] if groups is None else groups
    build = ProgramBuilder(ranks)
    for group in members:
        elements = buffer_elements(spec, len(group), whole_elements(spec, len(group), size_bytes, element_bytes))
        build.communicate(Collective(spec.name, group[None, :], elements, element_bytes, root, name=spec.name))
    return build.build()
