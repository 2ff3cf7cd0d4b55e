# SPDX-License-Identifier: Apache-2.0
"""Topology files: where they are searched, how they are read, what is said when one is wrong.

An error is one line: file, key path, value, rule. Nothing has a default, so a missing key is an error too.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from commbench.errors import TopologyError
from commbench.topology.model import Topology

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from commbench.topology.schema import TopologyFile
    from commbench.topology.tree import Tree

__all__ = [
    "SEARCH_VARIABLE",
    "explain_error",
    "find_topology",
    "list_topologies",
    "load_fabric",
    "load_topology",
    "refuse_duplicates",
    "search_directories",
]

T = TypeVar("T")

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


def load_topology(name_or_path: str | Path) -> Topology:
    """The topology of that name in ``topologies/``, or of the file at that path (ending in .yaml).

    Raises:
        TopologyError: no such file, or a file that breaks a rule; one line with file, key, value and rule.
    """
    from commbench.topology.build import build_topology

    return _load(name_or_path, build_topology)


def load_fabric(name_or_path: str | Path) -> "Tree | Topology":
    """The same, in closed form where the file describes a tree of plain hosts: quick at any size, no graph.

    Raises:
        TopologyError: as load_topology.
    """
    from commbench.topology.build import build_topology, build_tree

    def build(document: "TopologyFile", origin: str) -> "Tree | Topology":
        return build_tree(document, origin) or build_topology(document, origin)

    return _load(name_or_path, build)


def _load(name_or_path: str | Path, build: "Callable[[TopologyFile, str], T]") -> T:
    path = find_topology(name_or_path)
    document = _read(path)
    try:
        return build(document, _shown(path))
    except TopologyError as error:
        raise TopologyError(f"{_shown(path)}: {error}") from None


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
    places = ", ".join(str(folder) for folder in search_directories())
    unset = "" if os.environ.get(SEARCH_VARIABLE) else f"; ${SEARCH_VARIABLE} is not set"
    return f"topology {name!r}: not found; {hint} (searched {places}{unset})"


def _shown(path: Path) -> str:
    """The path as users know it: relative to where they stand if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _read(path: Path) -> "TopologyFile":
    """The checked content of a file, its host section resolved if it is the name of another file."""
    from pydantic import ValidationError

    from commbench.topology.schema import TopologyFile

    data = _parse(path)
    if isinstance(data.get("host"), str):
        data["host"] = _host_of(data["host"], path)
    try:
        return TopologyFile.model_validate(data)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        raise TopologyError(f"{_shown(path)}: {explain_error(first)}{more}") from None


def _host_of(name: str, path: Path) -> object:
    """The host section of another topology, which must hold it in full."""
    try:
        other = find_topology(name, path.parent)
    except TopologyError as error:
        raise TopologyError(f"{_shown(path)}: host: {error}") from None
    if isinstance(_parse(other).get("host"), str):
        raise TopologyError(f"{_shown(path)}: host: {name!r} names another file in turn; one step only")
    return _read(other).host


def _parse(path: Path) -> dict[str, Any]:
    """The YAML mapping in a file; a key given twice is an error, not a race."""
    import yaml

    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        refuse_duplicates(node, _shown(path))
        data = loader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TopologyError(f"{_shown(path)}: not YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise TopologyError(f"{_shown(path)}: cannot be read: {error.strerror}") from None
    if not isinstance(data, dict):
        raise TopologyError(f"{_shown(path)}: must be a mapping; `name`, `host`, `fabric` and so on")
    return data


def refuse_duplicates(node: Any, shown: str) -> None:
    """Refuse a YAML document in which a key stands twice; ``shown`` is the file's name for the message.

    Raises:
        TopologyError: names file, line and key.
    """
    from yaml import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key.value, str) and key.value in seen:
                line = key.start_mark.line + 1
                raise TopologyError(f"{shown}: line {line}: key {key.value!r} is given twice")
            seen.add(str(key.value))
            refuse_duplicates(value, shown)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            refuse_duplicates(item, shown)


def explain_error(error: "ErrorDetails") -> str:
    """Key path, value and rule of one pydantic error."""
    context = error.get("ctx", {})
    location = [str(key) for key in error["loc"]]
    if location[0:1] in (["host"], ["fabric"]):
        # pydantic puts the union member (the wiring, the fabric kind) into the path; it is no key of the file
        del location[1:2]
    tag = ".".join([*location, context.get("discriminator", "").strip("'")])
    match error["type"]:
        case "unknown_key":
            return f"{'.'.join([*location, context['key']])}: {error['msg']}"
        case "missing":
            return f"{'.'.join(location)}: missing; every key must be given, there are no defaults"
        case "union_tag_not_found":
            return f"{tag}: missing; every key must be given, there are no defaults"
        case "union_tag_invalid":
            return f"{tag}: {context['tag']!r}: must be one of {context['expected_tags']}"
        case "quantity":
            return f"{'.'.join(location[:-1])}: {error['msg']}"
        case _:
            return f"{'.'.join(location)}: {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
