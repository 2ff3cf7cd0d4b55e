# SPDX-License-Identifier: Apache-2.0
"""Topology files: where they are searched, how they are read, what is said when one is wrong.

An error names file, line, key path, value and rule; all that is wrong with a file is said at once.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.errors import TopologyError

if TYPE_CHECKING:
    from commbench.topology.fabric import Fabric
    from commbench.topology.schema import TopologyFile
    from commbench.yaml_reader import Document

__all__ = [
    "SEARCH_VARIABLE",
    "find_topology",
    "list_topologies",
    "load_fabric",
    "search_directories",
]

SEARCH_VARIABLE = "COMMBENCH_TOPOLOGIES"
_SUFFIXES = (".yaml", ".yml")


def search_directories(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where named topologies live, first match wins.

    1. the directories in ``$COMMBENCH_TOPOLOGIES``, separated as in ``$PATH``;
    2. ``topologies/`` beside the package (a checkout or an editable install);
    3. ``share/commbench/topologies`` under the Python prefix (an ordinary install).
    """
    own = [Path(part) for part in environment.get(SEARCH_VARIABLE, "").split(os.pathsep) if part]
    beside = Path(__file__).resolve().parents[2] / "topologies"
    return (*own, beside, Path(sys.prefix) / "share" / "commbench" / "topologies")


def list_topologies() -> tuple[str, ...]:
    """Names of all topologies that can be found, sorted as people count (fat-tree-64 before fat-tree-128)."""
    names = {path.stem for folder in search_directories() for path in folder.glob("*.yaml")}
    return tuple(sorted(names, key=_counting_order))


def _counting_order(name: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if i % 2 else (0, part) for i, part in enumerate(re.split(r"(\d+)", name))]


def load_fabric(name_or_path: str | Path) -> "Fabric":
    """The fabric of that name in ``topologies/``, or of the file at that path (ending in .yaml).

    Raises:
        TopologyError: no such file, or a file that breaks a rule; one line with file, key, value and rule.
    """
    from commbench.topology.build import build_fabric
    from commbench.topology.explain import explained_rule
    from commbench.yaml_reader import problems_text

    path = find_topology(name_or_path)
    file = _parse(path)
    document = _checked(file, path)
    try:
        return build_fabric(document, file.shown)
    except TopologyError as error:
        raise TopologyError(problems_text(file.shown, [explained_rule(file, str(error))])) from None


def find_topology(name_or_path: str | Path, base: Path = Path()) -> Path:
    """The file of a topology; a relative path is taken from ``base``.

    Raises:
        TopologyError: it is not there; the message says where it was searched and which names are near.
    """
    text = str(name_or_path)
    if text.endswith(_SUFFIXES) or os.sep in text:
        if not (base / text).is_file():
            raise TopologyError(f"topology {text!r}: no such file")
        return base / text
    for folder in search_directories():
        if (folder / f"{text}.yaml").is_file():
            return folder / f"{text}.yaml"
    raise TopologyError(_not_found(text))


def _not_found(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, list_topologies(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`commbench topology list` shows the names"
    if Path(f"{name}.yaml").is_file():
        hint = f"did you mean the file {name}.yaml?"
    places = ", ".join(str(folder) for folder in search_directories())
    unset = "" if os.environ.get(SEARCH_VARIABLE) else f"; ${SEARCH_VARIABLE} is not set"
    return f"topology {name!r}: not found; {hint} (searched {places}{unset})"


def _shown(path: Path) -> str:
    """The path as users know it: relative to where they stand if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _checked(file: "Document", path: Path) -> "TopologyFile":
    """The content of a file as its schema has it, its host section resolved if it is the name of another file."""
    from pydantic import ValidationError

    from commbench.topology.explain import explained
    from commbench.topology.schema import TopologyFile

    data, lost = dict(file.data), ""
    try:
        data["host"] = _resolved(data["host"], path.parent)
    except KeyError:  # told as any other that is missing
        pass
    except TopologyError as error:
        lost = str(error)  # told beside what else is wrong
    try:
        return TopologyFile.model_validate(data, context=path.parent)
    except ValidationError as error:
        raise TopologyError(explained(error, file, lost)) from None


def _resolved(host: object, base: Path) -> object:
    """A host section whose names of other files, at its own place or in groups, are replaced by theirs."""
    if isinstance(host, str):
        return _checked(*_host_file(host, base)).host
    if isinstance(host, dict) and isinstance(host.get("groups"), list):
        groups = [
            {**group, "host": _resolved(group["host"], base)} if isinstance(group, dict) and "host" in group else group
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

    return read_yaml(path, TopologyError, example="name: my-cluster", shown=_shown(path))
