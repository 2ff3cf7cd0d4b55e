# SPDX-License-Identifier: Apache-2.0
"""Pictures of topologies as self-contained SVG; the geometry comes from :mod:`commbench.topology.layout`."""

import textwrap
from typing import TYPE_CHECKING, Any

from commbench.report.fonts import load_matplotlib
from commbench.report.style import svg_text
from commbench.report.text import printable
from commbench.topology.fabric import Fabric
from commbench.topology.layout import Box, Drawing, Label, Stroke, layout, link_word
from commbench.topology.model import LinkKind, NodeKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["topology_figure", "topology_svg"]

_INK, _FAINT, _PANEL, _HOST = "#1f2937", "#64748b", "#f5f6f8", "#e2e8f0"
_UNITS_PER_INCH = 100.0

_FILL = {
    NodeKind.CORE: "#312e81",
    NodeKind.SPINE: "#4f46a5",
    NodeKind.LEAF: "#7c73c9",
    NodeKind.NIC: "#2f7fc1",
    NodeKind.PCIE_SWITCH: "#c9781d",
    NodeKind.CPU: "#64748b",
    NodeKind.GPU: "#3f8f4f",
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
    LinkKind.SOCKET: "#475569",
    LinkKind.MEMORY: "#a8553f",
}
_POINTS = {
    LinkKind.NETWORK: 0.9,
    LinkKind.PCIE: 1.2,
    LinkKind.NVLINK: 1.6,
    LinkKind.SOCKET: 1.4,
    LinkKind.MEMORY: 1.2,
}
_DASHED = frozenset({LinkKind.SOCKET})


def topology_svg(topology: Fabric) -> str:
    """One ``<svg>`` element, 10 inches wide, that needs nothing outside itself; equal input, equal text."""
    matplotlib = load_matplotlib()

    plain: Any = {"svg.fonttype": "none", "svg.hashsalt": printable(topology.name), "text.parse_math": False}
    with matplotlib.rc_context(plain):
        return svg_text(topology_figure(topology))


def topology_figure(topology: Fabric) -> "Figure":
    """The picture as a matplotlib figure that belongs to no global state."""
    from matplotlib.figure import Figure

    drawing = layout(topology)
    figure = Figure(figsize=(drawing.width / _UNITS_PER_INCH, drawing.height / _UNITS_PER_INCH))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis("off")
    _draw_frame(axes, drawing)
    for stroke in drawing.strokes:
        _draw_stroke(axes, stroke)
    for box in drawing.boxes:
        _draw_box(axes, box)
    for label in drawing.labels:
        _draw_label(axes, label)
    _draw_legend(axes, drawing, topology)
    return figure


def _draw_frame(axes: "Axes", drawing: Drawing) -> None:
    """Title, description, the panel of the opened host, and what was left out."""
    panel = drawing.panel
    axes.text(20, 30, drawing.title, fontsize=14, weight="bold", color=_INK, va="center")
    subtitle = textwrap.fill(drawing.subtitle, 150)
    axes.text(20, 48, subtitle, fontsize=7.5, color=_FAINT, va="top", linespacing=1.35)
    axes.add_patch(_rounded(panel.left, panel.top, panel.right, panel.bottom, _PANEL, radius=8, edge="#d7dce3"))
    axes.text(panel.left + 12, panel.top + 15, panel.title, fontsize=7.5, style="italic", color=_FAINT, va="center")
    axes.text(20, drawing.height - 50, drawing.note, fontsize=7.5, style="italic", color=_FAINT, va="center")


def _rounded(x0: float, y0: float, x1: float, y1: float, fill: str, radius: float, edge: str = "none") -> "Patch":
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={radius}"
    return FancyBboxPatch((x0, y0), x1 - x0, y1 - y0, boxstyle=shape, facecolor=fill, edgecolor=edge, linewidth=0.7)


def _draw_box(axes: "Axes", box: Box) -> None:
    ink = "white" if box.kind else _INK
    if box.gap:
        ink = _FAINT
    else:
        fill, edge = (_FILL[box.kind], "none") if box.kind else (_HOST, "#94a3b8")
        x, y = box.x - box.width / 2, box.y - box.height / 2
        axes.add_patch(_rounded(x, y, x + box.width, y + box.height, fill, radius=5, edge=edge)).set_zorder(3)
    axes.text(box.x, box.y, box.label, fontsize=7, color=ink, ha="center", va="center_baseline", zorder=4)


def _draw_stroke(axes: "Axes", stroke: Stroke) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    low = max(stroke.y0, stroke.y1) + stroke.bend * 4 / 3  # a cubic reaches 3/4 of the depth of its control points
    middle = [(stroke.x0, low), (stroke.x1, low)] if stroke.bend else []
    points = [(stroke.x0, stroke.y0), *middle, (stroke.x1, stroke.y1)]
    codes = [Path.MOVETO, *([Path.CURVE4] * 3 if middle else [Path.LINETO])]
    patch = FancyArrowPatch(
        path=Path(points, codes),
        arrowstyle="-|>" if stroke.arrow else "-",
        mutation_scale=8,
        color=_COLOUR[stroke.kind],
        linewidth=_POINTS[stroke.kind] * stroke.weight,
        linestyle=(0, (3, 1.6)) if stroke.kind in _DASHED else "-",
        alpha=0.85,
        zorder=2,
    )
    axes.add_patch(patch)


def _draw_label(axes: "Axes", label: Label) -> None:
    colour = _COLOUR[label.kind]
    axes.add_patch(_rounded(20, label.y - 14, 23, label.y + 14, colour, radius=1.5))
    axes.text(30, label.y - 7, label.title, fontsize=7.5, weight="bold", color=colour, va="center")
    axes.text(30, label.y + 7, label.detail, fontsize=7.5, color=_INK, va="center")


def _draw_legend(axes: "Axes", drawing: Drawing, topology: Fabric) -> None:
    """Node kinds by colour and link kinds by line, those that occur, in one row."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    boxes, lines = {box.kind for box in drawing.boxes}, {stroke.kind for stroke in drawing.strokes}
    handles: list[Patch | Line2D] = [
        Patch(color=_FILL[kind], label=_WORDS.get(kind, kind.value)) for kind in NodeKind if kind in boxes
    ]
    handles += [
        Line2D(
            [],
            [],
            color=_COLOUR[kind],
            linewidth=1.5 * _POINTS[kind],
            linestyle=(0, (3, 1.6)) if kind in _DASHED else "-",
            label=link_word(topology, kind),
        )
        for kind in LinkKind
        if kind in lines
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.012, 0.0), ncols=len(handles), fontsize=7.5,
        labelcolor=_INK, frameon=False, handlelength=1.5, columnspacing=1.3, handletextpad=0.5,
        borderaxespad=0.6,
    )  # fmt: skip
