# SPDX-License-Identifier: Apache-2.0
"""InfraGraph YAML: hosts of GPUs, CPUs and NICs, switches, and the edges between them, as a topology of ours.

Devices with a GPU or a component of kind nic are hosts, all others switches. Hosts that edges join without a switch,
edges that end at GPUs, and wiring inside a host that no topology file has are said and not written.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from commbench.topology.imports.base import (
    Imported,
    latency,
    listed,
    most_common,
    number,
    plain_host,
    topology_text,
    valid_name,
)
from commbench.topology.imports.infragraph_fabric import InfraCable, Node, fabric_section
from commbench.topology.imports.infragraph_file import End, File, Place, read_infragraph
from commbench.topology.imports.infragraph_host import HostGraph
from commbench.topology.imports.infragraph_schema import InfraLink

__all__ = ["import_infragraph"]

_MOST_OF_HOST = 2**14


class _Net:
    """What the edges of a file join.

    Attributes:
        graphs: of devices that are hosts, by name.
        hosts: host -> its NICs that something is connected to, in the order of its device.
        switches: that something is connected to. cables: as they stand. odd: sentences. looped: joined to themselves.
        why: the first reason for which there is no topology; "" where there is none.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.graphs: dict[str, HostGraph] = {}
        for i, one in enumerate(file.infra.instances):
            made = file.made(one.device, ["instances", i, "device"])
            file.spend(one.count, ["instances", i, "count"])
            if one.device not in self.graphs and {"xpu", "nic"} & {part.kind for part in made.parts.values()}:
                if len(made.parts) + len(made.joins) > _MOST_OF_HOST:
                    rule = f"{one.device!r} has more than {_MOST_OF_HOST:,} components and links, the most of a host"
                    raise file.refusal(["instances", i, "device"], rule)
                self.graphs[one.device] = HostGraph(made)
        self.odd, self.looped, self.why = list[str](), list[str](), ""
        self.cables: list[InfraCable] = []
        nodes = [(one.name, n) for one in file.infra.instances for n in range(one.count)]
        self._nodes = {node: file.instances[node[0]].device in self.graphs for node in nodes}
        self._read()
        self._sort()
        if self.looped:
            self.odd.append(f"edges join {listed(dict.fromkeys(self.looped))} to itself, left out")
        if file.uneven:
            lines = listed(file.uneven)
            self.odd.append(f"edges one2one with more ends on one side, the first of which are joined: lines {lines}")

    def device(self, node: Node) -> str:
        """What an instance is of."""
        return self.file.instances[node[0]].device

    def _read(self) -> None:
        """Edges as cables, every pair of ports once."""
        file = self.file
        links = file.links(file.infra.links, ["links"])
        joined: dict[tuple[End, End], InfraLink] = {}
        for i, edge in enumerate(file.infra.edges):
            path: Place = ("edges", i)
            if edge.link not in links:
                raise file.refusal([*path, "link"], f"no link {edge.link!r} among the links of the file: "
                                   f"{listed(links) or 'it has none'}")  # fmt: skip
            ends = list[list[End]]()
            for key, end in (("ep1", edge.ep1), ("ep2", edge.ep2)):
                instance, numbers = file.instances_of(end.instance, [*path, key, "instance"])
                parts = file.components_of(instance.device, end.component, [*path, key, "component"])
                file.spend(len(numbers) * len(parts), path)
                ends.append([((instance.name, n), part) for n in numbers for part in parts])
            joined.update({(min(pair), max(pair)): links[edge.link] for pair in file.pairs(ends, edge.scheme, path)})
        ports = Counter(end for pair in joined for end in pair)
        if twice := [f"{_shown(node)} {part}" for (node, part), count in ports.items() if count > 1]:
            self.odd.append(f"more than one cable at {listed(twice)}")
        for both, link in joined.items():
            self._cable(both, link)

    def _cable(self, ends: tuple[End, End], link: InfraLink) -> None:
        if ends[0][0] == ends[1][0]:
            self.looped.append(_shown(ends[0][0]))
            return
        places = []
        for node, part in ends:
            nic = self.graphs[self.device(node)].nic_at(part) if self._nodes[node] else ""
            if self._nodes[node] and not nic:
                self.why = self.why or f"an edge ends at {part} of host {_shown(node)}, which is neither NIC nor port"
            places.append((node, nic))
        if all(self._nodes[node] for node, _ in ends):
            names = " and ".join(_shown(node) for node, _ in ends)
            self.why = self.why or f"hosts {names} are joined without a switch"
        self.cables.append(InfraCable(places[0], places[1], link))

    def _sort(self) -> None:
        """Which hosts and switches are in use, and what is odd of them."""
        used = {end for cable in self.cables for end in (cable.a, cable.b)}
        nodes = {node for node, _ in used}
        alone = not self.cables  # no network is told of, so none of their NICs is missing from it
        lost = [_shown(node) for node, host in self._nodes.items() if node not in nodes and not (alone and host)]
        if lost:
            self.odd.append(f"nothing is connected to {listed(lost)}, left out")
        hosts = [node for node, host in self._nodes.items() if host and (node in nodes or alone)]
        self.hosts = {
            node: [nic for nic in self.graphs[self.device(node)].nics if alone or (node, nic) in used] for node in hosts
        }
        self.switches = [node for node, host in self._nodes.items() if not host and node in nodes]
        connected: dict[str, dict[str, int]] = {}
        for node, nics in self.hosts.items():
            connected.setdefault(self.device(node), {})[_shown(node)] = len(nics)
        for device, counts in connected.items():
            usual, all_of_it = most_common(list(counts.values())), len(self.graphs[device].nics)
            if usual < all_of_it:
                self.odd.append(f"{device} has {all_of_it} NICs, of which {usual} are connected")
            if few := [f"{host} {count}" for host, count in counts.items() if count < usual]:
                self.odd.append(f"{len(few)} hosts have fewer NICs connected than the usual {usual}, so are short of a "
                                f"NIC: {listed(few)}")  # fmt: skip
        instances = {one.device for one in self.file.infra.instances}
        inside = {part.name for one in self.file.infra.devices for part in one.components if part.choice == "device"}
        if idle := [name for name in self.file.devices if name not in instances | inside]:
            self.odd.append(f"no instance of device {listed(idle)}")


