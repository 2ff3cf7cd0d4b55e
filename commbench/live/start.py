# SPDX-License-Identifier: Apache-2.0
"""The command that starts a module of this package as a program, wherever the user stands.

``python -m`` would put the current folder before the standard library, so that a file ``json.py`` there became code of
the child's. Nothing is taken from there: the child loads this very package, by the folder that this process has it
from, and all else from where any Python program does, a ``PYTHONPATH`` of the user's included.
"""

import sys
from pathlib import Path

import commbench

__all__ = ["module_command"]

# the package's folder stands first for the package alone: it may be one that holds much else, such as site-packages
_LOADER = (
    "import runpy, sys; root, name = sys.argv[1:3]; del sys.argv[1:3]; sys.path.insert(0, root); import commbench; "
    "sys.path.append(sys.path.pop(0)); runpy.run_module(name, run_name='__main__', alter_sys=True)"
)


def module_command(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs module ``name`` of this package with these arguments."""
    root = str(Path(commbench.__file__).resolve().parent.parent)
    return (sys.executable, "-P", "-c", _LOADER, root, name, *arguments)
