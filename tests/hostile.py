# SPDX-License-Identifier: Apache-2.0
"""A folder whose files have the names of modules that every child loads; each leaves a mark when it is executed."""

from pathlib import Path

_NAMES = ("json", "random", "torch", "numpy", "runpy", "commbench/__init__", "commbench/live/child", "sitecustomize")


def fill(folder: Path) -> Path:
    """Fill the folder, and return the path of the mark."""
    mark = folder.parent / "mark"
    for name in _NAMES:
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(mark)!r}, 'a').write({name!r} + ' was executed\\n')\nraise SystemExit(9)\n")
    return mark
