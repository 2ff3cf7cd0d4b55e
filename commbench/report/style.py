# SPDX-License-Identifier: Apache-2.0
"""How every figure looks, and how a matplotlib figure becomes part of a page.

Figures are drawn in stand-in colours. On the way into the page each stand-in becomes a CSS variable that page.css
sets, once for the light scheme and once for the dark one; text stays text and takes the page's font. One unit of a
figure is one CSS pixel.
"""

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from commbench.report.fonts import load_matplotlib
from commbench.report.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "HATCHED",
    "INK",
    "MARKERS",
    "MUTED",
    "PAPER",
    "WIDTH",
    "Picture",
    "bare_axes",
    "css_variable",
    "drawing",
    "embed",
    "new_figure",
    "series_colour",
    "series_marker",
    "svg_text",
    "to_picture",
]

WIDTH = 1120  # of the page's column, in CSS pixels
INK, MUTED, GRID, PAPER = "#010101", "#010102", "#010103", "#010104"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_SERIES = tuple(f"#0202{i:02x}" for i in range(len(MARKERS)))
_VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--s{i}" for i, colour in enumerate(_SERIES)},
}
HATCHED: Mapping[str, Any] = {
    "facecolor": "none",
    "edgecolor": MUTED,
    "hatch": "////",
    "linewidth": 0,
    "alpha": 0.45,
}
"""How a patch of idle time looks."""
_RC: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "commbench",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 1.8,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a $ in a name is a dollar sign
}
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_FONT = re.compile(r"font: ([^\"';]*?)(\d[\d.]*px) [^;\"]*")
_NEEDLESS = re.compile(r" font-family: [^;\"]*;| transform=\"rotate\(-?0 [^\"]*\)\"")  # text inherits the page's font
_EMPTY_GROUPS = re.compile(r"<defs>\s*</defs>\s*")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure ready for the page: inline ``svg``, a ``title``, and a ``detail`` line in smaller print."""

    svg: str
    title: str = ""
    detail: str = ""


def series_colour(number: int) -> str:
    """Stand-in colour of the series with this number; they repeat after eight."""
    return _SERIES[number % len(_SERIES)]


def css_variable(colour: str) -> str:
    """The CSS variable that a stand-in colour becomes on the page."""
    return _VARIABLES[colour]


def series_marker(number: int) -> str:
    """Marker of the series with this number: a second way to tell it, beside colour."""
    return MARKERS[number % len(MARKERS)]


def drawing() -> AbstractContextManager[None]:
    """A context in which matplotlib draws in this style; figures must be made and turned into text inside it."""
    context: AbstractContextManager[None] = load_matplotlib().rc_context(dict(_RC))
    return context


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of ``width`` x ``height`` CSS pixels that belongs to no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")


def bare_axes(figure: "Figure", *, left: float, right: float, top: float, bottom: float) -> "Axes":
    """Axes with these margins in pixels: a base line, level grid lines, no box."""
    width, height = (inches * 72 for inches in figure.get_size_inches())
    inner = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(inner, facecolor="none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.tick_params(axis="x", length=4, pad=4)
    return axes


def to_picture(figure: "Figure", name: str, *, title: str = "", detail: str = "", label: str = "") -> Picture:
    """The figure as inline SVG whose ids all begin with ``name``; ``label`` is what a screen reader says."""
    svg = svg_text(figure, transparent=True)
    return Picture(embed(svg, name, printable(label or f"{title} {detail}".strip())), title, detail)


def svg_text(figure: "Figure", *, transparent: bool = False) -> str:
    """The figure as one SVG element; text in it is made printable, whatever it came from."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(printable(text.get_text()))
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def embed(svg: str, name: str, label: str, *, width: int | None = None) -> str:
    """An SVG file as part of a page.

    Global style, metadata and ids that nothing refers to go, the other ids get ``name`` in front, colours become
    variables, fonts the page's own. ``width`` is the largest width in CSS pixels, that of the view box if None.
    """
    text = _DROPPED.sub("", svg[svg.index("<svg") :]).strip()
    text = text.replace("xlink:href=", "href=")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    names = {a or b for a, b in used}

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in names else ""

    text = re.sub(r'\s+id="([^"]*)"', rename, text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = _FONT.sub(r"font-size: \2; \1", text)
    text = _EMPTY_GROUPS.sub("", _NEEDLESS.sub("", text))
    return _open_tag(text, label, width)


def _open_tag(text: str, label: str, width: int | None) -> str:
    """Replace the opening tag: size in pixels from the view box, no namespaces (HTML implies them), a spoken label."""
    end = text.index(">")
    box = re.search(r'viewBox="([^"]+)"', text[:end])
    if box is None:
        raise ValueError(f"the SVG of {label!r} has no viewBox")
    most = width or float(box[1].split()[2])
    tag = f'<svg viewBox="{box[1]}" style="max-width: {most:g}px" role="img" aria-label={quoteattr(label)}>'
    return tag + text[end + 1 :]