def import_infragraph(path: Path, name: str | None, bandwidth: str | None) -> Imported:
    """A file of InfraGraph, and a topology of it.

    Args:
        path: of the file. name: of the topology, else as the file calls itself. bandwidth: of links without a rate.

    Raises:
        TopologyError: the file breaks a rule of its kind; names line, key and rule.
    """
    file = read_infragraph(path)
    net = _Net(file)
    dark = sorted({cable.link.name for cable in net.cables if not cable.link.GBps})
    if dark:
        told = f": {bandwidth} as given" if bandwidth else ""
        net.odd.append(f"no rate of link {listed(dark)} between instances{told}")
        net.why = net.why or ("" if bandwidth else f"link {listed(dark)} has no rate: give --bandwidth, or the file "
                              "physical.bandwidth")  # fmt: skip
    text, why = _text(net, name or valid_name(file.infra.name or path.stem), bandwidth)
    odd = [*net.odd, *(f"{device}: {one}" for device, graph in net.graphs.items() for one in graph.odd)]
    return Imported("InfraGraph", _facts(net), tuple(dict.fromkeys(odd)), text, why)


def _facts(net: _Net) -> tuple[tuple[str, str], ...]:
    instances = [f"{one.name} {one.count} x {one.device}" for one in net.file.infra.instances]
    made = Counter(
        f"{len(net.graphs[net.device(node)].gpus)} GPUs and {len(nics)} NICs" for node, nics in net.hosts.items()
    )
    rates = Counter(
        f"{cable.link.name} ({f'{cable.link.GBps * 8:g} Gbit/s' if cable.link.GBps else 'no rate'})"
        for cable in net.cables
    )
    return (
        ("instances", listed(instances) or "none"),
        ("hosts", ", ".join(f"{count} of {what}" for what, count in made.items()) or "none"),
        ("switches", str(len(net.switches))),
        ("cables", f"{len(net.cables)}{': ' if rates else ''}{listed(f'{n} x {what}' for what, n in rates.items())}"),
    )


def _text(net: _Net, name: str, bandwidth: str | None) -> tuple[str, str]:
    """The topology file, or why there is none."""
    if not net.hosts:
        return "", "no instance of a device with GPUs or NICs is a host"
    if net.why:
        return "", net.why
    groups = dict[tuple[str, int], list[Node]]()
    for node, nics in net.hosts.items():
        groups.setdefault((net.device(node), len(nics)), []).append(node)
    sections = []
    for (device, count), members in groups.items():
        graph = net.graphs[device]
        made = graph.section(count) if graph.gpus else plain_host(count)
        if isinstance(made, str):
            return "", f"{device}: {made}"
        if not graph.gpus and not 1 <= count <= 64:
            return "", f"{device}: {count} NICs, not 1 to 64"
        sections.append({"hosts": len(members), "host": made})
    if len(sections) > 64:
        return "", f"{len(sections)} makes of hosts, at most 64"
    order = [node for members in groups.values() for node in members]
    wires = {cable.link.name: _wire(cable.link, bandwidth) for cable in net.cables}
    places = {(node, nic): (h, i) for h, node in enumerate(order) for i, nic in enumerate(net.hosts[node])}
    fabric = fabric_section(net.cables, places, net.switches, wires) if net.cables else {"kind": "none"}
    if isinstance(fabric, str):
        return "", fabric
    if len(order) > 1 and fabric["kind"] == "none":
        return "", "no edge joins the hosts"
    host = sections[0]["host"] if len(sections) == 1 else {"wiring": "mixed", "groups": sections}
    kinds = f"{len(order)} hosts" + (f" on {len(net.switches)} switches" if net.switches else "")
    assert isinstance(host, dict)
    routing = "d-mod-k" if fabric["kind"] != "graph" else "ecmp"
    return topology_text(name, f"{kinds} as InfraGraph has them.", host, fabric, routing=routing), ""


def _wire(link: InfraLink, bandwidth: str | None) -> dict[str, Any]:
    """Bandwidth and latency of a link between instances."""
    rate = link.GBps
    told = number(f"{rate * 8:.9g} Gbit/s", "vendor", "rate of the link in the InfraGraph file") if rate else None
    given = told or number(bandwidth or "", "assumed", "as given with --bandwidth; the InfraGraph file has no rate")
    wait = number(link.latency, "vendor", "latency of the link in the InfraGraph file") if link.latency else None
    return {"bandwidth": given, "latency": wait or latency("0.5 us")}


def _shown(node: Node) -> str:
    return f"{node[0]}[{node[1]}]"
