# SPDX-License-Identifier: Apache-2.0
"""A machine as calibration sees it: four fitted numbers, turned into an ordinary topology file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.results.outfile import write_whole
from commbench.topology.build import build_fabric
from commbench.topology.fabric import Fabric
from commbench.topology.schema import TopologyFile

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Ranks of one machine that talk through its memory, with the numbers that calibration found.

    Attributes:
        name: of the machine, for people. cores: processors that the ranks share.
        message_overhead_s: processor time of one message on either side (o).
        latency_s: time of a message that is neither processor nor bandwidth (alpha): wake-ups, the kernel's queue.
        bandwidth: bytes/s that all ranks together can move (1 / beta).
        reduction: bytes/s at which a rank adds what it received (1 / gamma).
        source: the records that they were fitted to.
    """

    name: str
    cores: int
    message_overhead_s: float
    latency_s: float
    bandwidth: float
    reduction: float
    source: str

    def topology(self, num_ranks: int) -> Fabric:
        """The machine with this many ranks on it.

        Raises:
            InputError: fewer than one rank.
        """
        if num_ranks < 1:
            raise InputError(f"--ranks {num_ranks}: a machine has at least 1 rank")
        return build_fabric(TopologyFile.model_validate(self._document(num_ranks)), f"calibration of {self.name}")

    def figures(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)

    def write(self, path: Path, num_ranks: int) -> None:
        """Write the machine as a topology file that ``--topology PATH`` takes."""
        import yaml

        self.topology(num_ranks)  # what cannot be built is not written
        write_whole(
            path,
            "# Written by `commbench calibrate`; the numbers belong to one machine and one software.\n"
            + yaml.safe_dump(self._document(num_ranks), sort_keys=False, width=110),
        )

    def _document(self, num_ranks: int) -> dict[str, Any]:
        def fitted(value: str) -> dict[str, str]:
            return {"value": value, "provenance": "fitted", "source": self.source}

        bandwidth = fitted(f"{self.bandwidth / 1e9:.6g} GB/s")
        alone = "one rank alone is assumed to reach what all reach together; runs of full rings cannot tell"
        none = {"value": "0 us", "provenance": "assumed", "source": "counted in memory.latency"}
        return {
            "name": f"{self.name}-{num_ranks}",
            "description": f"{num_ranks} CPU ranks on {self.name}, calibrated.",
            "routing": "d-mod-k",
            "host": {
                "wiring": "shared-memory",
                "ranks": num_ranks,
                "cores": self.cores,
                "rank_link": {
                    "bandwidth": bandwidth | {"provenance": "assumed", "source": alone},
                    "latency": none,
                },
                "memory": {"bandwidth": bandwidth, "latency": fitted(f"{self.latency_s * 1e9:.0f} ns")},
            },
            "fabric": {"kind": "none"},
            "costs": {
                "message_overhead": fitted(f"{self.message_overhead_s * 1e9:.0f} ns"),
                "reduction": fitted(f"{self.reduction / 1e9:.6g} GB/s"),
            },
        }
