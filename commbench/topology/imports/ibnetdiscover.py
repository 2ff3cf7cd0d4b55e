# SPDX-License-Identifier: Apache-2.0
"""``ibnetdiscover``: the switches, adapters and cables of an InfiniBand fabric."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported, latency, listed, most_common, number, plain_host, topology_text

__all__ = ["import_ibnetdiscover"]

_NODE = re.compile(r'^(Switch|Ca|Rt)\s+(\d{1,4})\s+"([SHR]-[0-9a-fA-F]{1,16})"\s*(?:#\s*"([^"]*)")?')
_PORT = re.compile(r'^\[(\d{1,4})\](?:\[\w*\])?(?:\([0-9a-fA-F]+\))?\s+"([SHR]-[0-9a-fA-F]{1,16})"\[(\d{1,4})\](.*)$')
_RATE = re.compile(r"\b(\d{1,2})x(SDR|DDR|QDR|FDR10|FDR|EDR|HDR|NDR|XDR)\b")
_LANE = {"SDR": 2, "DDR": 4, "QDR": 8, "FDR10": 10, "FDR": 13.64, "EDR": 25, "HDR": 50, "NDR": 100, "XDR": 200}
"""Gbit/s of data on one lane."""
_NO_HOST = re.compile(r"(?i)\bMellanox Technologies\b|ConnectX|^\s*$")
_MANAGER = re.compile(r"(?i)UFM")  # hosts that manage the fabric, and take no part in it
_VAGUE = ("localhost", "ubuntu", "node", "localhost.localdomain")  # names that images come with
_MOST = 2**20


@dataclass(slots=True)
class _Fabric:
    """Nodes by GUID with their description, and cables as sorted pairs of (GUID, port) -> Gbit/s."""

    switches: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)
    cables: dict[tuple[tuple[str, int], tuple[str, int]], float] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def import_ibnetdiscover(text: str, name: str, place: str) -> Imported:
    """The fabric, and a topology of it: hosts of one CPU rank on its switches and cables.

    Raises:
        TopologyError: a line that is none of its kind inside a block, or no switch and adapter; names the line.
    """
    fabric = _read(text, place)
    aggregation = [guid for guid, told in fabric.adapters.items() if "Aggregation Node" in told]
    for guid in aggregation:
        del fabric.adapters[guid]
    if not fabric.adapters or not fabric.switches:
        raise TopologyError(f"{place}: {len(fabric.switches)} switches and {len(fabric.adapters)} adapters: no fabric")
    hosts, nameless = _hosts(fabric)
    managers = [host for host in hosts if _MANAGER.search(host)]
    vague = {host: len(nics) for host, nics in hosts.items() if host in _VAGUE}
    if vague:
        fabric.odd.append(f"{sum(vague.values())} adapters call their host {listed(vague)}, as any may; left out")
    hosts = {host: nics for host, nics in hosts.items() if host not in managers and host not in vague}
    _judge(fabric, hosts, nameless)
    tiers = _tiers(fabric)
    rates = Counter(f"{rate:g} Gbit/s" for rate in fabric.cables.values())
    facts = [
        ("switches", f"{len(fabric.switches)}: {_counted(Counter(tiers.values()))}"),
        ("adapters", f"{len(fabric.adapters)}, and {len(aggregation)} aggregation nodes (SHARP)"),
        ("hosts", f"{len(hosts)}, {_counted(Counter(f'{len(nics)} NICs' for nics in hosts.values()))}"),
        *([("managers", listed(managers))] if managers else []),
        ("cables", f"{len(fabric.cables)}: {_counted(rates)}"),
    ]
    text, why = _text(fabric, hosts, tiers, name)
    return Imported("ibnetdiscover", tuple(facts), tuple(fabric.odd), text, why)


def _read(text: str, place: str) -> _Fabric:
    fabric, here, one_sided = _Fabric(), "", Counter[tuple[tuple[str, int], tuple[str, int]]]()
    for number_, line in enumerate(text.splitlines(), 1):
        if match := _NODE.match(line):
            here, told = match[3], (match[4] or "").strip()
            if match[1] == "Switch":
                fabric.switches[here] = told
            elif match[1] == "Ca":
                fabric.adapters[here] = told
        elif match := _PORT.match(line):
            if not here:
                raise TopologyError(f"{place}, line {number_}: a port before the first Switch or Ca")
            ends = sorted([(here, int(match[1])), (match[2], int(match[3]))])
            rate = _RATE.search(match[4])
            pair = (ends[0], ends[1])
            one_sided[pair] += 1
            fabric.cables.setdefault(pair, int(rate[1]) * _LANE[rate[2]] if rate else 0.0)
        elif line.startswith("["):
            raise TopologyError(f"{place}, line {number_}: a port line that is cut or damaged: {line[:60]!r}")
        if len(fabric.cables) > _MOST:
            raise TopologyError(f"{place}: more than {_MOST} cables")
    alone = [pair for pair, count in one_sided.items() if count != 2]
    if alone:
        fabric.odd.append(f"{len(alone)} cables are listed from one end alone: the file was cut, or a node is missing")
    known = fabric.switches.keys() | fabric.adapters.keys()
    lost = {guid for pair in fabric.cables for guid, _ in pair if guid not in known}
    if lost:
        fabric.odd.append(f"cables lead to {len(lost)} nodes that have no block: {listed(sorted(lost))}")
    if dark := [pair for pair, rate in fabric.cables.items() if not rate]:
        fabric.odd.append(f"{len(dark)} cables have no rate")
    return fabric


def _hosts(fabric: _Fabric) -> tuple[dict[str, list[str]], list[str]]:
    """Adapters by host name, the last word of their description being the adapter's; and those without a name."""
    hosts: dict[str, list[str]] = defaultdict(list)
    nameless = []
    for guid, told in fabric.adapters.items():
        words = told.split()
        if _NO_HOST.search(told) or len(words) < 2:
            nameless.append(guid)
        else:
            hosts[" ".join(words[:-1])].append(guid)
    return dict(hosts), nameless


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))


