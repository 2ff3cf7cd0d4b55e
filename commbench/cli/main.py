# SPDX-License-Identifier: Apache-2.0
"""The command line: mounts the verbs, and turns every error into one line and an exit code."""

import os
import sys

import typer
from typer.exceptions import Abort, TyperException

from commbench import __version__
from commbench.cli import algorithm, calibrate, demo, report, run, sim, topology, validate
from commbench.errors import CommbenchError, ScheduleError

__all__ = ["app", "main"]

app = typer.Typer(
    name="commbench",
    help="Measure, simulate and validate collective communication.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("sim")(sim.sim)
app.command("calibrate")(calibrate.calibrate)
app.command("validate")(validate.validate)
app.command("report")(report.report)
app.command("demo")(demo.demo)
app.add_typer(topology.app, name="topology")
app.add_typer(algorithm.app, name="algorithm")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"commbench {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: exit code 0 good, 1 a check fell short, 2 bad input, 3 the run itself failed."""
    try:
        code = app(standalone_mode=False)
    except CommbenchError as error:
        if isinstance(error, ScheduleError) and error.grid:
            print(error.grid, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except TyperException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, Abort):
        print("interrupted; complete records are kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a closed pager is no error
        code = 0
    sys.exit(code or 0)
