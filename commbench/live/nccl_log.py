# SPDX-License-Identifier: Apache-2.0
"""Which network, NICs and transports NCCL chose, from its own debug log.

NCCL tells of them at INFO when its ranks connect, and nowhere else. So it is asked to, into a file of its own for each
process, unless the user has it log already: then that is left as it is.

Lines as NCCL 2.18 to 2.27 prints them (src/transport/net_ib.cc, net_socket.cc, p2p.cc, shm.cc, net.cc, src/init.cc).
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["NcclLog", "Transports", "merged", "read_transports"]

_NETWORK = re.compile(r"NCCL INFO Using network (.+?)\s*$|NCCL INFO Initialized NET plugin (.+?)\s*$")
_NICS = re.compile(r"NCCL INFO NET/(\w+) ?: Using (.*)$")
_NIC = re.compile(r"\[\d+\](\S+?)(?=\s|;|$)")
_CHANNEL = re.compile(r"NCCL INFO Channel \d+(?:/\d+)? : \d+\[\w+\] -> \d+\[\w+\] (?:\[(send|receive)\] )?via (\S+)")


@dataclass(frozen=True, slots=True)
class Transports:
    """What one rank's NCCL chose.

    Attributes:
        network: for messages between hosts, such as "IB" or "Socket"; "" if the log does not tell.
        nics: that it uses, such as "mlx5_0:1/RoCE". channels: connections to other ranks that it sends on, by transport
            ("P2P/CUMEM", "SHM/direct", "NET/IB/0/GDRDMA").
    """

    network: str = ""
    nics: tuple[str, ...] = ()
    channels: Mapping[str, int] = field(default_factory=dict)


class NcclLog:
    """NCCL's log of this process.

    Begin before the first communicator: NCCL reads its variables once.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def begin(self) -> None:
        """Have NCCL log, unless the user does."""
        if os.environ.get("NCCL_DEBUG") or os.environ.get("NCCL_DEBUG_FILE"):
            return
        handle, name = tempfile.mkstemp(prefix="commbench-nccl-", suffix=".log")
        os.close(handle)
        self._path = Path(name)
        os.environ |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": name}
        os.environ.setdefault("NCCL_DEBUG_SUBSYS", "INIT,NET")

    def read(self) -> Transports | None:
        """What it tells so far; None where the user has the log."""
        if self._path is None:
            return None
        try:
            return read_transports(self._path.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            return None

    def end(self) -> None:
        """Take the file away."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def read_transports(lines: Iterable[str]) -> Transports:
    """What the lines of one rank's log tell."""
    network, nics, channels = "", dict[str, None](), Counter[str]()
    for line in lines:
        if found := _NETWORK.search(line):
            network = found[1] or found[2]
        elif found := _NICS.search(line):
            nics |= dict.fromkeys(f"{found[1]} {nic}" for nic in _NIC.findall(found[2].partition(";")[0]))
        elif (found := _CHANNEL.search(line)) and found[1] != "receive":
            channels[found[2]] += 1
    used = [nic.split(" ", 1)[1] for nic in nics if not network or nic.split(" ", 1)[0] == network]
    return Transports(network, tuple(used or (nic.split(" ", 1)[1] for nic in nics)), dict(channels))


def merged(every: Sequence[Transports | None]) -> dict[str, object]:
    """Of all ranks, for the environment of a record: networks, NICs and the channels by transport, each rank's NICs
    apart where they differ; empty if no log tells."""
    told = [one for one in every if one is not None]
    if not told:
        return {}
    channels: Counter[str] = Counter()
    for one in told:
        channels.update(one.channels)
    nics = [" ".join(one.nics) for one in told]
    return {
        "network": ", ".join(dict.fromkeys(one.network for one in told if one.network)),
        "nics": list(dict.fromkeys(nic for one in told for nic in one.nics)),
        "channels": dict(sorted(channels.items())),
        "nics_by_rank": {} if len(set(nics)) == 1 else {str(rank): text for rank, text in enumerate(nics)},
    }
