# SPDX-License-Identifier: Apache-2.0
"""What a launcher is to start, checked before anything waits in a queue for it."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from commbench.errors import InputError

__all__ = ["LaunchAsked", "default_ranks", "exports_of", "hosts_of"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")  # a DNS label with room for what Kubernetes appends
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9._/@:+,#-]+")  # what stands in a script without quotes
_TIME = re.compile(r"\d{1,6}(?::\d\d){0,2}|\d{1,4}-\d\d?(?::\d\d){0,2}")  # sbatch(1), --time
_LAST_PORT = 65535
_MOST_RANKS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAsked:
    """A run, and where.

    Attributes:
        words: what follows ``commbench``: "run", what is run, and its options. has_out: it names its results file.
        nodes, gpus, ranks: nodes, and of each its GPUs (0: ranks on CPUs) and ranks.
        name: of the job. folder: for results, on storage that all nodes share; "" is ``runs`` where it is started.
        exports: variables for every rank. setup: lines before it starts, such as the activation of an environment.
        hosts: names, where the launcher is not told them by a scheduler. port: of rank 0's host.
        partition, account, time: of Slurm. image: of a container. claim: of the volume that ``folder`` is on.

    Raises:
        InputError: a value that no launcher takes; names option, value and rule.
    """

    words: tuple[str, ...]
    has_out: bool = False
    nodes: int = 1
    gpus: int = 8
    ranks: int = 8
    name: str = "commbench"
    folder: str = ""
    exports: tuple[tuple[str, str], ...] = ()
    setup: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    port: int = 29500
    partition: str = ""
    account: str = ""
    time: str = ""
    image: str = ""
    claim: str = ""

    def __post_init__(self) -> None:
        for option, number in (("--nodes", self.nodes), ("--ranks-per-node", self.ranks)):
            if number < 1:
                raise InputError(f"{option} {number} must be at least 1")
        if self.gpus < 0:
            raise InputError(f"--gpus-per-node {self.gpus} must be 0 (ranks on CPUs) or more")
        if self.nodes * self.ranks > _MOST_RANKS:
            raise InputError(f"--nodes {self.nodes} x {self.ranks} ranks must be at most {_MOST_RANKS} ranks")
        if 0 < self.gpus < self.ranks:
            raise InputError(
                f"--ranks-per-node {self.ranks} is more than --gpus-per-node {self.gpus}; every rank needs a GPU of "
                "its own, or give --gpus-per-node 0 for ranks on CPUs"
            )
        if not 0 < self.port <= _LAST_PORT:
            raise InputError(f"--port {self.port} must be in 1..{_LAST_PORT}")
        if not _NAME.fullmatch(self.name):
            raise InputError(f"--name {self.name!r} must be 1 to 40 of a-z, 0-9 and -, and not begin or end with -")
        for option, word in (("--partition", self.partition), ("--account", self.account), ("--image", self.image),
                             ("--claim", self.claim)):  # fmt: skip
            if word and not _WORD.fullmatch(word):
                raise InputError(f"{option} {word!r} must be one word of letters, digits and ._/@:+,#-")
        if self.time and not _TIME.fullmatch(self.time):
            raise InputError(f"--time {self.time!r} must be as sbatch has it: minutes, HH:MM:SS or D-HH:MM:SS")
        self._require_lines()
        self._require_folder()
        if self.hosts and len(self.hosts) != self.nodes:
            raise InputError(f"--hosts names {len(self.hosts)}, --nodes says {self.nodes}; name each node once")

    @property
    def world_size(self) -> int:
        """Ranks of all nodes."""
        return self.nodes * self.ranks

    def _require_lines(self) -> None:
        for option, text in (*(("--setup", line) for line in self.setup), ("--folder", self.folder),
                             *(("--export", value) for _, value in self.exports),
                             *(("the command", word) for word in self.words)):  # fmt: skip
            if not text.isprintable():
                raise InputError(f"{option} {text!r} must be one line of text that can be printed")

    def _require_folder(self) -> None:
        if self.folder and self.has_out:
            raise InputError(f"--folder {self.folder}: the command has an --out of its own; give one of them")
        if not self.image and not self.claim:
            return
        option = "--claim" if self.claim else "--image"
        if not PurePosixPath(self.folder).is_absolute():
            raise InputError(
                f"{option} {self.claim or self.image}: results go with the container; give --folder, the absolute path "
                "of shared storage in it" + (f", not {self.folder!r}" if self.folder else "")
            )


def default_ranks(gpus: int, ranks: int | None) -> int:
    """Ranks of a node: as many as GPUs, where nothing else is said.

    Raises:
        InputError: there are none of either.
    """
    if ranks is None and gpus == 0:
        raise InputError("--gpus-per-node 0: say how many ranks a node has, such as --ranks-per-node 4")
    return gpus if ranks is None else ranks


def exports_of(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Variables from NAME=VALUE.

    Raises:
        InputError: one is no such pair, or stands there twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise InputError(f"--export {text!r} must be NAME=VALUE, such as NCCL_DEBUG=INFO")
        if name in found:
            raise InputError(f"--export {name} stands there twice: {found[name]!r} and {value!r}; give one")
        found[name] = value
    return tuple(found.items())


def hosts_of(text: str) -> tuple[str, ...]:
    """Names of hosts from "a,b".

    Raises:
        InputError: one is no name or address of a host.
    """
    names = tuple(text.split(",")) if text else ()
    for name in names:
        if not _HOST.fullmatch(name):
            raise InputError(f"--hosts {text!r}: {name!r} must be the name or address of a host; as in node1,node2")
    return names
