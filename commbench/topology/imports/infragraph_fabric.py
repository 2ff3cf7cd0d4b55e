# SPDX-License-Identifier: Apache-2.0
"""From cables between NICs and switches to the fabric section of a topology file: a kind of Clos where it is one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from commbench.topology.imports.infragraph_schema import InfraLink
from commbench.units import parse_bandwidth

__all__ = ["InfraCable", "Node", "fabric_section"]

Node = tuple[str, int]
"""An instance by its name and number."""
Down = Mapping[tuple[int, int], Sequence[tuple[Node, str]]]
"""Of every NIC, by numbers of host and NIC, the switches that it is joined to, with the name of the link."""
Up = Mapping[tuple[Node, Node, str], int]
"""Of every two switches and name of a link how many join them."""
_MOST_KEYS = 18_000  # of the 20,000 keys and values that a topology file may have
_KEYS_LONG, _KEYS_SHORT = 22, 11  # of a cable, with and without the origin of its numbers


class InfraCable(NamedTuple):
    """A link between two ends, each a node and its NIC ("" at switches)."""

    a: tuple[Node, str]
    b: tuple[Node, str]
    link: InfraLink


def fabric_section(
    cables: Sequence[InfraCable],
    nics: Mapping[tuple[Node, str], tuple[int, int]],
    switches: Sequence[Node],
    wires: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any] | str:
    """The section, or why there is none.

    Args:
        cables: of a NIC and a switch, or of two switches.
        nics: number of the host and of the NIC in it, for every NIC with a cable.
        switches: in order. wires: bandwidth and latency by name of a link.
    """
    down = dict[tuple[int, int], list[tuple[Node, str]]]()
    up = Counter[tuple[Node, Node, str]]()
    for a, b, link in cables:
        ends = (b, a) if b in nics else (a, b)
        if ends[0] in nics:
            down.setdefault(nics[ends[0]], []).append((ends[1][0], link.name))
        else:
            up[min(a[0], b[0]), max(a[0], b[0]), link.name] += 1
    if not _connected(down, up):
        return "the edges do not join all hosts"
    return _clos(down, up, wires) or _graph(down, up, switches, wires)


def _connected(down: Down, up: Up) -> bool:
    """Whether all hosts are reached from the first, through others and their NICs too."""
    near: dict[int | Node, list[int | Node]] = {}
    pairs: list[tuple[int | Node, int | Node]] = [(host, at) for (host, _), ends in down.items() for at, _ in ends]
    for a, b in pairs + [(a, b) for a, b, _ in up]:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    seen, todo = set[int | Node]([0]), list[int | Node]([0])
    while todo:
        new = {other for one in todo for other in near[one]} - seen
        seen |= new
        todo = list(new)
    return all(host in seen for host, _ in down)


def _clos(down: Down, up: Up, wires: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """A star, leaves and spines, or rails of them, where hosts stand on the leaves in order; else None."""
    kinds = {link for ends in down.values() for _, link in ends}
    nics, hosts = max(i for _, i in down) + 1, max(h for h, _ in down) + 1
    if len(kinds) > 1 or any(len(ends) > 1 for ends in down.values()) or len(down) != hosts * nics:
        return None
    downlink = wires[kinds.pop()]
    home = {place: ends[0][0] for place, ends in down.items()}
    leaves = list(dict.fromkeys(home[place] for place in sorted(home)))
    if not up:
        return {"kind": "star", "hosts": hosts, "downlink": downlink} if len(leaves) == 1 else None
    spines = {end for a, b, _ in up for end in (a, b)} - set(leaves)
    pairs = {frozenset((a, b)) for a, b, _ in up}
    whole = {frozenset((leaf, spine)) for leaf in leaves for spine in spines}
    uplinks, counts = {link for _, _, link in up}, set(up.values())
    if pairs != whole or len(uplinks) > 1 or len(counts) > 1 or len(up) != len(pairs):
        return None
    cables, uplink = counts.pop(), wires[uplinks.pop()]
    for kind, rails in (("leaf-spine", 1), ("rail-optimized", nics)):
        each, rest = divmod(hosts * rails, len(leaves))
        if rest or not each or (rails > 1 and len(leaves) % rails) or (kind == "rail-optimized" and nics == 1):
            continue
        if all(home[h, i] == leaves[h // each * rails + i % rails] for h, i in home):
            below = each * (nics // rails) * parse_bandwidth(downlink["bandwidth"]["value"])
            ratio = below / (len(spines) * cables * parse_bandwidth(uplink["bandwidth"]["value"]))
            if not 1e-3 <= ratio <= 1e3 or cables > 1024:
                return None
            shape = {"hosts": hosts, "hosts_per_leaf": each, "spines": len(spines)}
            links = {"links": cables} if cables > 1 else {}
            above = {"latency": uplink["latency"], **links}
            return {"kind": kind, **shape, "oversubscription": ratio, "downlink": downlink, "uplink": above}
    return None


def _graph(
    down: Down, up: Up, switches: Sequence[Node], wires: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | str:
    """Every switch and cable, the origin of whose numbers is left out where there are many."""
    label = {switch: f"{switch[0]}.{switch[1]}" for switch in switches}
    bundles = Counter((f"h{h}/nic{i}", label[at], link) for (h, i), ends in down.items() for at, link in ends)
    bundles.update({(label[a], label[b], link): count for (a, b, link), count in up.items()})
    if max(bundles.values()) > 1024:
        return "more than 1024 cables between two switches"
    room = _MOST_KEYS - 5 * len(switches)
    if len(bundles) * _KEYS_SHORT > room:
        most = max(0, room) // _KEYS_SHORT
        return f"{len(bundles)} cables that are no regular Clos: a topology file has room for {most}"
    long = len(bundles) * _KEYS_LONG <= room
    told = {name: wire if long else {key: one["value"] for key, one in wire.items()} for name, wire in wires.items()}
    leaves = {at for ends in down.values() for at, _ in ends}
    spines = {end for a, b, _ in up for end in (a, b) if leaves & {a, b}} - leaves
    tiers = {switch: "leaf" if switch in leaves else "spine" if switch in spines else "core" for switch in switches}
    return {
        "kind": "graph",
        "hosts": max(h for h, _ in down) + 1,
        "switches": [{"name": label[switch], "tier": tier} for switch, tier in tiers.items()],
        "cables": [
            {"a": a, "b": b, **told[link], **({"links": count} if count > 1 else {})}
            for (a, b, link), count in bundles.items()
        ],
    }
