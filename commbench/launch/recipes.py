# SPDX-License-Identifier: Apache-2.0
"""The launchers that there are recipes for: what each writes, what it is started with, and which options mean anything.

An option that a launcher has no place for is refused: what a recipe leaves out nobody would miss until the run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from commbench import __version__
from commbench.errors import InputError
from commbench.launch.asked import LaunchAsked
from commbench.launch.manifests import indexed_job, mpi_job
from commbench.launch.scripts import hydra, openmpi, slurm, torchrun

__all__ = ["RECIPES", "Recipe", "write_recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One launcher.

    Attributes:
        make: the text. start: the command that starts it, with {file}. takes: options of one launcher or of some, which
            this one has a place for, by the names of the fields of LaunchAsked.
        where: on which machines, where that is not said by the text.
    """

    make: Callable[[LaunchAsked], str]
    start: str
    takes: frozenset[str]
    where: str = ""


_SHELL = {"setup"}
_POD = {"image", "claim", "setup", "port"}
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "slurm": Recipe(slurm, "sbatch {file}", frozenset({"partition", "account", "time", "image"} | _SHELL)),
        "torchrun": Recipe(torchrun, "bash {file}", frozenset({"hosts", "port"} | _SHELL), " on every node"),
        "mpi": Recipe(openmpi, "bash {file}", frozenset({"hosts", "port"} | _SHELL)),
        "hydra": Recipe(hydra, "bash {file}", frozenset({"hosts", "port"} | _SHELL)),
        "kubernetes": Recipe(indexed_job, "kubectl create -f {file}", frozenset(_POD)),
        "mpijob": Recipe(mpi_job, "kubectl create -f {file}", frozenset(_POD)),
    }
)
"""By the option that asks for it."""
_SOME = frozenset().union(*(recipe.takes for recipe in RECIPES.values()))


def write_recipe(launcher: str, asked: LaunchAsked, command: str) -> str:
    """The text, with how it came about.

    Args:
        launcher: a key of :data:`RECIPES`. command: that it was written by.

    Raises:
        InputError: an option means nothing to this launcher, or one that it needs is missing.
    """
    recipe = RECIPES[launcher]
    for field in fields(asked):
        if field.name in _SOME - recipe.takes and getattr(asked, field.name) != field.default:
            others = ", ".join(f"--{name}" for name, other in RECIPES.items() if field.name in other.takes)
            raise InputError(f"--{field.name} means nothing with --{launcher}; leave it out (it is for {others})")
    text = recipe.make(asked)
    note = f"# commbench {__version__}: {command}\n"
    first, rest = text.split("\n", 1)
    return f"{first}\n{note}{rest}" if first.startswith("#!") else note + text
