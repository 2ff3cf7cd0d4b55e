# SPDX-License-Identifier: Apache-2.0
"""SVG as text: the one writer of the page's own pictures.

One unit is one CSS pixel. Colours are the variables that page.css sets for the light and the dark scheme. What can be
pointed at carries its values as data attributes, for scripts, and a ``<title>``, which browsers show without any.
"""

from collections.abc import Sequence
from html import escape

from commbench.report.text import printable

__all__ = [
    "Value",
    "channels",
    "colour",
    "document",
    "element",
    "file_document",
    "glyph",
    "group",
    "hatch",
    "mixed",
    "paper_hatch",
    "text",
    "tip",
]

Value = str | float | None
"""Of an attribute."""
_SHAPES = (  # of the series in turn, inside the square from -1 to 1; the first is a circle
    "",
    "M-.88-.88H.88V.88H-.88Z",
    "M0-1.05L1 .85H-1Z",
    "M0-1.15L1.15 0L0 1.15L-1.15 0Z",
    "M0 1.05L1-.85H-1Z",
    "M-.38-1.05H.38V-.38H1.05V.38H.38V1.05H-.38V.38H-1.05V-.38H-.38Z",
    "M-.95-.45L-.45-.95L0-.5L.45-.95L.95-.45L.5 0L.95 .45L.45 .95L0 .5L-.45 .95L-.95 .45L-.5 0Z",
    "M0-1.1L.95-.55V.55L0 1.1L-.95 .55V-.55Z",
)
_SERIES = len(_SHAPES)


def element(tag: str, *inside: str, **attributes: Value) -> str:
    """One element; ``stroke_width`` is written ``stroke-width``, ``class_`` ``class``, and None not at all.

    ``inside`` is markup already. Numbers are written to a hundredth of a pixel, values of data attributes whole.
    """
    given = [(name, value) for name, value in attributes.items() if value is not None]
    words = "".join(f' {_name(name)}="{_value(name, value)}"' for name, value in given)
    return f"<{tag}{words}>{''.join(inside)}</{tag}>" if inside else f"<{tag}{words}/>"


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _value(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return repr(value) if name.startswith("data_") else f"{round(value, 2):g}"


def group(*inside: str, **attributes: Value) -> str:
    """What belongs together; "" if there is nothing in it."""
    return element("g", *inside, **attributes) if any(inside) else ""


def text(x: float, y: float, words: str, *, anchor: str = "start", **attributes: Value) -> str:
    """Words whose middle stands at height ``y``; ``anchor`` is start, middle or end."""
    place = None if anchor == "start" else anchor
    return element("text", escape(words, quote=False), x=x, y=y, dy=".35em", text_anchor=place, **attributes)


def tip(*lines: str) -> str:
    """What is shown of an element when it is pointed at, a line each."""
    return element("title", escape("\n".join(lines), quote=False))


def colour(number: int | None) -> str:
    """Of the series with this number, which repeat after eight; of bounds, which have none."""
    return "var(--muted)" if number is None else f"var(--s{number % _SERIES})"


def glyph(x: float, y: float, number: int, *, hollow: bool = False, size: float = 4.0) -> str:
    """The marker of a series: a second way to tell it, beside its colour."""
    own = colour(number)
    fill, edge = ("var(--paper)", own) if hollow else (own, "var(--paper)")
    look: dict[str, Value] = {"fill": fill, "stroke": edge}
    path = _SHAPES[number % _SERIES]
    if not path:
        return element("circle", cx=x, cy=y, r=size, stroke_width=1.4, **look)
    place = f"translate({x:.2f} {y:.2f}) scale({size:g})"
    return element("path", d=path, transform=place, stroke_width=f"{1.4 / size:.2f}", **look)


def hatch(name: str) -> str:
    """The pattern of idle time, to be filled with as ``url(#name)``."""
    line = element("path", d="M0 0V6", stroke="var(--muted)", stroke_width=1, stroke_opacity=0.45)
    return element(
        "pattern", line, id=name, width=6, height=6, patternUnits="userSpaceOnUse", patternTransform="rotate(45)"
    )


def paper_hatch(name: str) -> str:
    """Thin lines in the page's colour, over a bar whose kind must be told in grey as well."""
    line = element("path", d="M0 0V5", stroke="var(--paper)", stroke_width=1.6)
    return element(
        "pattern", line, id=name, width=5, height=5, patternUnits="userSpaceOnUse", patternTransform="rotate(-45)"
    )


def document(width: float, height: float, *inside: str, label: str, **attributes: Value) -> str:
    """The whole picture, as wide as the page allows and ``width`` at most; ``label`` is what a screen reader says."""
    return element(
        "svg", *inside, viewBox=f"0 0 {width:g} {height:g}", style=f"max-width: {width:g}px", role="img",
        aria_label=label, **{"class_": "chart", **attributes},
    )  # fmt: skip


def file_document(width: float, height: float, *inside: str, **attributes: Value) -> str:
    """A picture for a file of its own, on white; text in it is made printable, whatever it came from."""
    paper = element("rect", width=width, height=height, fill="#ffffff")
    whole = element(
        "svg", paper, *inside, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", width=width,
        height=height, font_family="system-ui, 'Liberation Sans', Arial, sans-serif", **attributes,
    )  # fmt: skip
    return printable(whole)


def mixed(ramp: Sequence[str], share: float) -> str:
    """The colour at this share of a ramp of ``#rrggbb``."""
    place = share * (len(ramp) - 1)
    low = min(int(place), len(ramp) - 2)
    ends = zip(channels(ramp[low]), channels(ramp[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (place - low) * (b - a)):02x}" for a, b in ends)


def channels(own: str) -> tuple[int, ...]:
    """Red, green and blue of ``#rrggbb``, 0 to 255."""
    return tuple(int(own[i : i + 2], 16) for i in (1, 3, 5))
