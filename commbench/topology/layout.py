# SPDX-License-Identifier: Apache-2.0
"""Where everything stands in a picture of a topology: plain geometry, no drawing library.

The picture is 1000 units wide, x to the right and y down. Fabric switches stand in tiers (cores on top),
hosts below them, and one host is opened up underneath. Wide fabrics are abbreviated: at most
:data:`MOST_SHOWN` places per tier, and what is left out is said in words. The same topology always gives the
same picture, but for what is in use where something was simulated on it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import TypeVar

from commbench.errors import TopologyError
from commbench.topology.fabric import Fabric
from commbench.topology.model import Link, LinkKind, Node, NodeKind
from commbench.units import format_bandwidth, format_time, seconds

__all__ = [
    "MOST_HOSTS",
    "MOST_SHOWN",
    "Box",
    "Drawing",
    "Label",
    "Panel",
    "Stroke",
    "drawable",
    "layout",
    "link_word",
    "outer_ends",
]

T = TypeVar("T")
Busy = Mapping[str, int]
Item = tuple[str, str, NodeKind | None]
"""Name, label and kind of a box."""

MOST_SHOWN = 8
_MOST_INSIDE = 12  # of a kind in the opened host
MOST_HOSTS = 4096  # a picture shows a few of them; the graph that it is read off would take long to make
_WIDTH, _LEFT, _RIGHT = 1000.0, 200.0, 980.0
_DOTS = 60.0  # a gap that is narrower has no room for words
_TOP, _TIER_STEP, _ROW_STEP, _FOOT = 84.0, 112.0, 62.0, 62.0
_MOST_CABLES, _CABLE_STEP = 4, 5.0  # parallel cables that are drawn side by side, and how far apart
_TIERS = (NodeKind.CORE, NodeKind.SPINE, NodeKind.LEAF)
_ROWS = (
    (NodeKind.NIC,),
    (NodeKind.PCIE_SWITCH,),
    (NodeKind.CPU,),
    (NodeKind.GPU,),
    (NodeKind.NVSWITCH, NodeKind.MEMORY),
)


@dataclass(frozen=True, slots=True)
class Box:
    """A node, a whole host (``kind`` None) or a gap (``gap``, "… 9 more"), by its centre and size."""

    name: str
    label: str
    kind: NodeKind | None
    x: float
    y: float
    width: float
    height: float = 26.0
    gap: bool = False

    def nearest_x(self, x: float) -> float:
        """The point of the box's width nearest to ``x``, its centre unless the box is wide."""
        reach = max(0.0, self.width / 2 - 32)
        return min(max(x, self.x - reach), self.x + reach)


@dataclass(frozen=True, slots=True)
class Stroke:
    """A link between two points. ``weight`` 1 is ordinary; ``bend`` is the depth of an arc, 0 for a line.

    ``ends`` are the names of the boxes that it joins.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    kind: LinkKind
    weight: float = 1.0
    bend: float = 0.0
    arrow: bool = False
    ends: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Label:
    """Words about the links of one make, for the left margin at height ``y``."""

    y: float
    title: str
    detail: str
    kind: LinkKind


@dataclass(frozen=True, slots=True)
class Panel:
    """A frame around the opened host."""

    title: str
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that a renderer needs; ``note`` says what was left out, or is empty."""

    title: str
    subtitle: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    strokes: tuple[Stroke, ...]
    labels: tuple[Label, ...]
    panel: Panel
    note: str


def drawable(fabric: Fabric) -> Fabric:
    """The fabric, if it is one for a picture.

    Raises:
        TopologyError: more than :data:`MOST_HOSTS` hosts.
    """
    if fabric.num_hosts > MOST_HOSTS:
        raise TopologyError(
            f"topology {fabric.name}: {fabric.num_hosts} hosts are too many to draw, at most {MOST_HOSTS}; "
            f"`commbench topology show {fabric.name}` has its counts"
        )
    return fabric


