# SPDX-License-Identifier: Apache-2.0
"""Where the files are that people call by name: topologies, and devices in the folder ``devices`` beside them."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from commbench.errors import TopologyError

__all__ = [
    "SEARCH_VARIABLE",
    "find_file",
    "is_path",
    "list_devices",
    "list_names",
    "matching_devices",
    "not_found",
    "search_directories",
    "shown",
]

SEARCH_VARIABLE = "COMMBENCH_TOPOLOGIES"
_SUFFIXES = (".yaml", ".yml")
_FOLDERS = {"topology": "", "device": "devices"}


def search_directories(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where named topologies live, first match wins.

    1. the directories in ``$COMMBENCH_TOPOLOGIES``, separated as in ``$PATH``;
    2. ``topologies/`` beside the package (a checkout or an editable install);
    3. ``share/commbench/topologies`` under the Python prefix (an ordinary install).
    """
    own = [Path(part) for part in environment.get(SEARCH_VARIABLE, "").split(os.pathsep) if part]
    beside = Path(__file__).resolve().parents[2] / "topologies"
    return (*own, beside, Path(sys.prefix) / "share" / "commbench" / "topologies")


def list_names(what: str) -> tuple[str, ...]:
    """Names of all that can be found, sorted as people count; ``what`` is "topology" or "device"."""
    names = {path.stem for folder in search_directories() for path in (folder / _FOLDERS[what]).glob("*.yaml")}
    return tuple(sorted(names, key=_counting_order))


def _counting_order(name: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if i % 2 else (0, part) for i, part in enumerate(re.split(r"(\d+)", name))]


def find_file(what: str, name_or_path: str | Path, base: Path = Path()) -> Path:
    """The file of a topology or device; a relative path is taken from ``base``.

    Raises:
        TopologyError: it is not there; the message says where it was searched and which names are near.
    """
    text = str(name_or_path)
    if is_path(text):
        if not os.path.isfile(base / text):
            raise TopologyError(f"{what} {text!r}: no such file")
        return base / text
    for folder in search_directories():
        path = folder / _FOLDERS[what] / f"{text}.yaml"
        if os.path.isfile(path):  # Path.is_file raises where a name is too long
            return path
    raise TopologyError(not_found(what, text))


def is_path(text: str) -> bool:
    """Whether a text is the path of a file rather than a name."""
    return text.endswith(_SUFFIXES) or os.sep in text


def shown(path: Path) -> str:
    """The path as users know it: relative to where they stand if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def not_found(what: str, name: str) -> str:
    """What is said of a name that nothing has: where it was searched, and which names are near."""
    import difflib

    near = difflib.get_close_matches(name.lower().replace("_", "-"), list_names(what), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`commbench {what} list` shows the names"
    if os.path.isfile(f"{name}.yaml"):
        hint = f"did you mean the file {name}.yaml?"
    places = ", ".join(str(folder / _FOLDERS[what]) for folder in search_directories())
    unset = "" if os.environ.get(SEARCH_VARIABLE) else f"; ${SEARCH_VARIABLE} is not set"
    return f"{what} {name!r}: not found; {hint} (searched {places}{unset})"


def list_devices() -> tuple[str, ...]:
    """Names of all devices that can be found, sorted as people count."""
    return list_names("device")


def matching_devices(name: str) -> tuple[str, ...]:
    """The device of that name in any case, else all whose names begin so, no number cut (``h100``); at least one.

    Raises:
        TopologyError: none; says which names are near.
    """
    names = list_devices()
    begins = re.compile(re.escape(name) + (r"(?!\d)" if name[-1:].isdigit() else ""), re.IGNORECASE)
    found = [known for known in names if known.lower() == name.lower()]
    found = found or [known for known in names if name and begins.match(known)]
    if not found:
        raise TopologyError(not_found("device", name))
    return tuple(found)
