# SPDX-License-Identifier: Apache-2.0
"""Commands whose first word may name another command, with options of its own."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["by_first_word"]


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
            command = typer.main.get_command(import_module(f"commbench.cli.{module}").app)
            if "." not in args[0]:  # a file is an argument of the other command
                info_name, args = f"{info_name} {args[0]}", args[1:]
            return command.make_context(info_name, args, parent, **extra)

    return FirstWord
