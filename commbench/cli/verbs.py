# SPDX-License-Identifier: Apache-2.0
"""The first word: the verbs, what people type instead of them, and what to say to anything else."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from typer.core import TyperGroup

from commbench.errors import InputError

__all__ = ["Verbs"]

_ALSO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "simulate": ("sim",),
        "train": ("sim", "train"),
        "measure": ("run",),
        "bench": ("run",),
        "benchmark": ("run",),
    }
)


class Verbs(TyperGroup):
    """The group of all verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is meant.

        Raises:
            InputError: a collective stands where a verb belongs.
        """
        word = args[0]
        if word in self.commands:
            return super().resolve_command(ctx, args)
        args = [*_ALSO.get(word, (word,)), *args[1:]]
        if args[0] not in self.commands and (collective := _collective(word)):
            raise InputError(
                f"{word!r} is a collective, not a verb: give commbench run {collective}, or commbench sim {collective} "
                "--topology NAME"
            )
        return super().resolve_command(ctx, args)


def _collective(word: str) -> str:
    """The collective that a word names; "" if none."""
    from commbench.collectives.spec import get_collective

    try:
        return get_collective(word).name
    except InputError:
        return ""
