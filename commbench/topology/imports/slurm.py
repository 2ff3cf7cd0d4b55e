# SPDX-License-Identifier: Apache-2.0
"""Slurm's topology.conf (topology/tree): which nodes are below which switch."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported, latency, listed, most_common, number, plain_host, topology_text

__all__ = ["host_list", "import_slurm"]

_PAIR = re.compile(r"(\w+)\s*=\s*(\S+)")
_MOST = 2**17
_KEYS = ("switchname", "nodes", "switches", "linkspeed")


def host_list(text: str, place: str) -> list[str]:
    """The names of Slurm's short form: n[01-03,7] is n01, n02, n03, n7.

    Raises:
        TopologyError: brackets that do not match, a range that falls, or more names than any cluster has.
    """
    found = list[str]()
    for part in re.split(r",(?![^\[]*\])", text):
        match = re.fullmatch(r"([^\[\]]*)(?:\[([0-9,\-]+)\])?([^\[\]]*)", part)
        if match is None or not part:
            raise TopologyError(f"{place}: {part[:60]!r} is no list of names such as n[01-16]")
        for middle in _numbers(match[2], place) if match[2] else [""]:
            found.append(f"{match[1]}{middle}{match[3]}")
            if len(found) > _MOST:
                raise TopologyError(f"{place}: more than {_MOST} names")
    return found


def _numbers(text: str, place: str) -> Iterator[str]:
    for one in text.split(","):
        ends = one.split("-")
        if not all(re.fullmatch(r"\d{1,9}", end) for end in ends) or len(ends) > 2 or int(ends[-1]) < int(ends[0]):
            raise TopologyError(f"{place}: {one[:40]!r} is no range such as 01-16")
        yield from (str(n).zfill(len(ends[0])) for n in range(int(ends[0]), int(ends[-1]) + 1))


def import_slurm(text: str, name: str, place: str, bandwidth: str | None) -> Imported:
    """The tree of switches, and with ``bandwidth``, that of a NIC and of a cable, a topology of it.

    Raises:
        TopologyError: a line that is none of its kind; names it.
    """
    switches = _read(text, place)
    odd = list[str]()
    below = {name_: nodes for name_, (nodes, _) in switches.items() if nodes}
    above = {name_: subs for name_, (_, subs) in switches.items() if subs}
    homes = Counter(node for nodes in below.values() for node in nodes)
    if twice := [node for node, count in homes.items() if count > 1]:
        odd.append(f"{listed(twice)} on two switches")
    lost = sorted({sub for subs in above.values() for sub in subs if sub not in switches})
    if lost:
        odd.append(f"switches {listed(lost)} are named above others and have no line")
    parents = Counter(sub for subs in above.values() for sub in subs)
    roots = [one for one in switches if not parents[one]]
    if len(roots) > 1:
        odd.append(f"{len(roots)} switches have none above: {listed(roots)}; between them nothing is joined")
    sizes = {one: len(nodes) for one, nodes in below.items()}
    usual = most_common(list(sizes.values())) if sizes else 0
    if less := [f"{one} {count}" for one, count in sizes.items() if count != usual]:
        odd.append(f"leaves do not have {usual} nodes: {listed(less)}")
    if empty := [one for one, (nodes, subs) in switches.items() if not nodes and not subs]:
        odd.append(f"{listed(empty)} has neither nodes nor switches")
    facts = (
        ("switches", f"{len(switches)}, {len(below)} of them with nodes"),
        ("nodes", f"{len(homes)}"),
        ("top", listed(roots)),
    )
    text_, why = _text(switches, roots, name, bandwidth)
    return Imported("Slurm topology.conf", facts, tuple(odd), text_, why)


def _read(text: str, place: str) -> dict[str, tuple[list[str], list[str]]]:
    """Nodes and switches below every switch."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    whole = text.replace("\\\n", " ")
    for number_, line in enumerate(whole.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        pairs = {key.lower(): value for key, value in _PAIR.findall(line)}
        here = f"{place}, line {number_}"
        if "switchname" not in pairs or (odd := [key for key in pairs if key not in _KEYS]):
            what = f"key {odd[0]!r} is unknown" if "switchname" in pairs else "no SwitchName="
            raise TopologyError(f"{here}: {what}; lines are SwitchName=leaf1 Nodes=n[01-16] or Switches=leaf[1-4]")
        for switch in host_list(pairs["switchname"], here):
            if switch in found:
                raise TopologyError(f"{here}: switch {switch} stands twice")
            nodes, subs = (host_list(pairs[key], here) if key in pairs else [] for key in ("nodes", "switches"))
            found[switch] = (nodes, subs)
    if not any(nodes for nodes, _ in found.values()):
        raise TopologyError(f"{place}: no switch with nodes")
    return found


def _text(
    switches: Mapping[str, tuple[Sequence[str], Sequence[str]]], roots: Sequence[str], name: str, bandwidth: str | None
) -> tuple[str, str]:
    """A topology whose cables all have one rate; the file knows neither rates nor how many there are."""
    if bandwidth is None:
        return "", "the file has no rates: give --bandwidth, that of a NIC, such as '400 Gbit/s'"
    if len(roots) > 1 or any(sub not in switches for _, subs in switches.values() for sub in subs):
        return "", "its switches are no single tree"
    homes: dict[str, str] = {}
    for switch, (nodes, _) in switches.items():
        for node in nodes:
            homes.setdefault(node, switch)
    hosts = {node: h for h, node in enumerate(homes)}
    weight = _below(switches, roots[0])
    if weight is None:
        return "", "a switch is below itself"
    told = "as given with --bandwidth; between switches as many cables as nodes below, which the file does not say"
    one = {"bandwidth": number(bandwidth, "assumed", told), "latency": latency("0.5 us")}
    cables: list[dict[str, Any]] = [{"a": f"h{h}/nic0", "b": homes[node], **one} for node, h in hosts.items()]
    cables += [
        {"a": switch, "b": sub, **one, "links": min(1024, max(1, weight[sub]))}
        for switch, (_, subs) in switches.items()
        for sub in subs
    ]
    tiers = {s: "leaf" if nodes else "spine" if any(switches[sub][0] for sub in subs) else "core"
             for s, (nodes, subs) in switches.items()}  # fmt: skip
    listed_ = [{"name": switch, "tier": tier} for switch, tier in tiers.items()]
    words = f"{len(hosts)} hosts in a tree of {len(switches)} switches as Slurm has it, never oversubscribed (assumed)."
    graph = {"kind": "graph", "hosts": len(hosts), "switches": listed_, "cables": cables}
    return topology_text(name, words, plain_host(1), graph, routing="ecmp"), ""


def _below(switches: Mapping[str, tuple[Sequence[str], Sequence[str]]], root: str) -> dict[str, int] | None:
    """Nodes below every switch; None where a switch is below itself."""
    order, seen = [root], {root}
    for switch in order:
        for sub in switches[switch][1]:
            if sub in seen:
                return None
            seen.add(sub)
            order.append(sub)
    weight: dict[str, int] = {}
    for switch in reversed(order):
        nodes, subs = switches[switch]
        weight[switch] = len(nodes) + sum(weight[sub] for sub in subs)
    return weight
