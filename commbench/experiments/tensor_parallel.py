# SPDX-License-Identifier: Apache-2.0
"""A transformer block that ranks share and its simulated twin: the job, the comparison, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commbench.errors import CheckFailedError, InputError
from commbench.live.job import METHODS, TensorParallelJob
from commbench.results.journal import Journal
from commbench.results.records import Measured, Record
from commbench.results.tensor_parallel_records import (
    TensorParallelCompared,
    TensorParallelMeasured,
    TensorParallelSimulated,
)
from commbench.validate.tensor_parallel import MAX_ERROR, calibrated, compare_tensor_parallel, twin

__all__ = ["BlockTwins", "compare_all", "judge", "make_job"]

_WITH: dict[str, tuple[bool, ...]] = {"both": (False, True), "yes": (True,), "no": (False,)}


@dataclass(frozen=True, slots=True)
class BlockTwins:
    """A measured block; where all-reduces alone were measured beside it, its simulated twin, and both compared."""

    measured: TensorParallelMeasured
    simulated: TensorParallelSimulated | None = None
    compared: TensorParallelCompared | None = None


def make_job(
    *,
    method: str,
    sequence_parallel: str,
    hidden: int,
    ffn: int | None,
    timeout: float,
    join_timeout: float,
    **given: Any,
) -> TensorParallelJob:
    """The job that the options of the same names describe; ``given`` are fields of it.

    Raises:
        InputError: what cannot be run; names option, value and rule.
    """
    if method not in (*METHODS, "both"):
        raise InputError(f"--method {method!r} is unknown; known: {', '.join(METHODS)}, both")
    if sequence_parallel not in _WITH:
        raise InputError(f"--sequence-parallel {sequence_parallel!r} is unknown; known: {', '.join(_WITH)}")
    return TensorParallelJob(
        **given,
        timeout_s=timeout,
        join_timeout_s=join_timeout,
        hidden=hidden,
        ffn=4 * hidden if ffn is None else ffn,
        methods=METHODS if method == "both" else (method,),
        sequence_parallel=_WITH[sequence_parallel],
    )


def compare_all(
    records: Sequence[Record], out: Path, max_error: float | None = None
) -> tuple[list[BlockTwins], list[Measured]]:
    """Simulate every measured block, compare, and append both to the journal; also the all-reduces that calibrated."""
    blocks = [record for record in records if isinstance(record, TensorParallelMeasured)]
    alone = [record for record in records if isinstance(record, Measured)]
    if not blocks or not alone:
        return [BlockTwins(block) for block in blocks], alone
    machine, limit, found = calibrated(alone, blocks[0]), MAX_ERROR if max_error is None else max_error, []
    for block in blocks:
        simulated = twin(block, machine)
        compared = compare_tensor_parallel(block, simulated, machine, alone, max_error=limit)
        found.append(BlockTwins(block, simulated, compared))
        for more in (simulated, compared):
            Journal(out).append(more)
    return found, alone


def judge(twins: Sequence[BlockTwins], max_error: float | None) -> None:
    """Fail on wrong gradients, on bytes that are not the formula's, and past a threshold that was given.

    Raises:
        CheckFailedError: names the method and the numbers.
    """
    for both in twins:
        r = both.measured
        place = f"tensor parallelism by {r.method}, sequence parallel {'yes' if r.sequence_parallel else 'no'}"
        if r.values_ok is False:
            raise CheckFailedError(f"{place}: gradients are off by {r.largest_error:g}, more than {r.tolerance:g}")
        if not r.bytes_ok:
            raise CheckFailedError(f"{place}: {r.moved_bytes:g} B were moved, the formula says {r.formula_bytes:g} B")
    for both in twins:
        if max_error is not None and both.compared is not None and not both.compared.ok:
            raise CheckFailedError(
                f"tensor parallelism by {both.measured.method}, sequence parallel "
                f"{'yes' if both.measured.sequence_parallel else 'no'}: {1e3 * both.compared.measured_s:.2f} ms in "
                f"collectives, simulated {1e3 * both.compared.simulated_s:.2f} ms: {both.compared.error:+z.1%} is more "
                f"than {max_error:.1%}"
            )