def _peers(fabric: _Fabric) -> dict[str, list[str]]:
    """Of every node the nodes at the other ends of its cables, once for each cable."""
    peers: dict[str, list[str]] = defaultdict(list)
    for (a, _), (b, _) in fabric.cables:
        peers[a].append(b)
        peers[b].append(a)
    return peers


def _judge(fabric: _Fabric, hosts: Mapping[str, Sequence[str]], nameless: Sequence[str]) -> None:
    """Say what is odd: adapters without host, hosts short of a rail, leaves with fewer uplinks, links twice."""
    peers, odd = _peers(fabric), fabric.odd
    told = Counter(fabric.adapters[guid] or "no description" for guid in nameless)
    if told:
        names = listed(f"{count} x {' '.join(what.split())}" for what, count in told.items())
        odd.append(f"{len(nameless)} adapters without a host name: {names}")
    usual = most_common([len(nics) for nics in hosts.values()]) if hosts else 0
    counts = {host: len(nics) for host, nics in hosts.items()}
    few = [f"{host} {count}" for host, count in counts.items() if count < usual]
    more = [f"{host} {count}" for host, count in counts.items() if count > usual]
    if few:
        odd.append(f"{len(few)} hosts have fewer NICs than the usual {usual}, so are short of a rail: {listed(few)}")
    if more:
        odd.append(f"{len(more)} hosts have more NICs than the usual {usual}: {listed(more)}")
    double = [host for host, nics in hosts.items() if any(len(set(peers[guid])) > 1 for guid in nics)]
    if double:
        odd.append(f"an adapter of {listed(double)} is on two switches")
    if usual == 1 and (two := [h for h, nics in hosts.items() if len({p for guid in nics for p in peers[guid]}) > 1]):
        odd.append(f"{listed(two)} on two switches")
    leaves = [guid for guid in fabric.switches if any(peer in fabric.adapters for peer in peers[guid])]
    below = set(leaves)
    ups = {guid: sum(peer in fabric.switches and peer not in below for peer in peers[guid]) for guid in leaves}
    downs = {guid: sum(peer in fabric.adapters for peer in peers[guid]) for guid in leaves}
    if ups:
        most = max(ups.values())
        less = {guid: count for guid, count in ups.items() if count < most}
        if less:
            lean = listed(f"{_switch(fabric, guid)} {ups[guid]} up, {downs[guid]} down" for guid in less)
            ends = f"{min(ups.values())} to {most}"
            odd.append(f"leaves have {ends} uplinks, {len(less)} of {len(ups)} fewer than {most}: {lean}")
    alone = [_switch(fabric, guid) for guid in fabric.switches if not peers[guid]]
    if alone:
        odd.append(f"{listed(alone)} joined to nothing")
    rates = [rate for rate in fabric.cables.values() if rate]
    slow = sum(rate < median(rates) for rate in rates)
    if slow:
        odd.append(f"{slow} cables are slower than the usual {median(rates):g} Gbit/s")


