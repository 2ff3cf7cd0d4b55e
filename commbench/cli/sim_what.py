# SPDX-License-Identifier: Apache-2.0
"""``sim COLLECTIVE``, ``sim train`` or ``sim FILE.yaml``."""

from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["EPILOG", "SimWhat"]

EPILOG = "commbench sim train simulates a whole training step, commbench sim FILE.yaml an experiment file."


class SimWhat(TyperCommand):
    """``sim COLLECTIVE``, unless the first word is ``train`` or a file."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of whichever of them is meant."""
        from commbench.cli import sim_file, sim_train

        if args[:1] == ["train"]:
            return typer.main.get_command(sim_train.app).make_context(f"{info_name} train", args[1:], parent, **extra)
        if args and args[0].endswith((".yaml", ".yml")):
            return typer.main.get_command(sim_file.app).make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)
