# SPDX-License-Identifier: Apache-2.0
"""What every picture of a page has in common; colours and type are in page.css."""

from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["NARROW", "WIDTH", "Picture", "for_both"]

WIDTH = 1120  # of the page's column, in CSS pixels
NARROW = 358  # of a phone's


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure ready for the page: inline ``svg``, a ``title``, and a ``detail`` line in smaller print.

    ``narrow`` is the same figure for a phone, where ``svg`` would be too small to read.
    """

    svg: str
    title: str = ""
    detail: str = ""
    narrow: str = ""


def for_both(draw: Callable[[int, str], Picture], width: int = WIDTH) -> Picture:
    """A picture at this width, and at a phone's; ``draw`` takes a width and what to append to names (ids) of it."""
    wide = draw(width, "")
    return replace(wide, narrow=draw(NARROW, "n").svg) if width > NARROW else wide
