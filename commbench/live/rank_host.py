# SPDX-License-Identifier: Apache-2.0
"""Where a rank runs that this machine starts, and what it has there."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from commbench.live.system import enter_network, take_realtime_priority

__all__ = ["RankHost", "hosts_from_json", "hosts_to_json"]


@dataclass(frozen=True, slots=True)
class RankHost:
    """Where one rank runs, if not plainly here.

    Attributes:
        network: file of the network namespace that it is in; "" is that of its starter.
        realtime: whether it takes real-time priority, where it may.
        variables: environment variables for this rank alone.
        output: file to whose end it prints; "" is where its starter prints.
        files: descriptors that it has from its starter, and no other rank has.
    """

    network: str = ""
    realtime: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    files: tuple[int, ...] = ()

    def move_in(self) -> None:
        """Make this process one of that place.

        Raises:
            OSError: there is no such place.
        """
        if self.output:
            handle = os.open(self.output, os.O_WRONLY | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.close(handle)
        os.environ.update(self.variables)
        if self.network:
            enter_network(Path(self.network))
        if self.realtime:
            take_realtime_priority()


def hosts_to_json(hosts: Sequence[RankHost]) -> str:
    """As text, for another process."""
    return json.dumps([asdict(host) for host in hosts], default=dict)


def hosts_from_json(text: str | bytes) -> list[RankHost]:
    """The hosts that :func:`hosts_to_json` wrote."""
    return [replace(host, files=tuple(host.files)) for host in (RankHost(**each) for each in json.loads(text))]