def layout(topology: Fabric, busy: Busy = MappingProxyType({})) -> Drawing:
    """The picture of ``topology``: its fabric, if it has one, and its first host opened up.

    Args:
        topology: what is drawn.
        busy: place of a switch or a host ("h3") among those that are in use, the busiest at 0; where a tier is too wide
            these are drawn first, else the ends of the tier.
    """
    tiers = [tier for kind in _TIERS if (tier := list(topology.of_kind(kind)))]
    fabric = [box for i, tier in enumerate(tiers) for box in _tier(tier, _TOP + 20 + i * _TIER_STEP, busy)]
    top = _TOP
    if tiers:
        hosts_y = _TOP + 20 + len(tiers) * _TIER_STEP - 15
        fabric += _host_boxes(topology, [box for box in fabric if _is_leaf(box)], hosts_y, busy)
        top = hosts_y + 40
    inside = _open_host(topology, top + 48)
    links = list(_drawn(topology, fabric, inside))
    deepest = max((_arc(a, b) for _, a, b in links if a.kind is NodeKind.GPU), default=0)
    bottom = 20 + max(box.y + box.height / 2 for box in inside) + deepest
    note = _note(topology, fabric, busy)
    return Drawing(
        title=topology.name,
        subtitle=topology.description,
        width=_WIDTH,
        height=bottom + (_FOOT if note else _FOOT - 16),
        boxes=(*fabric, *inside),
        strokes=tuple(_strokes(topology, links)),
        labels=tuple(_labels(topology, links)),
        panel=_panel(topology, inside, top, bottom),
        note=note,
    )


