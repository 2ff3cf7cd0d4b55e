# SPDX-License-Identifier: Apache-2.0
"""What every picture of a page has in common; colours and type are in page.css."""

from dataclasses import dataclass

__all__ = ["WIDTH", "Picture"]

WIDTH = 1120  # of the page's column, in CSS pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure ready for the page: inline ``svg``, a ``title``, and a ``detail`` line in smaller print."""

    svg: str
    title: str = ""
    detail: str = ""
