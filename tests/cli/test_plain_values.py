# SPDX-License-Identifier: Apache-2.0
"""Options mean the same whether typer's validators read them or not, and plain ones take no pydantic."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.exceptions import TyperException

from commbench.cli.plain_values import read_plainly

ROOT = Path(__file__).parents[2]


def everything(
    word: Annotated[str, typer.Option()] = "none",
    number: Annotated[int, typer.Option()] = 3,
    share: Annotated[float | None, typer.Option()] = 1,
    few: Annotated[int, typer.Option(min=2)] = 2,
    kind: Annotated[Literal["table", "text"], typer.Option()] = "table",
    file: Annotated[Path | None, typer.Option()] = None,
    each: Annotated[list[str] | None, typer.Option()] = None,
    flag: Annotated[bool, typer.Option("--flag/--no-flag")] = False,
) -> dict[str, Any]:
    return locals()


def outcome(arguments: list[str], *, plainly: bool) -> Any:
    """What the function was given, with types, or what the user is told."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(everything)
    command: Any = typer.main.get_command(app)
    if plainly:
        read_plainly(command, command.context_class(command))
    try:
        given = command(arguments, standalone_mode=False)
    except TyperException as error:
        return error.format_message()
    return {name: (type(value), repr(value)) for name, value in given.items()}


@pytest.mark.parametrize(
    "arguments",
    [
        *("", "--word a", "--word ", "--word 12", "--number 12", "--number -7", "--number 007", "--number 1.0"),
        *("--number 1_000", "--number x", "--number 99999999999999999999", "--share 2", "--share 1e-3", "--share -.5"),
        *("--share nan", "--share 0.1", "--share 123456789.123456789e-30", "--share 1e", "--few 2", "--few 1"),
        *("--kind text", "--kind TEXT", "--kind other", "--file /dev/null", "--file .", "--each a --each b"),
        *("--few x", "--flag", "--no-flag", "--number", "--unknown"),
    ],
)
def test_values_and_errors_are_those_of_typer(arguments: str) -> None:
    words = arguments.split(" ") if arguments else []
    assert outcome(words, plainly=True) == outcome(words, plainly=False)


def test_another_typer_is_left_as_it_is() -> None:
    """One whose parameters have nothing of what is replaced here."""

    class Parameter:
        name = "word"

    class Command:
        params = (Parameter(),)

        def get_params(self, ctx: Any) -> Any:
            return self.params

    command = Command()
    assert read_plainly(command, None) is command
    assert vars(command.params[0]) == {}


@pytest.mark.parametrize(
    "words",
    [
        "sim all-reduce --topology fat-tree-16 --algorithm ring -b 1M -e 1M --jitter 0.1 --seed 3 --json",
        "topology list --json",
        "sim train --help",
    ],
)
def test_plain_options_take_no_pydantic(words: str) -> None:
    """Here it may still be loaded to read a file, but not by typer."""
    script = f"import sys; sys.argv = ['commbench', *{words.split()!r}]\nfrom commbench.cli.main import outcome\n"
    script += "outcome(sys.argv[1:]); print('typer._adapters' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "False"
