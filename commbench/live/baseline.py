# SPDX-License-Identifier: Apache-2.0
"""All-reduces alone, on the ranks that share a block and in the conditions of one: what its twin is calibrated on.

They are called as a block calls them: torch's functional all-reduce, which first copies its input. Before each and
behind the last, every rank runs the whole block by itself on a few sequences, forward and backward in turn; nothing of
it is sent. That matters where ranks have no core to spare: a rank that comes from computing waits for the scheduler in
the midst of a collective, one that comes from a barrier hardly does; and ranks that are done take the processor from
those that are not. Time counts from the last rank's entry.

Two things are timed beside them: the same call in a group of the rank alone, which sends nothing, and a copy.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional

from commbench.collectives.spec import get_collective
from commbench.live.block import Sizes, TransformerBlock
from commbench.live.check import count_wrong, fill_input, plain_layout
from commbench.live.job import TensorParallelJob
from commbench.live.session import Session
from commbench.results.records import Measured

__all__ = ["BaselineAllReduces", "BaselineObserved", "sizes_of"]

_FACTORS = (0.25, 1, 4)  # of the size of a message of the block
_COLLECTIVE = "all-reduce"
_CALLED = (
    "torch's functional all-reduce, between passes of a block; phase wait: for the last rank to enter, before the time "
    "that counts; call: another one in a group of one; copy: of the input by itself"
)


def sizes_of(job: TensorParallelJob) -> tuple[int, ...]:
    """Bytes of the all-reduces, ascending: around the block's own size, in whole elements."""
    element_bytes = getattr(torch, job.dtype).itemsize
    elements = job.micro_batch * job.sequence * job.hidden
    return tuple(sorted({max(1, int(factor * elements)) * element_bytes for factor in _FACTORS}))


@dataclass(frozen=True, slots=True)
class BaselineObserved:
    """What one rank saw at one size.

    Attributes:
        marks: (entered, done) of each all-reduce on the host's clock.
        call_s: of the call in a group of one. copy_s: of a copy. wrong: elements; None if not checked.
    """

    marks: list[tuple[float, float]] = field(default_factory=list)
    call_s: list[float] = field(default_factory=list)
    copy_s: list[float] = field(default_factory=list)
    wrong: int | None = None


class BaselineAllReduces:
    """All-reduces of every size, in turn; CPU tensors only.

    Args:
        job: whose block they stand beside. session: of the ranks.
    """

    def __init__(self, job: TensorParallelJob, session: Session) -> None:
        dtype = getattr(torch, job.dtype)
        self._job, self._session = job, session
        self._inputs = {size: torch.zeros(size // dtype.itemsize, dtype=dtype) for size in sizes_of(job)}
        sequences = max(1, job.micro_batch // (2 * job.ranks))  # between two calls as much as in the block, roughly
        self._block = TransformerBlock(Sizes(job.hidden, job.heads, job.ffn, job.sequence, job.micro_batch)).to(dtype)
        self._x = torch.ones(job.sequence, sequences, job.hidden, dtype=dtype)
        groups = [dist.new_group([rank], backend="gloo") for rank in range(job.ranks)]  # all ranks make all groups
        by_itself = groups[session.rank]
        assert by_itself is not None
        self._by_itself = by_itself
        self.observed = {size: BaselineObserved() for size in self._inputs}

    def round(self, *, keep: bool) -> None:
        """Two of each size, one behind a forward and one behind a backward pass; kept unless it is to warm up."""
        self._session.barrier()
        for size, data in self._inputs.items():
            seen = self.observed[size] if keep else BaselineObserved()
            output = self._block(self._x)
            seen.marks.append(self._time(data, self._session.data))
            output.sum().backward()
            seen.marks.append(self._time(data, self._session.data))
            with torch.no_grad():
                self._block(self._x)
            entered, done = self._time(data, self._by_itself)
            seen.call_s.append(done - entered)
            entered = time.perf_counter()
            data.clone()
            seen.copy_s.append(time.perf_counter() - entered)
        with torch.no_grad():
            self._block(self._x)

    def _time(self, data: torch.Tensor, group: dist.ProcessGroup) -> tuple[float, float]:
        """When it entered, and when it had the result."""
        entered = time.perf_counter()
        functional.wait_tensor(functional.all_reduce(data, "sum", group))  # type: ignore[no-untyped-call]
        return entered, time.perf_counter()

    def checked(self) -> dict[int, BaselineObserved]:
        """What was seen, with the wrong elements of one more call at each size if the job checks."""
        if not self._job.check:
            return self.observed
        return {size: replace(seen, wrong=self._wrong(size)) for size, seen in self.observed.items()}

    def _wrong(self, size: int) -> int:
        data, rank = self._inputs[size], self._session.rank
        layout = plain_layout(_COLLECTIVE, self._job.ranks, data.numel())
        fill_input(data, layout, rank)
        reduced = functional.all_reduce(data, "sum", self._session.data)
        return count_wrong(functional.wait_tensor(reduced), layout, rank)  # type: ignore[no-untyped-call]

    def records(self, everyone: Sequence[dict[int, BaselineObserved]], started_at: str) -> list[Measured]:
        """An ordinary record of each size, from what all ranks saw."""
        return [self._record(size, [seen[size] for seen in everyone], started_at) for size in self._inputs]

    def _record(self, size: int, everyone: Sequence[BaselineObserved], started_at: str) -> Measured:
        job, facts = self._job, self._session.facts
        last = [max(entered for entered, _ in call) for call in zip(*(seen.marks for seen in everyone), strict=True)]
        wrong = [seen.wrong for seen in everyone if seen.wrong is not None]
        return Measured(
            run=job.run,
            collective=_COLLECTIVE,
            algorithm="native",
            backend=facts.backend,
            ranks=job.ranks,
            size_bytes=size,
            num_elements=self._inputs[size].numel(),
            dtype=job.dtype,
            op="sum",
            samples_s=tuple(
                tuple(done - entry for (_, done), entry in zip(seen.marks, last, strict=True)) for seen in everyone
            ),
            phases_s={
                "wait": tuple(
                    tuple(entry - entered for (entered, _), entry in zip(seen.marks, last, strict=True))
                    for seen in everyone
                ),
                "call": tuple(tuple(seen.call_s) for seen in everyone),
                "copy": tuple(tuple(seen.copy_s) for seen in everyone),
            },
            timing="isolated",
            wrong=sum(wrong) if wrong else None,
            busbw_factor=get_collective(_COLLECTIVE).busbw_factor(job.ranks),
            launcher=facts.launcher,
            started_at=started_at,
            environment={**facts.environment, "called": _CALLED},
        )
