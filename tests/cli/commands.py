# SPDX-License-Identifier: Apache-2.0
"""A command as the user types it, in this process: to start Python and to load the kernels takes longer than most of
what is asked for. That it does so in a process of its own, README's commands show.
"""

from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess

from commbench.cli.main import outcome

__all__ = ["commbench"]


def commbench(*arguments: str, folder: Path) -> CompletedProcess[str]:
    """Exit code and both outputs of ``commbench`` with these arguments in ``folder``; an error of Python is raised."""
    out, err = StringIO(), StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        try:
            code = outcome(arguments)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    return CompletedProcess(arguments, code or 0, out.getvalue(), err.getvalue())
