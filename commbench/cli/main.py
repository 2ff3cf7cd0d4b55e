# SPDX-License-Identifier: Apache-2.0
"""The command line: mounts the verbs, and turns every error into one line and an exit code."""

import gc
import os
import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException

from commbench import __version__
from commbench.cli.first_word import late
from commbench.cli.verbs import VERBS, Verbs, option_hint
from commbench.errors import CommbenchError, ScheduleError
from commbench.terminal import tell

__all__ = ["app", "main", "outcome"]

_BAD_INPUT, _INTERRUPTED = 2, 130

app = typer.Typer(
    name="commbench",
    cls=Verbs,
    help="Measure, simulate and validate collective communication.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _verb, (_module, _name, _help) in VERBS.items():
    app.command(_verb, cls=late(_verb, _module, _name), help=_help)(lambda: None)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"commbench {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: exit code 0 good, 1 a check fell short, 2 bad input, 3 the run itself failed."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some reads what is known of all packages
    if "OMP_NUM_THREADS" not in os.environ:  # to start threads for systems as small as ours takes numpy's import again
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `commbench ... | head` ends quietly, as other tools do
    try:
        code = outcome()
    except (KeyboardInterrupt, Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        tell("interrupted; complete records are kept")
    gc.freeze()  # nothing will be collected any more: the system takes all back at once
    sys.exit(code or 0)


def outcome(arguments: Sequence[str] | None = None) -> int | None:
    """Exit code of the command with these arguments (None: the process's own), its errors told on stderr.

    An interrupt may come at any time, also while an error is told.
    """
    try:
        code: int | None = app(arguments, standalone_mode=False)
        return code
    except CommbenchError as error:
        if isinstance(error, ScheduleError) and error.grid:
            tell(error.grid)
        return _say(error, error.exit_code)
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage: "):  # nothing was asked for: the help is the answer, not an error
            tell(message)
            return _BAD_INPUT
        return _say(message + option_hint(getattr(error, "option_name", "")), _BAD_INPUT)
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):  # of which typer makes exit code 1
            raise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a run had ignored it, to clean up first
        signal.raise_signal(signal.SIGPIPE)
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}" if error.filename else error, _BAD_INPUT)


def _say(error: object, code: int) -> int:
    tell(f"error: {error}")
    return code
