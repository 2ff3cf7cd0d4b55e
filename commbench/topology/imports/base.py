# SPDX-License-Identifier: Apache-2.0
"""What an import finds, and the topology file that it makes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commbench.topology.imports.pci import INTEL_SOCKETS

__all__ = ["Imported", "listed", "number", "one_nvlink_GBps", "socket_GBps", "topology_text", "valid_name"]

_NCCL_SOCKETS = {"intel": 22.0, "amd": 16.0, "arm": 6.0, "power": 32.0}
_NVLINK = ((100, 50.0), (70, 25.0), (60, 20.0))  # compute capability from, GB/s of one link by data sheet
_MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Imported:
    """A file of another program.

    Attributes:
        what: which kind of file. facts: name and text of what is in it.
        odd: what is wrong or missing, a sentence each.
        text: the topology file that it gives; "" where it does not describe a whole one, which ``why_none`` explains.
    """

    what: str
    facts: tuple[tuple[str, str], ...]
    odd: tuple[str, ...]
    text: str = ""
    why_none: str = ""


def listed(names: Iterable[object]) -> str:
    """The first names and how many more."""
    found = [re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]|[\ud800-\udfff]", "?", str(name)) for name in names]
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return ", ".join(found[:_MOST_LISTED]) + more


def number(value: str, provenance: str, source: str) -> dict[str, str]:
    """A number of a topology file with its origin."""
    return {"value": value, "provenance": provenance, "source": source}


def valid_name(text: str) -> str:
    """A name for a topology, of a file's own."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:80] or "imported"


def topology_text(
    name: str,
    description: str,
    host: Mapping[str, Any],
    fabric: Mapping[str, Any],
    *,
    routing: str = "d-mod-k",
    network: str = "",
) -> str:
    """A topology file as text."""
    import yaml

    free = number("0 us", "assumed", "the wires alone; what a library adds per message is kept with the library")
    data: dict[str, Any] = {"name": name, "description": description, "routing": routing, "host": dict(host)}
    data |= {"fabric": dict(fabric), "costs": {"message_overhead": free, "reduction": "line-rate"}}
    data |= {"network": network} if network else {}
    return str(yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True))


def most_common(values: Sequence[Any]) -> Any:
    """The value that most have; of several the first."""
    return Counter(values).most_common(1)[0][0]


def socket_GBps(cpu: str, model: int = 0) -> float:  # noqa: N802
    """What NCCL counts between two sockets of a maker, of Intel's by model where that is known (not 0)."""
    if cpu == "intel" and model:
        return next(rate for least, rate in INTEL_SOCKETS if model >= least)
    return _NCCL_SOCKETS.get(cpu, 16.0)


def socket_link(cpu: str, model: int = 0) -> dict[str, Any]:
    """Between two sockets, as NCCL counts it."""
    source = "as NCCL counts the link between such sockets, an effective rate (NCCL 2.30.7 src/graph/topo.h)"
    rate = f"{socket_GBps(cpu, model):g} GB/s"
    return {"bandwidth": number(rate, "assumed", source), "latency": number("0.1 us", "assumed", _NO_LATENCY)}


def one_nvlink_GBps(compute_capability: int, xgmi_GBps: float) -> float:  # noqa: N802, N803
    """Of one link of a GPU, one direction, by data sheet: ``xgmi_GBps`` unless that is 0."""
    return xgmi_GBps or next((rate for least, rate in _NVLINK if compute_capability >= least), 20.0)


_NO_LATENCY = "not in the file that was imported; of the order of what current servers have"


def latency(value: str) -> dict[str, str]:
    """A latency, which no such file tells."""
    return number(value, "assumed", _NO_LATENCY)


def plain_host(nics: int) -> dict[str, Any]:
    """A host of one CPU rank, of whose inside nothing is told."""
    bus = number("800 Gbit/s", "assumed", "not in the file; so fast that the NIC is what counts")
    return {"wiring": "plain", "nics": nics, "bus": {"bandwidth": bus, "latency": latency("0 us")}}
