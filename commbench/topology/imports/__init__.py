# SPDX-License-Identifier: Apache-2.0
"""Topologies as other programs write them: NCCL, nvidia-smi, ibnetdiscover, Slurm, InfraGraph."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported, valid_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from commbench.topology.imports.nccl_graph import FoundGraph

__all__ = ["Imported", "import_topology", "read_nccl_graphs"]

_MOST_BYTES = 2**28
_KNOWN = (
    "NCCL's topology or graph XML, nvidia-smi topo -m, ibnetdiscover, Slurm's topology.conf, InfraGraph YAML and "
    "NCCL's tuner files"
)


def import_topology(path: Path, name: str | None = None, bandwidth: str | None = None) -> Imported:
    """What a file describes; its kind is told by what is in it.

    Args:
        path: of the file. name: of the topology that it gives, else as the file is called.
        bandwidth: of a NIC, for files that have no rates.

    Raises:
        TopologyError: it cannot be read, is of no known kind, or breaks a rule of its kind; names the place.
    """
    text, place = _read(path), str(path)
    given, name = name, name or valid_name(path.stem)
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return _xml(text, name, place)
    if re.search(r'(?m)^(?:Switch|Ca)\s+\d+\s+"[SH]-[0-9a-fA-F]+"', text):
        from commbench.topology.imports.ibnetdiscover import import_ibnetdiscover

        return import_ibnetdiscover(text, name, place)
    if re.search(r"(?mi)^\s*SwitchName\s*=", text):
        from commbench.topology.imports.slurm import import_slurm

        return import_slurm(text, name, place, bandwidth)
    if re.search(r"(?m)^\s*(?:\x1b\[[0-9;]*m)*\s*GPU0\b", text):
        from commbench.topology.imports.smi import import_smi

        return import_smi(text, place)
    if re.search(r"(?m)^\s*(?:allreduce|allgather|reducescatter|broadcast|reduce)\s*,\s*\d+\s*,\s*\d+\s*,", text):
        from commbench.topology.imports.tuner import import_tuner

        return import_tuner(text, place)
    if re.search(r"(?m)^[\s{]*[\"']?(?:infrastructure|devices|instances|components)[\"']?\s*:", text):
        from commbench.topology.imports.infragraph import import_infragraph

        return import_infragraph(path, given, bandwidth)
    if text.startswith("collective,size_bytes,algorithm"):
        raise TopologyError(f"{place}: measurements that NCCL's tuner script makes its rules of, not a tuner file")
    raise TopologyError(f"{place}: none of the kinds that are read: {_KNOWN}")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise TopologyError(f"{path}: more than 256 MiB, which no such file is")
        return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    except (OSError, ValueError) as error:
        raise TopologyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _xml(text: str, name: str, place: str) -> Imported:
    """NCCL's XML, which has neither document types nor entities: what could blow up is refused before it is parsed."""
    from commbench.topology.imports.nccl_graph import import_nccl_graph
    from commbench.topology.imports.nccl_topology import import_nccl_topology

    root = _root_of(text, place)
    if root.tag == "system":
        return import_nccl_topology(root, name, place)
    if root.tag == "graphs":
        return import_nccl_graph(root)
    hint = "; an MSCCL algorithm: commbench algorithm verify FILE" if root.tag == "algo" else ""
    raise TopologyError(f"{place}: XML whose root is <{root.tag[:40]}>, not NCCL's <system> or <graphs>{hint}")


def read_nccl_graphs(path: Path) -> "tuple[FoundGraph, ...]":
    """The graphs of a file that NCCL_GRAPH_DUMP_FILE wrote.

    Raises:
        TopologyError: it is none, or has a number that makes no sense.
    """
    from commbench.topology.imports.nccl_graph import graphs_in

    root = _root_of(_read(path), str(path))
    if root.tag != "graphs":
        raise TopologyError(f"{path}: XML whose root is <{root.tag[:40]}>, not NCCL's <graphs> (NCCL_GRAPH_DUMP_FILE)")
    return graphs_in(root, str(path))


def _root_of(text: str, place: str) -> "Element":
    from xml.etree import ElementTree

    if "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
        raise TopologyError(f"{place}: XML with a document type, entities or CDATA, which NCCL's files never have")
    try:
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except (ElementTree.ParseError, ValueError) as error:
        raise TopologyError(f"{place}: no whole XML: {error}") from None
