# SPDX-License-Identifier: Apache-2.0
"""``run COLLECTIVE``, or one of the words that have options of their own."""

from typing import Any

import typer
from typer.core import TyperCommand

from commbench.cli.run import OTHERS

__all__ = ["EPILOG", "RunWhat"]

EPILOG = f"{OTHERS} have options of their own: commbench run pipeline --help."


class RunWhat(TyperCommand):
    """``run COLLECTIVE``, unless the first word is one that has a command of its own."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command that is meant."""
        from commbench.cli import run_gemm, run_overlap, run_pipeline, run_tensor_parallel

        apps = {
            "pipeline": run_pipeline.app,
            "tensor-parallel": run_tensor_parallel.app,
            "gemm": run_gemm.app,
            "overlap": run_overlap.app,
        }
        if not args or args[0] not in apps:
            return super().make_context(info_name, args, parent, **extra)
        command = typer.main.get_command(apps[args[0]])
        return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