def _switch(fabric: _Fabric, guid: str) -> str:
    """A switch as people call it: of "MF0;leaf-1:MQM9700/U1" the part between."""
    told = fabric.switches[guid].split(";")[-1].split(":")[0].strip()
    return told or guid


def _tiers(fabric: _Fabric) -> dict[str, str]:
    """leaf: has adapters; spine: one hop above; core: farther."""
    peers = _peers(fabric)
    tier = {guid: "leaf" for guid in fabric.switches if any(peer in fabric.adapters for peer in peers[guid])}
    for word in ("spine", "core"):
        above = {p for guid in list(tier) for p in peers[guid] if p in fabric.switches and p not in tier}
        tier |= dict.fromkeys(sorted(above), word)
    return tier | {guid: "core" for guid in fabric.switches if guid not in tier}


def _text(
    fabric: _Fabric, hosts: Mapping[str, Sequence[str]], tiers: Mapping[str, str], name: str
) -> tuple[str, str]:
    """The topology file: hosts with as many NICs as each has, on a graph of their switches."""
    if not hosts:
        return "", "no adapter has the name of a host"
    if any(not rate for rate in fabric.cables.values()):
        return "", "some cables have no rate"
    groups = sorted(hosts.items(), key=lambda item: (-len(item[1]), item[0]))
    nic = {guid: f"h{h}/nic{i}" for h, (_, nics) in enumerate(groups) for i, guid in enumerate(sorted(nics))}
    label = _labels(fabric)
    place = label | nic
    cables = Counter[tuple[str, str, float]]()
    for ((a, _), (b, _)), rate in fabric.cables.items():
        if a in place and b in place:
            cables[(place[a], place[b], rate)] += 1
    ends = set(nic.values())
    if ends - {end for a, b, _ in cables for end in (a, b)} or any(a in ends and b in ends for a, b, _ in cables):
        return "", "an adapter has no cable to a switch"
    source = "rate of the cable as ibnetdiscover has it, data bits"
    listed_cables = [
        {"a": a, "b": b, "bandwidth": number(f"{rate:g} Gbit/s", "measured", source), "latency": latency("0.25 us")}
        | ({"links": count} if count > 1 else {})
        for (a, b, rate), count in sorted(cables.items())
    ]
    switches = [{"name": label[guid], "tier": tiers[guid]} for guid in fabric.switches]
    graph = {"kind": "graph", "hosts": len(groups), "switches": switches, "cables": listed_cables}
    counts = Counter(len(nics) for _, nics in groups)
    made = [{"hosts": count, "host": plain_host(nics)} for nics, count in sorted(counts.items(), reverse=True)]
    host = made[0]["host"] if len(made) == 1 else {"wiring": "mixed", "groups": made}
    words = f"{len(groups)} hosts on {len(switches)} switches as ibnetdiscover found them; inside, hosts are assumed."
    assert isinstance(host, dict)
    return topology_text(name, words, host, graph, routing="ecmp", network="ib"), ""


def _labels(fabric: _Fabric) -> dict[str, str]:
    """A name for every switch that no other has."""
    counts = Counter(_switch(fabric, guid) for guid in fabric.switches)
    return {
        guid: (told if counts[told] == 1 else f"{told} {guid[2:]}")[:200]
        for guid in fabric.switches
        for told in (_switch(fabric, guid),)
    }