def _shown(items: Sequence[T], most: int) -> list[T | None]:
    """All items; or the first ones, None for what is left out, and the last ones, ``most`` places in all."""
    if len(items) <= most:
        return list(items)
    last = max(1, most // 3)
    return [*items[: most - 1 - last], None, *items[len(items) - last :]]


def _busiest(items: Sequence[Item], most: int, busy: Busy) -> list[Item | None]:
    """The items that are in use most, then others, in their order; None at the end if some are left out."""
    if len(items) <= most:
        return list(items)
    kept = sorted(range(len(items)), key=lambda i: (busy.get(items[i][0], len(busy)), i))[: most - 1]
    return [*(items[i] for i in sorted(kept)), None]


def _spread(count: int, left: float = _LEFT, right: float = _RIGHT) -> list[float]:
    """Centres of ``count`` equal slots."""
    return [left + (i + 0.5) * (right - left) / count for i in range(count)]


def _row_of(items: Sequence[Item], most: int, y: float, left: float, right: float, busy: Busy) -> list[Box]:
    """Boxes side by side, with one gap if there are more than ``most``; a gap of dots alone is half as wide."""
    places = _busiest(items, most, busy) if any(item[0] in busy for item in items) else _shown(items, most)
    words = (right - left) / len(places) > _DOTS
    shares = [1.0 if place or words else 0.5 for place in places]
    slot = (right - left) / sum(shares)
    missing = len(items) - sum(place is not None for place in places)
    boxes: list[Box] = []
    for place, share, end in zip(places, shares, accumulate(shares), strict=True):
        x = left + (end - share / 2) * slot
        if place:
            boxes.append(Box(*place, x, y, min(76.0, 0.9 * slot)))
        else:
            label = f"… {missing} more" if words else "…"
            boxes.append(Box(f"gap {y:.0f} {x:.0f}", label, None, x, y, 0.86 * share * slot, gap=True))
    return boxes


def _tier(nodes: Sequence[Node], y: float, busy: Busy) -> list[Box]:
    items = [(node.name, _switch_label(node), node.kind) for node in nodes]
    return _row_of(items, MOST_SHOWN, y, _LEFT, _RIGHT, busy)


def _switch_label(node: Node) -> str:
    return node.name if node.rail is None else f"{node.name} r{node.rail}"


def _is_leaf(box: Box) -> bool:
    return box.kind is NodeKind.LEAF or box.gap


def _leaves_of(topology: Fabric) -> dict[int, set[str]]:
    """Leaf names that each host is cabled to."""
    leaves: dict[int, set[str]] = {}
    for link in topology.links:
        if topology.by_name[link.dst].kind is NodeKind.LEAF and topology.by_name[link.src].kind is NodeKind.NIC:
            leaves.setdefault(topology.by_name[link.src].host or 0, set()).add(link.dst)
    return leaves


def _host_boxes(topology: Fabric, leaves: list[Box], y: float, busy: Busy) -> list[Box]:
    """Hosts under their leaf where each has one, else (rails) side by side."""
    of_host = _leaves_of(topology)
    items = {host: (f"h{host}", f"h{host}", None) for host in sorted(of_host)}
    if any(len(names) > 1 for names in of_host.values()):
        return _row_of(list(items.values()), MOST_SHOWN, y, _LEFT, _RIGHT, busy)
    row = [leaf for leaf in leaves if leaf.y == leaves[-1].y]
    half = (_RIGHT - _LEFT) / len(row) / 2
    boxes: list[Box] = []
    for leaf in row:
        own = [item for host, item in items.items() if leaf.name in of_host[host]]
        if own:
            boxes += _row_of(own, max(3, int(half // 17)), y, leaf.x - 0.94 * half, leaf.x + 0.94 * half, busy)
    return boxes


def _open_host(topology: Fabric, y: float) -> list[Box]:
    """The nodes of host 0 (rows from the NICs down), each under what it hangs on; of long rows the ends."""
    nodes = [node for node in topology.nodes if node.host == 0]
    place: dict[str, Box] = {}
    rows = [row for kinds in _ROWS if (row := [node for node in nodes if node.kind in kinds])]
    for level, row in enumerate(rows):
        shown, here = _shown(row, _MOST_INSIDE), y + level * _ROW_STEP
        for node, x in zip(shown, _spread(len(shown)), strict=True):
            if node is None:
                missing = f"\N{HORIZONTAL ELLIPSIS} {len(row) - len(shown) + 1} more"
                place[f"gap {here:.0f}"] = Box(f"gap {here:.0f}", missing, None, x, here, 62.0, gap=True)
                continue
            wide = node.kind is NodeKind.NVSWITCH
            width = _RIGHT - _LEFT - 24 if wide else 110.0 if node.kind is NodeKind.MEMORY else 62.0
            place[node.name] = Box(node.name, node.name.split("/")[1], node.kind, x, here, width)
    return list(place.values())


def _drawn(topology: Fabric, fabric: list[Box], inside: list[Box]) -> Iterator[tuple[Link, Box, Box]]:
    """Links with both ends in the picture, each full-duplex pair once; a NIC's outer end is its host."""
    outer, inner = {box.name: box for box in fabric}, {box.name: box for box in inside}
    seen: set[tuple[Box, Box]] = set()
    for link in topology.links:
        place, ends = (
            (outer, outer_ends(topology, link)) if link.kind is LinkKind.NETWORK else (inner, (link.src, link.dst))
        )
        if ends[0] in place and ends[1] in place:
            a, b = place[ends[0]], place[ends[1]]
            if (b, a) not in seen and (a, b) not in seen:
                seen.add((a, b))
                yield link, a, b


def outer_ends(topology: Fabric, link: Link) -> tuple[str, str]:
    """Names of the boxes that a link of the network joins: switches, and hosts for their NICs."""
    src, dst = (topology.by_name[name] for name in (link.src, link.dst))
    return (
        src.name if src.host is None else f"h{src.host}",
        dst.name if dst.host is None else f"h{dst.host}",
    )


def _arc(a: Box, b: Box) -> float:
    """Depth of the arc under two GPUs or switches of a tier that are joined, deeper if further apart; 0 for a line."""
    apart = abs(a.x - b.x)
    if a.kind is b.kind is NodeKind.GPU:
        return 14 + 0.11 * apart
    return 8 + 0.045 * apart if a.kind is b.kind in _TIERS else 0.0


def _strokes(topology: Fabric, links: Sequence[tuple[Link, Box, Box]]) -> Iterator[Stroke]:
    thinnest: dict[LinkKind, float] = {}
    for link, _, _ in links:
        thinnest[link.kind] = min(link.bandwidth, thinnest.get(link.kind, link.bandwidth))
    cables = Counter((link.src, link.dst) for link in topology.links)
    for link, a, b in links:
        weight = link.bandwidth / thinnest[link.kind] if a.kind is NodeKind.GPU and _arc(a, b) else 1.0
        arrow = not topology.graph.has_edge(link.dst, link.src)
        (x0, y0), (x1, y1) = _ends(a, b)
        side_by_side, arc = min(cables[link.src, link.dst], _MOST_CABLES), _arc(a, b)
        for place in range(side_by_side):
            aside = _CABLE_STEP * (place - (side_by_side - 1) / 2)
            bend = arc + _CABLE_STEP * place if arc else 0.0
            yield Stroke(x0 + aside, y0, x1 + aside, y1, link.kind, weight, bend, arrow, (a.name, b.name))


def _ends(a: Box, b: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the stroke leaves ``a`` and enters ``b``: at the facing edges, an arc from bottom to bottom."""
    if _arc(a, b):
        return (a.x, a.y + a.height / 2), (b.x, b.y + b.height / 2)
    if a.y == b.y:
        side = 1 if a.x < b.x else -1
        return (a.x + side * a.width / 2, a.y), (b.x - side * b.width / 2, b.y)
    side = 1 if a.y < b.y else -1
    return (a.nearest_x(b.x), a.y + side * a.height / 2), (b.nearest_x(a.x), b.y - side * b.height / 2)


def _labels(topology: Fabric, links: Sequence[tuple[Link, Box, Box]]) -> list[Label]:
    """One label per make of link, level with the links it speaks of, at least 34 units apart."""
    heights: dict[tuple[object, ...], list[float]] = {}
    for link, a, b in links:
        heights.setdefault(_make(topology, link), []).append((a.y + b.y) / 2 + _arc(a, b) / 2)
    examples = {_make(topology, link): link for link, _, _ in links}
    counts = _count_makes(topology)
    labels: list[Label] = []
    for make, ys in sorted(heights.items(), key=lambda item: sum(item[1]) / len(item[1])):
        y = max(sum(ys) / len(ys), labels[-1].y + 34 if labels else 0.0)
        link = examples[make]
        detail = f"{_rate(link)}, {format_time(seconds(link.latency_ps)) if link.latency_ps else 'no latency'}"
        labels.append(Label(y, f"{counts[make]} × {_between(topology, link)}", detail, link.kind))
    return labels


def _make(topology: Fabric, link: Link) -> tuple[object, ...]:
    """What links under one label share: kind, bandwidth, latency; in the network the two tiers as well."""
    ends = sorted(topology.by_name[name].kind for name in (link.src, link.dst))
    return (link.kind, link.bandwidth, link.latency_ps, *(ends if link.kind is LinkKind.NETWORK else ()))


def _count_makes(topology: Fabric) -> dict[tuple[object, ...], int]:
    """Links of each make in the whole topology; both directions of a full-duplex link count once."""
    counts: Counter[tuple[object, ...]] = Counter()
    ways = Counter((_make(topology, link), link.src, link.dst) for link in topology.links)
    for (make, src, dst), number in ways.items():
        back = ways[make, dst, src]
        if number > back or (number == back and src < dst):
            counts[make] += number
    return dict(counts)


def _between(topology: Fabric, link: Link) -> str:
    if link.kind is not LinkKind.NETWORK:
        return link_word(topology, link.kind)
    return " – ".join(topology.by_name[name].kind.value for name in (link.src, link.dst)).replace("nic", "NIC")


def _rate(link: Link) -> str:
    return (
        f"{link.bandwidth * 8 / 1e9:.4g} Gbit/s" if link.kind is LinkKind.NETWORK else format_bandwidth(link.bandwidth)
    )


def link_word(topology: Fabric, kind: LinkKind) -> str:
    """What people call links of this kind; GPUs without NVSwitch may be joined by another maker's links."""
    nvlink = "NVLink" if any(topology.of_kind(NodeKind.NVSWITCH)) else "GPU link"
    return {LinkKind.NVLINK: nvlink, LinkKind.PCIE: "PCIe"}.get(kind, f"{kind.value} link")


def _panel(topology: Fabric, inside: Sequence[Box], top: float, bottom: float) -> Panel:
    hosts, middle = topology.num_hosts, (_LEFT + _RIGHT) / 2
    title = "inside the host" if hosts == 1 else f"inside host h0, one of {hosts} equal ones"
    narrow = max(box.x for box in inside) - min(box.x for box in inside) < 100
    half = 140 if narrow else middle - _LEFT + 14
    return Panel(title, middle - half, middle + half, top, bottom)


def _note(topology: Fabric, fabric: Iterable[Box], busy: Busy) -> str:
    """How much of each tier is drawn, where something is left out."""
    drawn = [box.kind for box in fabric if not box.gap]
    counts = {kind.value + "s": (drawn.count(kind), sum(1 for _ in topology.of_kind(kind))) for kind in _TIERS}
    counts["hosts"] = (drawn.count(None), topology.num_hosts)
    parts = [f"{n} of {total} {what}" for what, (n, total) in counts.items() if 0 < n < total]
    shown = ", ".join(parts).replace("leafs", "leaves")
    which = ", those in use most first" if busy else ""
    return f"Drawn: {shown}{which}, and the links between them; all others are wired alike." if parts else ""
