# SPDX-License-Identifier: Apache-2.0
"""Topology files: how they are read, what is said when one is wrong.

An error names file, line, key path, value and rule; all that is wrong with a file is said at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from commbench.errors import TopologyError
from commbench.topology.search import find_file, list_names, shown

if TYPE_CHECKING:
    from commbench.topology.fabric import Fabric
    from commbench.topology.schema import TopologyFile
    from commbench.yaml_reader import Document

__all__ = ["find_topology", "list_topologies", "load_fabric", "read_topology"]


def list_topologies() -> tuple[str, ...]:
    """Names of all topologies that can be found, sorted as people count (fat-tree-64 before fat-tree-128)."""
    return list_names("topology")


def load_fabric(name_or_path: str | Path) -> "Fabric":
    """The fabric of that name in ``topologies/``, or of the file at that path (ending in .yaml).

    Raises:
        TopologyError: no such file, or a file that breaks a rule; one line with file, key, value and rule.
    """
    from commbench.topology.kept import find_fabric, keep_fabric, ships

    path = find_topology(name_or_path)
    if not ships(path):
        return _built(path)[0]
    if fabric := find_fabric(path):
        return fabric
    fabric, others = _built(path)
    keep_fabric(fabric, path, others)
    return fabric


def _built(path: Path) -> "tuple[Fabric, list[Path]]":
    """The fabric of a file, and the files that were read beside it."""
    from commbench.topology.build import build_fabric
    from commbench.topology.explain import explained_rule
    from commbench.yaml_reader import problems_text

    file, others = _parse(path), list[Path]()
    document = _checked(file, path, others)
    try:
        return build_fabric(document, file.shown), others
    except TopologyError as error:
        raise TopologyError(problems_text(file.shown, [explained_rule(file, str(error))])) from None


def read_topology(name_or_path: str | Path) -> "TopologyFile":
    """What such a file says, checked, its host section in full.

    Raises:
        TopologyError: as load_fabric.
    """
    path = find_topology(name_or_path)
    return _checked(_parse(path), path, [])


def find_topology(name_or_path: str | Path, base: Path = Path()) -> Path:
    """The file of a topology; a relative path is taken from ``base``.

    Raises:
        TopologyError: it is not there; the message says where it was searched and which names are near.
    """
    return find_file("topology", name_or_path, base)


def _checked(file: "Document", path: Path, others: list[Path]) -> "TopologyFile":
    """The content of a file as its schema has it, its host section resolved if it is the name of another file.

    Files that were read beside it are added to ``others``.
    """
    from pydantic import ValidationError

    from commbench.topology.explain import explained
    from commbench.topology.schema import TopologyFile

    data, lost = dict(file.data), ""
    try:
        data["host"] = _resolved(data["host"], path.parent, others)
    except KeyError:  # told as any other that is missing
        pass
    except TopologyError as error:
        lost = str(error)  # told beside what else is wrong
    try:
        return TopologyFile.model_validate(data, context=path.parent)
    except ValidationError as error:
        raise TopologyError(explained(error, file, lost)) from None


def _resolved(host: object, base: Path, others: list[Path]) -> object:
    """A host section whose names of other files, at its own place or in groups, are replaced by theirs."""
    if isinstance(host, str):
        file, path = _host_file(host, base)
        others.append(path)
        return _checked(file, path, others).host
    if isinstance(host, dict) and isinstance(host.get("groups"), list):
        groups = [
            {**group, "host": _resolved(group["host"], base, others)}
            if isinstance(group, dict) and "host" in group
            else group
            for group in host["groups"]
        ]
        return {**host, "groups": groups}
    return host


def _host_file(name: str, base: Path) -> "tuple[Document, Path]":
    """The other topology whose host section is taken, which must hold it in full."""
    path = find_topology(name, base)
    file = _parse(path)
    if isinstance(file.data.get("host"), str):
        raise TopologyError(f"{name!r} names another file in turn; one step only")
    return file, path


def _parse(path: Path) -> "Document":
    from commbench.yaml_reader import read_yaml

    return read_yaml(path, TopologyError, example="name: my-cluster", shown=shown(path))
