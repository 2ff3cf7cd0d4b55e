# SPDX-License-Identifier: Apache-2.0
"""Commands that are loaded when they are called, and such whose first word may name another command."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from commbench.cli.plain_values import read_plainly

__all__ = ["by_first_word", "command_app", "late"]


def by_first_word(module_of: Callable[[str], str | None]) -> type[TyperCommand]:
    """A kind of command that gives way to the ``app`` of another module of cli.

    Args:
        module_of: name of the module that a first word means, None for the command itself.
    """

    class FirstWord(TyperCommand):
        """The command, unless the first word says otherwise."""

        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            """The context of the command that is meant."""
            module = module_of(args[0]) if args else None
            if module is None:
                return super().make_context(info_name, args, parent, **extra)
            command = read_plainly(typer.main.get_command(import_module(f"commbench.cli.{module}").app), parent)
            if "." not in args[0]:  # a file is an argument of the other command
                info_name, args = f"{info_name} {args[0]}", args[1:]
            return command.make_context(info_name, args, parent, **extra)

    return FirstWord


def late(verb: str, module: str, name: str) -> type[TyperCommand]:
    """A kind of command that stands for another one and loads it when it is called: its options cost nothing before.

    Args:
        verb: what it is called. module, name: in cli, a function, or an application of several commands. What typer
            must know of a function beside is ``COMMAND`` of its module.
    """

    class Late(TyperCommand):
        """What stands in the list of verbs."""

        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            """The context of the command itself."""
            found = import_module(f"commbench.cli.{module}")
            group, meant = command_app(), getattr(found, name)
            group.callback()(lambda: None)
            if isinstance(meant, typer.Typer):
                group.add_typer(meant, name=verb)
            else:
                group.command(verb, **getattr(found, "COMMAND", {}))(meant)
            command: Any = read_plainly(typer.main.get_command(group), parent)
            return command.commands[verb].make_context(info_name, args, parent, **extra)

    return Late


def command_app() -> typer.Typer:
    """An application of one command or more, without options or colours of typer's own."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
