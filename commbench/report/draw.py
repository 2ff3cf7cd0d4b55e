# SPDX-License-Identifier: Apache-2.0
"""Pictures of topologies as SVG, links coloured by their load where it is known.

The geometry comes from :mod:`commbench.topology.layout`.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commbench.report.chart import path_of
from commbench.report.load import LOAD_RAMP, FabricLoad, busiest_boxes, fabric_load, load_colour
from commbench.report.style import Picture
from commbench.report.svg import Value, document, element, file_document, group, text, tip
from commbench.report.text import fitted, percent, time_text, words_width
from commbench.topology.fabric import Fabric
from commbench.topology.layout import Box, Drawing, Label, Stroke, layout, link_word
from commbench.topology.model import LinkKind, NodeKind
from commbench.units import format_bytes

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["topology_drawing", "topology_svg"]

_NAMES, _SMALL, _LARGE = 9.7, 10.4, 19.0  # font sizes
_HEAD = 76.0  # units of the heading, which is text on a page
_FILL = {  # names stand on it in white, at a contrast of 4.5 at the least
    NodeKind.CORE: "#312e81",
    NodeKind.SPINE: "#4f46a5",
    NodeKind.LEAF: "#7067c0",
    NodeKind.NIC: "#2a74b2",
    NodeKind.PCIE_SWITCH: "#a86114",
    NodeKind.CPU: "#64748b",
    NodeKind.GPU: "#388248",
    NodeKind.NVSWITCH: "#1f6b3a",
    NodeKind.MEMORY: "#a8553f",
}
_WORDS = {
    NodeKind.PCIE_SWITCH: "PCIe switch",
    NodeKind.NIC: "NIC",
    NodeKind.GPU: "GPU",
    NodeKind.CPU: "CPU",
    NodeKind.NVSWITCH: "NVSwitch",
}
_COLOUR = {
    LinkKind.NETWORK: "#5b6ee1",
    LinkKind.PCIE: "#c9781d",
    LinkKind.NVLINK: "#3f8f4f",
    LinkKind.SOCKET: "#64748b",
    LinkKind.MEMORY: "#a8553f",
}
_WIDTHS = {
    LinkKind.NETWORK: 1.25,
    LinkKind.PCIE: 1.7,
    LinkKind.NVLINK: 2.2,
    LinkKind.SOCKET: 1.9,
    LinkKind.MEMORY: 1.7,
}
_DASHED = frozenset({LinkKind.SOCKET})
_KEY, _APART, _KEY_ROW = 28.0, 14.0, 18.0  # pixels of a key before its words, between keys, and between their rows


@dataclass(frozen=True, slots=True)
class _Look:
    """Colours that differ between the page, which has a dark scheme, and a file of its own."""

    ink: str
    faint: str
    panel: str
    edge: str
    host: str


_PAGE = _Look("var(--ink)", "var(--muted)", "var(--raised)", "var(--rule)", "var(--grid)")
_FILE = _Look("#1f2937", "#64748b", "#f5f6f8", "#d7dce3", "#e2e8f0")


def topology_svg(topology: Fabric) -> str:
    """One ``<svg>`` element that needs nothing outside itself, for a file; equal input, equal text."""
    drawing = layout(topology)
    inside = [*_heading(drawing, _FILE), *_inside(topology, drawing, _FILE, FabricLoad())]
    return file_document(drawing.width, drawing.height, *inside)


def topology_drawing(topology: Fabric, simulation: "Simulation | None" = None) -> Picture:
    """The picture for the page, its heading apart; links coloured by their load in what was simulated on it.

    For the whole run; where it is known by time, a slider of the page's script shows each slice of the run.
    """
    drawing = layout(topology, busiest_boxes(topology, simulation))
    load = fabric_load(topology, simulation, {frozenset(stroke.ends) for stroke in drawing.strokes})
    label = f"Topology {topology.name}: {topology.description}"
    data: dict[str, Value] = {"data_left": min(box.x - box.width / 2 for box in drawing.boxes) - 6}
    if load.edges_s:
        data |= {"data_times": "|".join(map(time_text, load.edges_s)), "data_ramp": " ".join(LOAD_RAMP)}
    inside = group(*_inside(topology, drawing, _PAGE, load), transform=f"translate(0 {-_HEAD:g})")
    svg = document(drawing.width, drawing.height - _HEAD, inside, label=label, **data)
    return Picture(svg, topology.name, f"{topology.description.rstrip('.')}. {drawing.note}".strip())


def _inside(topology: Fabric, drawing: Drawing, look: _Look, load: FabricLoad) -> list[str]:
    rails = {node.name: node.rail for node in topology.of_kind(NodeKind.LEAF) if node.rail is not None}
    return [
        _frame(drawing, look),
        *(_stroke(stroke, load) for stroke in drawing.strokes),
        *(_node(box, look, rails) for box in drawing.boxes),
        *(_label(label, look) for label in drawing.labels),
        *_legend(drawing, topology, look, bool(load.links)),
    ]


def _heading(drawing: Drawing, look: _Look) -> list[str]:
    """Title, description, and what was left out."""
    lines = textwrap.wrap(drawing.subtitle, 150)
    return [
        text(20, 30, drawing.title, font_size=_LARGE, font_weight="bold", fill=look.ink),
        *(text(20, 54 + 14 * i, line, font_size=_SMALL, fill=look.faint) for i, line in enumerate(lines)),
        text(20, drawing.height - 50, drawing.note, font_size=_SMALL, font_style="italic", fill=look.faint),
    ]


def _frame(drawing: Drawing, look: _Look) -> str:
    """The panel of the opened host."""
    panel = drawing.panel
    frame = _rounded(panel.left, panel.top, panel.right, panel.bottom, look.panel, radius=8, edge=look.edge)
    x, y = panel.left + 12, panel.top + 15
    return frame + text(x, y, panel.title, font_size=_SMALL, font_style="italic", fill=look.faint)


def _rounded(x0: float, y0: float, x1: float, y1: float, fill: str, *, radius: float, edge: str | None = None) -> str:
    size: dict[str, Value] = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rx": radius}
    return element("rect", **size, fill=fill, stroke=edge, stroke_width=1 if edge else None)


def _node(box: Box, look: _Look, rails: Mapping[str, int]) -> str:
    """A box with its name; a leaf of a rail has the colour of the rail on its edge."""
    ink = look.faint if box.gap else "#ffffff" if box.kind else look.ink
    told = box.label if box.gap else fitted(box.label, _NAMES, box.width)
    words = text(box.x, box.y, told, anchor="middle", font_size=_NAMES, fill=ink)
    if box.gap:
        return words
    fill, edge = (_FILL[box.kind], None) if box.kind else (look.host, look.edge)
    x, y = box.x - box.width / 2, box.y - box.height / 2
    frame = _rounded(x, y, x + box.width, y + box.height, fill, radius=5, edge=edge)
    rail, under = rails.get(box.name), ""
    if rail is not None:
        under = element("rect", x=x + 4, y=y + box.height - 4, width=box.width - 8, height=3, fill=_rail_colour(rail))
    whole = (frame, under, words)
    return "".join(whole) if told == box.label else group(tip(box.label), *whole, class_="mark")


def _rail_colour(rail: int) -> str:
    return ("#f2b134", "#e4572e", "#76b041", "#17bebb", "#ef767a", "#c8a2ff", "#ffe066", "#9bd1e5")[rail % 8]


def _stroke(stroke: Stroke, of_fabric: FabricLoad) -> str:
    low = max(stroke.y0, stroke.y1) + stroke.bend * 4 / 3  # a cubic reaches 3/4 of the depth of its control points
    begin, end = f"{stroke.x0:.2f} {stroke.y0:.2f}", f"{stroke.x1:.2f} {stroke.y1:.2f}"
    curve = f"C{stroke.x0:.2f} {low:.2f} {stroke.x1:.2f} {low:.2f} {end}" if stroke.bend else f"L{end}"
    load = of_fabric.links.get(frozenset(stroke.ends))
    colour, width = _COLOUR[stroke.kind], _WIDTHS[stroke.kind] * stroke.weight
    if of_fabric.links and stroke.kind is LinkKind.NETWORK:
        colour, width = load_colour(load.share if load else 0.0), 1.0 + 2.2 * (load.share if load else 0.0)
    line = element(
        "path", d=f"M{begin}{curve}", fill="none", stroke=colour, stroke_width=width, stroke_opacity=0.9,
        stroke_dasharray="4 2.2" if stroke.kind in _DASHED else None,
        data_loads=" ".join(map(str, load.by_time)) if load and load.by_time else None,
    )  # fmt: skip
    line += _arrow(stroke, colour) if stroke.arrow else ""
    if load is None:
        return line
    words = (f"{load.name}: in use {percent(load.share)} of the time", f"{format_bytes(load.num_bytes)} over it")
    wide = element("path", d=f"M{begin}{curve}", fill="none", stroke="transparent", stroke_width=9)
    return group(tip(*words), line, wide, class_="mark", data_share=load.share, data_bytes=load.num_bytes)


def _arrow(stroke: Stroke, colour: str) -> str:
    """A head at the end of a link that goes one way."""
    x, y, up = stroke.x1, stroke.y1, -1 if stroke.y1 > stroke.y0 or stroke.bend else 1
    across = stroke.y1 == stroke.y0 and not stroke.bend
    side = -1 if stroke.x1 > stroke.x0 else 1
    back = [(x + 6 * side, y - 3), (x + 6 * side, y + 3)] if across else [(x - 3, y + 6 * up), (x + 3, y + 6 * up)]
    return element("path", d=path_of([(x, y), *back], close=True), fill=colour)


def _label(label: Label, look: _Look) -> str:
    colour = _COLOUR[label.kind]
    return group(
        _rounded(20, label.y - 14, 23, label.y + 14, colour, radius=1.5),
        text(30, label.y - 7, label.title, font_size=_SMALL, font_weight="bold", fill=look.ink),
        text(30, label.y + 7, label.detail, font_size=_SMALL, fill=look.faint),
    )


def _legend(drawing: Drawing, topology: Fabric, look: _Look, loaded: bool) -> list[str]:
    """Node kinds by colour and link kinds by line, those that occur; what colours of loads mean."""
    boxes, lines = {box.kind for box in drawing.boxes}, {stroke.kind for stroke in drawing.strokes}
    keys: list[tuple[str, NodeKind | LinkKind | None]] = [
        (_WORDS.get(kind, kind.value), kind) for kind in NodeKind if kind in boxes
    ]
    keys += [
        (link_word(topology, kind), kind)
        for kind in LinkKind
        if kind in lines and not (loaded and kind is LinkKind.NETWORK)
    ]
    if loaded:
        keys.append(("network link, idle to in use all the time", None))
    wide = [_KEY + words_width(words, _SMALL) + _APART for words, _ in keys]
    rows = 1 + (sum(wide) > drawing.width - 20)
    first = next(n for n in range(1, len(keys) + 1) if sum(wide[:n]) >= sum(wide) / rows)
    drawn = []
    for number, (words, kind) in enumerate(keys):
        row = int(number >= first)
        x, y = 20 + sum(wide[first * row : number]), drawing.height - 16 - _KEY_ROW * (rows - 1 - row)
        drawn += [_key_shape(x, y, kind), text(x + _KEY, y, words, font_size=_SMALL, fill=look.ink)]
    return drawn


def _key_shape(x: float, y: float, kind: NodeKind | LinkKind | None) -> str:
    """A box for nodes, a line for links, the ramp of loads for None."""
    if kind is None:
        return _load_key(x, y)
    if isinstance(kind, NodeKind):
        return _rounded(x, y - 5, x + 22, y + 5, _FILL[kind], radius=1.5)
    dash, width = "4 2.2" if kind in _DASHED else None, 1.5 * _WIDTHS[kind]
    return element("path", d=f"M{x:g} {y:g}h22", stroke=_COLOUR[kind], stroke_width=width, stroke_dasharray=dash)


def _load_key(x: float, y: float) -> str:
    return "".join(
        element("rect", x=x + 22 / 8 * i, y=y - 4, width=22 / 8, height=8, fill=load_colour(i / 7)) for i in range(8)
    )
