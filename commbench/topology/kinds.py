# SPDX-License-Identifier: Apache-2.0
"""Kinds of fabric: a schema class each, which knows its builder. Adding one is writing it and registering it.

Modules of kinds that ship stand in ``schema.SHIPPED``, and what their keys mean in ``keys.KEYS`` and the docs.
"""

from collections.abc import Callable
from typing import TypeVar, get_args

from commbench.errors import TopologyError
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.sections import Section

__all__ = ["FABRIC_KINDS", "FabricKind", "register", "when_known"]


class FabricKind(Section):
    """The ``fabric`` section of one kind: its keys, and how it joins hosts."""

    kind: str

    @property
    def num_hosts(self) -> int:
        """Hosts that it joins: what its key ``hosts`` says, if it has one."""
        return int(getattr(self, "hosts", 1))

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """Add the switches and cables of this kind to its hosts; the stages of a tree, () where it is none.

        Raises:
            TopologyError: hosts that it cannot join; starts with the key path.
        """
        raise NotImplementedError

    def check_hosts(self, nics: int, routing: str) -> None:
        """What the fabric must obey together with its hosts and the routing; subclasses add to it.

        Raises:
            TopologyError: it does not; starts with the key path.
        """
        if not nics:
            raise TopologyError("host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more")


FABRIC_KINDS: dict[str, type[FabricKind]] = {}
"""Kind, as files name it -> its class."""

_WATCHERS: list[Callable[[], None]] = []

K = TypeVar("K", bound=type[FabricKind])


def register(kind: K) -> K:
    """Make a kind known under the name that its ``kind`` key takes."""
    (name,) = get_args(kind.__annotations__["kind"])
    FABRIC_KINDS[name] = kind
    for watcher in _WATCHERS:
        watcher()
    return kind


def when_known(watcher: Callable[[], None]) -> None:
    """Call it now, and whenever another kind is registered."""
    _WATCHERS.append(watcher)
    watcher()
