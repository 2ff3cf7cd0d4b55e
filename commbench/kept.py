# SPDX-License-Identifier: Apache-2.0
"""Files kept from one process to the next, because to make them again takes long: a convenience, never more.

A file is named after everything that its content depends on, so that no old one is ever taken for a new one, and begins
with a checksum. What cannot be read is made anew; what cannot be written costs that time again.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from commbench.errors import CommbenchError

__all__ = ["FOLDER_VARIABLE", "digest", "find_kept", "folders", "keep", "read_shipped", "version_file", "warn"]

FOLDER_VARIABLE = "NUMBA_CACHE_DIR"  # numba's name for its own, too
_DIGITS = 32  # of the digest in a name, hexadecimal
_DIGEST_BYTES = hashlib.sha256().digest_size
_HERE = Path(__file__).parent
T = TypeVar("T")


def folders(beside: Path) -> list[Path]:
    """Where kept files may lie, best first: where NUMBA_CACHE_DIR says, else beside the code or in the user's cache.

    A home that is not there is not made, and what is not an absolute path is nowhere.

    Args:
        beside: folder of the code.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return [Path(chosen).absolute()]
    home = Path(os.path.expanduser("~"))  # as it stands where there is none; Path.home() raises then
    caches = [Path(os.environ.get("XDG_CACHE_HOME", "")), home / ".cache"]
    usable = [caches[0].is_absolute(), home.is_absolute() and home.is_dir()]
    return [beside / "__pycache__", *(cache / "commbench" for cache, ok in zip(caches, usable, strict=True) if ok)]


def find_kept(beside: Path, name: str, read: Callable[[bytes], T]) -> T | None:
    """What ``read`` makes of the content of that file; None where there is none that is whole.

    Args:
        beside: as :func:`folders` has it. name: of the file. read: may raise anything of content that is no good.
    """
    for path in (folder / name for folder in folders(beside)):
        try:
            held = path.read_bytes()
        except OSError:
            continue
        try:
            checksum, content = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
            if hashlib.sha256(content).digest() != checksum:
                raise ValueError("its checksum differs")
            return read(content)
        except Exception as error:  # reading what is no good may raise anything
            warn("%s: damaged (%s): thrown away, and made anew", path, error)
            with suppress(OSError):
                path.unlink()
    return None


def keep(beside: Path, name: str, content: bytes, *, stem: str = "") -> list[str]:
    """Keep a file in the first folder that takes it; where none does, why.

    Args:
        beside, name: as :func:`find_kept` has them. content: what ``read`` is given then.
        stem: how names of the same thing begin, before it changed; these are thrown away.
    """
    held = hashlib.sha256(content).digest() + content
    refused = list[str]()
    for folder in folders(beside):
        try:
            _write(folder / name, held)
        except OSError as error:
            refused.append(f"{folder}: {error.strerror}")
        else:
            if stem:
                _throw_away(folder, stem, name)
            return []
    return refused


def _throw_away(folder: Path, stem: str, name: str) -> None:
    """Files named ``stem`` and a digest, with the ending of ``name``, but for that one."""
    for old in folder.iterdir():
        if old.name != name and old.suffix == Path(name).suffix and old.stem.rpartition("-")[0] == stem:
            with suppress(OSError):
                old.unlink()


def read_shipped(path: Path, error: type[CommbenchError], *, example: str = "") -> dict[str, Any]:
    """What a file of YAML that ships holds, as :func:`commbench.yaml_reader.read_yaml` has it; kept as JSON, which is
    read in a hundredth of the time.

    Raises:
        CommbenchError: as there.
    """
    depends = (path.read_bytes(), _HERE.joinpath("yaml_reader.py").read_bytes(), version_file("yaml", "__init__.py"))
    name = f"{path.stem}-{digest(*depends)}.json"
    data = find_kept(_HERE, name, json.loads)
    if data is None:
        from commbench.yaml_reader import read_yaml

        data = read_yaml(path, error, example=example, shown=path.name).data
        keep(_HERE, name, json.dumps(data).encode(), stem=path.stem)
    found: dict[str, Any] = data
    return found


def digest(*depends: bytes) -> str:
    """Of all that a kept file depends on, for its name."""
    return hashlib.sha256(b"".join(depends)).hexdigest()[:_DIGITS]


def version_file(package: str, name: str) -> bytes:
    """The file in which a package says its version; to import it takes long."""
    spec = find_spec(package)
    return Path(str(spec and spec.origin)).with_name(name).read_bytes()


def warn(words: str, *values: object) -> None:
    """Say it by the logger of this module: unless somebody sets it up otherwise, a line on stderr."""
    import logging  # takes a millisecond, and there is seldom something to say

    logging.getLogger(__name__).warning(words, *values)


def _write(path: Path, held: bytes) -> None:
    """Put a file there whole or not at all, also where others put the same one there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.urandom(8).hex()}")
    try:
        partial.write_bytes(held)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()
