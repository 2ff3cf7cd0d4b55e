# SPDX-License-Identifier: Apache-2.0
"""Topologies in the formats of other programs."""

from pathlib import Path

from commbench.errors import InputError
from commbench.topology.exports.nccl_topology import Exported, nccl_topology
from commbench.topology.load import load_fabric, read_topology

__all__ = ["FORMATS", "Exported", "export_topology"]

FORMATS = ("nccl-xml",)


def export_topology(name_or_path: str | Path, form: str, host: int = 0) -> Exported:
    """One host of a topology in one of FORMATS.

    Raises:
        InputError: a format or host that there is not, or hosts that the format does not know.
        TopologyError: the topology cannot be read.
    """
    if form not in FORMATS:
        raise InputError(f"--format {form!r}: must be one of {', '.join(FORMATS)}")
    fabric = load_fabric(name_or_path)
    if not 0 <= host < fabric.num_hosts:
        raise InputError(f"--host {host}: {fabric.name} has hosts 0 to {fabric.num_hosts - 1}")
    return nccl_topology(read_topology(name_or_path), fabric, host)
