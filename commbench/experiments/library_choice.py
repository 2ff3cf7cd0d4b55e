# SPDX-License-Identifier: Apache-2.0
"""Whose decisions a simulated collective follows: the user's own at wire speed, or those of the GPUs' library."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.cluster import Cluster
from commbench.collectives.sizes import dtype_name
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.experiments.collective_options import CollectiveOptions
from commbench.libraries.base import LIBRARIES, Library
from commbench.network.models import get_network

if TYPE_CHECKING:  # a schedule of the user's own needs no library's model, which takes time to load
    from commbench.libraries.nccl.library import NcclLibrary
    from commbench.libraries.nccl.machine import NcclMachine

__all__ = ["IDEAL", "library_for", "machine_for", "named_library"]

IDEAL = LIBRARIES[0]
_OF_MODELS = {"nccl_version": "--nccl-version", "launch_mode": "--launch-mode", "nvls": "--nvls",
    "nccl_graph": "--nccl-graph", "constants": "--constants"}  # fmt: skip
_OF_SCHEDULES = {"algorithm": "-a", "slices": "--slices", "group": "--group", "matrix": "--matrix",
    "zipf": "--zipf"}  # fmt: skip


def library_for(
    options: CollectiveOptions,
    cluster: Cluster,
    sizes: Sequence[int],
    tell: Callable[[str], None],
) -> Library | None:
    """The library that was asked for, else that of the GPUs; None: ideal, which does what the other options say.

    Left out, it is ``ideal`` where the options name a schedule, or where hosts have no GPUs; on hosts of GPUs it is
    theirs, but where its model does not know what was asked, which is told.

    Args:
        sizes: of the sweep, in bytes. tell: hears notes.

    Raises:
        InputError: an unknown library, or options of one beside another.
    """
    if options.library is not None or _model_option(options):
        found = named_library(options, cluster)
        if found is not None and options.launch_mode == "graph":
            tell("note: no floor of --launch-mode graph is known; that of --launch-mode process is assumed")
        return found
    if _schedule_option(options) or not cluster.fabric.device:
        return None
    own, why = _own_library(options, cluster, sizes)
    if own is None:
        tell(f"note: {why}; library {IDEAL}: links at their rates, no more")
    return own


def named_library(options: CollectiveOptions, cluster: Cluster) -> "NcclLibrary | None":
    """The library that the options name, or mean by an option that only its model has; None: ideal.

    Raises:
        InputError: an unknown library, or options of one beside another.
    """
    if options.library not in (None, *LIBRARIES):
        raise InputError(f"--library {options.library!r} is unknown; known: {', '.join(LIBRARIES)}")
    if options.library == IDEAL:
        if model := _model_option(options):
            raise InputError(f"{model} goes with --library nccl, not with {IDEAL}")
        return None
    if schedule := _schedule_option(options):
        raise InputError(f"{schedule} goes with --library {IDEAL}: {options.library or 'nccl'} chooses by itself")
    return _made(options, cluster)


def _model_option(options: CollectiveOptions) -> str:
    """An option that only a library's model understands; "" if none was given."""
    return next((flag for name, flag in _OF_MODELS.items() if getattr(options, name) is not None), "")


def _schedule_option(options: CollectiveOptions) -> str:
    """An option that only a schedule of the user's own understands; "" if none was given."""
    if options.channels != 1:
        return "--channels"
    return next((flag for name, flag in _OF_SCHEDULES.items() if getattr(options, name) is not None), "")


def _own_library(options: CollectiveOptions, cluster: Cluster, sizes: Sequence[int]) -> tuple[Library | None, str]:
    """The library of the hosts' GPUs; else None, and why its model cannot answer."""
    from commbench.libraries.nccl.library import library_of
    from commbench.libraries.nccl.predictor import KINDS, predict_sizes

    name = library_of(cluster.fabric.device or "")
    kind = get_collective(options.collective).name
    if kind not in KINDS:
        return None, f"the model of {name} has no {kind}"
    if options.detail == "folded":
        return None, f"--detail folded simulates a schedule, and {name} has a model"
    if not get_network(options.network).weighted:
        return None, f"--network {options.network} simulates messages at wire speed, and {name} has a model"
    if len(set(Counter(cluster.hosts.tolist()).values())) > 1:
        return None, f"the model of {name} knows hosts of equally many ranks alone"
    try:
        made = _made(options, cluster)
    except InputError as error:
        return None, str(error).replace("; or give --library ideal", "").replace(", or give --library ideal", "")
    answers = predict_sizes(made.machine, kind, sizes, dtype_name(options.dtype))
    unknown = next((one.reason for one in answers if one.status == "unknown"), "")
    return (None, f"library {name}: {unknown}") if unknown else (made, "")


def _made(options: CollectiveOptions, cluster: Cluster) -> "NcclLibrary":
    from commbench.experiments.own_points import read_own
    from commbench.libraries.nccl.library import NcclLibrary

    machine = machine_for(options, cluster)
    own = None if options.constants is None else read_own(Path(options.constants), machine.library)
    return NcclLibrary(machine=machine, dtype=options.dtype, own=own)


def machine_for(options: CollectiveOptions, cluster: Cluster) -> "NcclMachine":
    """The cluster as the model of its library sees it.

    Raises:
        InputError: another library's, or a machine that the model does not know.
    """
    from commbench.libraries.nccl.library import machine_of
    from commbench.libraries.nccl.machine import VERSIONS

    if options.nvls not in (None, "on", "off"):
        raise InputError(f"--nvls {options.nvls!r}: give on or off")
    machine = machine_of(
        cluster,
        version=options.nccl_version or VERSIONS[-1],
        launch=options.launch_mode or "process",
        nvls=None if options.nvls is None else options.nvls == "on",
    )
    if options.library not in (None, machine.library):
        place = cluster.fabric.name
        raise InputError(f"--library {options.library} on topology {place}: its GPUs take {machine.library}")
    if options.nccl_graph is None:
        return machine
    from commbench.experiments.own_graph import searched_in

    return replace(machine, searched=searched_in(Path(options.nccl_graph), machine))
