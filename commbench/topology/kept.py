# SPDX-License-Identifier: Apache-2.0
"""Fabrics of topologies that ship, kept from one process to the next: to read and check their files takes YAML and
pydantic, and longer than most simulations.

As with compiled code (:mod:`commbench.kept`), a kept fabric is named after its file and all that it depends on. A file
that it takes its hosts from is known only from the file itself, so what was read of those is kept beside it.
"""

import hashlib
import os
import pickle
import sys
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from commbench.kept import digest, find_kept, keep, version_file
from commbench.topology.fabric import Fabric
from commbench.topology.search import search_directories, shown

__all__ = ["MOST_BYTES", "find_fabric", "keep_fabric", "ships"]

MOST_BYTES = 2**20
"""Of the arrays of a kept fabric; to build a greater one takes longer than to check its file."""

_HERE = Path(__file__).parent
_SOURCES = (*sorted(_HERE.glob("*.py")), *(_HERE.with_name(f"{name}.py") for name in ("units", "yaml_reader")))


def ships(path: Path) -> bool:
    """Whether a topology file is one of those that ship: there are few of them, and they seldom change."""
    return path.parent in search_directories({})


def find_fabric(path: Path) -> Fabric | None:
    """The fabric of that file as it was kept; None where there is none."""
    return find_kept(_HERE, _name(path), lambda held: _read(held, path))


def keep_fabric(fabric: Fabric, path: Path, others: Iterable[Path]) -> None:
    """Keep the fabric of a file, unless it is big; where nothing can be kept, nothing is.

    Args:
        fabric, path: of which file. others: files that were read beside it.
    """
    values: dict[str, Any] = {each.name: getattr(fabric, each.name) for each in fields(fabric)}
    values["numbers"] = dict(fabric.numbers)
    if sum(value.nbytes for value in values.values() if isinstance(value, np.ndarray)) <= MOST_BYTES:
        held = pickle.dumps(({str(other): _digest(other) for other in others}, values))
        keep(_HERE, _name(path), held, stem=path.stem)


def _read(held: bytes, path: Path) -> Fabric | None:
    others, values = pickle.loads(held)
    if any(_digest(Path(other)) != then for other, then in others.items()):
        return None
    return Fabric(**{**values, "origin": shown(path)})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _name(path: Path) -> str:
    """Of the kept fabric: by the file, what its names of other files may mean, and what reads it."""
    folders = [folder / below for folder in search_directories() for below in ("", "devices")]
    names = [(str(folder), sorted(os.listdir(folder)) if folder.is_dir() else ()) for folder in folders]
    depends = (_surroundings(), repr((str(path), names)).encode(), path.read_bytes())
    return f"{path.stem}-{digest(*depends)}.fabric"


@cache
def _surroundings() -> bytes:
    """Versions and sources of whatever reads a topology file."""
    versions = (version_file("pydantic", "version.py"), version_file("yaml", "__init__.py"))
    said = repr((sys.version, np.__version__)).encode()
    return b"".join((said, *versions, *(file.read_bytes() for file in _SOURCES)))
