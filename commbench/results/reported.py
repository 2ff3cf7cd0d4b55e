# SPDX-License-Identifier: Apache-2.0
"""A row of somebody else's log: one time, without the samples that it was made of."""

from dataclasses import dataclass
from typing import Any, ClassVar

from commbench.results.records import Record, bandwidth_GBps
from commbench.results.values import Bytes, Count, Factor, Lasting, Name, Whole

__all__ = ["Reported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(Record):
    """One collective at one size, as another program measured and told it.

    Attributes:
        run: the log, and which of its tables.
        collective: key of ``collectives.spec.COLLECTIVES``. ranks: world size.
        library: "NCCL", "RCCL" or "" where the log does not say; version: of it, likewise.
        size_bytes: as nccl-tests defines the size. num_elements: of the buffer. dtype, op: of it, "" where not told.
        root: of rooted collectives, else None. in_place: whether the result stood where the input stood.
        time_s: what the log tells; nccl-tests': mean over iterations and ranks.
        busbw_factor: factor from algbw to busbw for this collective and world size.
        wrong: elements with a wrong value; None if the log does not say.
        failed: whether the log's last lines say that values were wrong in some row of its table.
        problem: what is odd about the row, for example a bandwidth that its time does not give; "" if nothing is.
        algorithm, protocol, channels: what ran, as rccl-tests may append to a row; "" and None where not told.
        gpus_per_process: that one process drove (nccl-tests -t and -g); None where not told.
        hosts: how many the ranks sat on; None where not told. device: what they are, "" likewise.
        source: the file; line: the row in it.
    """

    kind: ClassVar[str] = "reported"

    run: Name
    collective: Name
    library: str
    ranks: Count
    size_bytes: Bytes
    num_elements: Whole
    dtype: str
    op: str
    time_s: Lasting
    busbw_factor: Factor
    in_place: bool
    source: Name
    line: Whole
    version: str = ""
    root: Whole | None = None
    wrong: Whole | None = None
    problem: str = ""
    failed: bool = False
    algorithm: str = ""
    protocol: str = ""
    channels: Count | None = None
    gpus_per_process: Count | None = None
    hosts: Count | None = None
    device: str = ""

    @property
    def algbw_GBps(self) -> float | None:  # noqa: N802
        """size / time in GB/s."""
        return bandwidth_GBps(self.size_bytes, self.time_s)

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802
        """algbw x factor in GB/s; None for one rank, where it says nothing."""
        algbw = self.algbw_GBps
        return algbw * self.busbw_factor if algbw is not None and self.ranks > 1 else None

    def derived(self) -> dict[str, Any]:
        """Bandwidths."""
        return {"algbw_GBps": self.algbw_GBps, "busbw_GBps": self.busbw_GBps}
