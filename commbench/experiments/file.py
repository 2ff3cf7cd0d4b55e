# SPDX-License-Identifier: Apache-2.0
"""Experiment files: a cluster, a library, a workload, what goes wrong, a seed and sizes; a list of any is a sweep.

::

    cluster: {topology: fat-tree-16, routing: [ecmp, d-mod-k]}
    library: ideal
    workload: {collective: all-reduce, algorithm: [ring, double-binary-tree]}
    scenario: [none, ../spine-link-at-10-percent.yaml]
    seed: 0
    sizes: [1M, 64M]

``cluster`` may be a topology alone. A ``workload`` is a collective or a training step; its keys are the options of
``commbench sim`` and ``sim train`` by their names. Everything is combined with everything, in the order of the file:
what stands first changes last. Files that it names are taken from its own folder, or from where the user stands.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from os.path import isfile
from pathlib import Path
from typing import Any

from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.experiments.collective import DEFAULT_SIZE, Sizes
from commbench.experiments.reader import KeyPath, read_keys, refuse_unknown
from commbench.experiments.simulated import CollectiveOptions
from commbench.experiments.step_given import StepOptions
from commbench.libraries.base import LIBRARIES
from commbench.units import parse_size
from commbench.yaml_reader import problems_text, read_yaml

__all__ = ["MOST_RUNS", "ExperimentRun", "read_experiment"]

MOST_RUNS = 10_000
_KEYS = ("cluster", "library", "workload", "scenario", "jitter", "seed", "sizes", "engine", "detail", "claim")
_CLUSTER = ("topology", "ranks", "routing", "placement", "ranks_per_host")
_NEEDED = ("cluster", "library", "workload")
_FILES = ("topology", "model", "scenario", "algorithm", "schedule", "gemm_table", "constants", "nccl_graph", "matrix")

_Leaves = dict[KeyPath, Any]
"""Values that are no mapping and no sweep, by where they stand."""


@dataclass(frozen=True, slots=True)
class ExperimentRun:
    """One run of an experiment: a training step, or a collective and its size."""

    options: CollectiveOptions | StepOptions
    size: str = ""

    @property
    def sizes(self) -> Sizes:
        """The one size, as -b and -e; of a collective that moves no data, what they are unless given."""
        return (self.size, self.size, None, None) if self.size else (DEFAULT_SIZE, None, None, None)


def read_experiment(file: Path) -> list[ExperimentRun]:
    """Every run that a file asks for, in its order.

    Raises:
        InputError: the file cannot be read, asks for too much, or has a key or value that breaks a rule; names file
            and line.
    """
    document = read_yaml(file, InputError, example="cluster: star-8")
    problems: list[tuple[KeyPath, str]] = []
    data = {key.replace("-", "_"): value for key, value in document.data.items()}
    missing = [key for key in _NEEDED if key not in data]
    for key in document.data:
        if key.replace("-", "_") not in _KEYS:
            _noted(problems, (key,), partial(refuse_unknown, key, _KEYS))
    if missing:
        problems.append(((), f"{', '.join(missing)} must be given, for example `workload: {{collective: all-reduce}}`"))
    asked = {key: value for key, value in document.data.items() if key != "claim"}
    if not 0 < (count := _count(asked)) <= MOST_RUNS:
        problems.append(((), f"its lists make {count:,} runs; must be 1 to {MOST_RUNS:,}"))
    runs = [] if problems else [_run(leaves, file.parent, problems) for leaves in _variants(asked, ())]
    if problems:
        raise InputError(problems_text(str(file), [(document.line(path), problem) for path, problem in problems]))
    return [run for run in runs if run is not None]


def _count(value: Any, key: str = "") -> int:
    """How many variants a value has."""
    if isinstance(value, Mapping):
        return prod(_count(inner, name) for name, inner in value.items())
    return sum(map(_count, value)) if isinstance(value, list) and key != "layers" else 1


def _variants(value: Any, path: KeyPath) -> Iterator[_Leaves]:
    """Each choice of one from every list; ``layers`` of a step are a list of their own."""
    if isinstance(value, Mapping):
        for parts in product(*([*_variants(inner, (*path, key))] for key, inner in value.items())):
            yield {place: leaf for part in parts for place, leaf in part.items()}
    elif isinstance(value, list) and path[-1:] != ("layers",):
        for number, one in enumerate(value):
            yield from _variants(one, (*path, number))
    else:
        yield {path: value}


def _run(leaves: _Leaves, folder: Path, problems: list[tuple[KeyPath, str]]) -> ExperimentRun | None:
    """One run; None if something is wrong with it."""
    before = len(problems)
    found, size, is_step = _Leaves(), "", not any("collective" in path for path in leaves)
    for path, value in leaves.items():
        names = [str(step).replace("-", "_") for step in path if isinstance(step, str)]
        if names == ["library"]:
            if value not in LIBRARIES:
                problems.append((path, f"library {value!r} is unknown; known: {', '.join(LIBRARIES)}"))
            else:
                found[path] = value
        elif names == ["sizes"]:
            size = str(value)
            _noted(problems, path, partial(parse_size, size))
            if is_step:
                problems.append((path, "sizes has no meaning for a training step; a workload with a collective has it"))
        elif names[0] == "cluster" and (wrong := _wrong_in_cluster(names)):
            problems.append((path, wrong))
        elif names == ["workload"]:
            problems.append((path, "workload must be a mapping of options, for example {collective: all-reduce}"))
        elif names[0] == "workload" and names[1] in (*_CLUSTER, *_KEYS):
            where = "of the cluster" if names[1] in _CLUSTER else "on its own"
            problems.append((path, f"workload.{names[1]} stands {where}, not in a workload"))
        elif value is not None and (names, value) != (["scenario"], "none"):
            place = (*path, "topology") if names == ["cluster"] else path
            found[place] = _beside(folder, value) if {*names, str(place[-1])} & {*_FILES} else value
    options: Any = StepOptions if is_step else CollectiveOptions
    values = read_keys(options, found.items(), problems)
    if len(problems) == before and not is_step:
        _noted(problems, ("workload",), lambda: _name_collective(values, size))
    return None if len(problems) > before else ExperimentRun(options(**values), size)


def _name_collective(values: dict[str, Any], size: str) -> None:
    missing = [key for key in ("collective", "topology") if key not in values]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given")
    spec = get_collective(values["collective"])
    values["collective"] = spec.name
    if not size and not spec.covers:
        raise InputError(f"{spec.name} needs sizes, for example `sizes: [1M, 64M]`")


def _wrong_in_cluster(names: list[str]) -> str:
    if len(names) == 1 or (len(names) == 2 and names[1] in _CLUSTER):
        return ""
    return f"{'.'.join(names)} is no key of a cluster; known: {', '.join(name.replace('_', '-') for name in _CLUSTER)}"


def _beside(folder: Path, value: object) -> object:
    """A file's name from the folder of the experiment, where it is there (os.path: no name is an error)."""
    return str(folder / value) if isinstance(value, str) and isfile(folder / value) else value


def _noted(problems: list[tuple[KeyPath, str]], path: KeyPath, work: Callable[[], object]) -> None:
    """Do something; what it refuses goes to the problems."""
    try:
        work()
    except InputError as error:
        problems.append((path, str(error)))
