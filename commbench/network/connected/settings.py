# SPDX-License-Identifier: Apache-2.0
"""What connections tell the fluid model, and its name: ``fluid:window=131072,packet=1514,burst=3028``."""

from dataclasses import dataclass

__all__ = ["Connected", "parse_connected"]

_PREFIX = "fluid:"


@dataclass(frozen=True, slots=True)
class Connected:
    """One fluid network of connections.

    Attributes:
        window_bytes: that one direction of a connection may have in its sender's buffer and under way.
        packet_bytes: of a full packet on the wire.
        burst_bytes: that a port saves up while idle (a token bucket); 0: a wire.
    """

    window_bytes: int
    packet_bytes: int
    burst_bytes: int

    @property
    def text(self) -> str:
        """Its name; users give ``fluid``, and the library the rest."""
        return f"{_PREFIX}window={self.window_bytes},packet={self.packet_bytes},burst={self.burst_bytes}"


def parse_connected(text: str) -> Connected | None:
    """Of a name that ``text`` wrote; None of any other."""
    if not text.startswith(_PREFIX):
        return None
    given = dict(part.partition("=")[::2] for part in text.removeprefix(_PREFIX).split(","))
    if set(given) != {"window", "packet", "burst"} or not all(value.isdecimal() for value in given.values()):
        return None
    return Connected(*(int(given[key]) for key in ("window", "packet", "burst")))
