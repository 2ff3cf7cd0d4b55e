# SPDX-License-Identifier: Apache-2.0
"""What every key of a topology file means, with an example: for errors, for editors (JSON Schema) and for the docs."""

from typing import Any, NamedTuple

__all__ = ["KEYS", "Key", "json_schema"]


class Key(NamedTuple):
    """An example as it stands in a file, and what it means."""

    example: str
    meaning: str


_LINK = "{bandwidth: 100 Gbit/s, latency: 1 us}"
_LINKS = "{links: 2, bandwidth: 100 Gbit/s, latency: 1 us}"
KEYS = {
    "name": Key("name: my-cluster", "what users call it"),
    "description": Key("description: 16 hosts on one switch", "one line for people"),
    "routing": Key("routing: d-mod-k", "how flows are spread over equal ways, unless the user asks for another"),
    "host": Key("host: dgx-h100", "a section, or the name or path of a topology whose host section is taken"),
    "fabric": Key("fabric: {kind: none}", "how the hosts are joined"),
    "costs": Key("costs: {message_overhead: 0 us, reduction: line-rate}", "what a rank itself costs"),
    "wiring": Key("wiring: plain", "which make of host"),
    "kind": Key("kind: leaf-spine", "which make of fabric"),
    "device": Key("device: h100-sxm5-80gb", "what computes, of `commbench device list`; may be left out"),
    "cpu": Key("cpu: intel", "maker of the CPUs: intel, amd, arm or power; may be left out"),
    "network": Key("network: roce", "ib, roce, efa, efa2, tcpx, tcpxo, slingshot or socket; may be left out"),
    "gpus": Key("gpus: 8", "GPUs of a host, each a rank"),
    "ranks": Key("ranks: 4", "CPU ranks of the host"),
    "cores": Key("cores: 8", "host: processors that its ranks share; fabric: core switches in all"),
    "nics": Key("nics: 8", "NICs of a host; NIC r is rail r"),
    "pcie_switches": Key("pcie_switches: 4", "PCIe switches of a host; 0 puts devices on the sockets"),
    "sockets": Key("sockets: 2", "CPU sockets of a host"),
    "trays": Key("trays: 18", "hosts of a rack that share one NVLink domain"),
    "groups": Key("groups: 4", "fabric: groups of switches in all; host: makes of hosts, each with their number"),
    "links": Key("links: 18", "equal links side by side"),
    "bus": Key(f"bus: {_LINK}", "between the CPU and each NIC"),
    "pcie": Key(f"pcie: {_LINK}", "each PCIe link: device to switch, switch to socket"),
    "socket": Key(f"socket: {_LINK}", "between two sockets"),
    "nvlink": Key("nvlink: {links: 18, bandwidth: 25 GB/s, latency: 0.25 us}", "direct links of the accelerators"),
    "rank_link": Key(f"rank_link: {_LINK}", "what one rank alone moves into or out of memory"),
    "memory": Key(f"memory: {_LINK}", "what all ranks together move through memory"),
    "hosts": Key("hosts: 16", "hosts in all"),
    "hosts_per_leaf": Key("hosts_per_leaf: 4", "hosts on one leaf; with rails, on each leaf of a unit"),
    "spines": Key("spines: 4", "spine switches in all; each joins every leaf"),
    "leaves_per_pod": Key("leaves_per_pod: 4", "leaves of one pod; with rails, those of all rails"),
    "spines_per_pod": Key("spines_per_pod: 4", "spines of one pod; each joins every leaf of its pod"),
    "planes": Key("planes: 2", "equal networks, each NIC with a link into all; counts of switches are one plane's"),
    "shape": Key("shape: [4, 4, 4]", "switches in each direction of a torus"),
    "leaves_per_group": Key("leaves_per_group: 4", "leaves of one group"),
    "spines_per_group": Key("spines_per_group: 4", "spines of one group; each joins every leaf of its group"),
    "switches": Key("switches: [{name: left, tier: leaf}]", "switches of a graph of your own"),
    "tier": Key("tier: leaf", "what a switch is called in sums and pictures: leaf, spine or core"),
    "cables": Key("cables: [{a: h0/nic0, b: left, bandwidth: 100 Gbit/s, latency: 1 us}]", "cables of such a graph"),
    "a": Key("a: h0/nic0", "one end of a cable: a switch, or a NIC by host and number"),
    "b": Key("b: left", "its other end"),
    "node_link": Key("node_link: my.json", "node-link file of networkx instead of switches and cables"),
    "k": Key("k: 4", "ports of every switch: k pods, k^3/4 hosts"),
    "oversubscription": Key("oversubscription: 1", "bandwidth below / above a switch; 2 or 2:1"),
    "leaf": Key("leaf: 1", "oversubscription of the leaves"),
    "spine": Key("spine: 1", "oversubscription of the spines"),
    "downlink": Key(f"downlink: {_LINK}", "between a NIC and its leaf"),
    "uplink": Key("uplink: {latency: 1 us}", "between leaf and spine; its bandwidth follows from those below"),
    "core_link": Key("core_link: {latency: 1 us}", "between spine and core; its bandwidth follows from those below"),
    "grid_link": Key(f"grid_link: {_LINKS}", "between neighbours in a torus"),
    "group_link": Key(f"group_link: {_LINK}", "between leaf and spine of a group"),
    "global_link": Key(f"global_link: {_LINKS}", "between any two groups"),
    "bandwidth": Key("bandwidth: 100 Gbit/s", "line rate of one link, one direction"),
    "latency": Key("latency: 1 us", "of one link"),
    "efficiency": Key("efficiency: 0.74", "share of the line rate that flows get; 1 if left out"),
    "message_overhead": Key("message_overhead: 0 us", "processor time of a message, at sender and receiver each"),
    "reduction": Key("reduction: line-rate", "rate at which a rank adds what it receives, or line-rate"),
    "value": Key("value: 100 Gbit/s", "the number, with its unit"),
    "provenance": Key("provenance: vendor", "where the number comes from"),
    "source": Key("source: datasheet of the NIC", "which document, measurement or reasoning"),
    "flops": Key("flops: {bf16: 312 TFLOP/s}", "peaks of dense products, by number format"),
    "memory_capacity": Key("memory_capacity: 80 GB", "memory of the device"),
    "memory_bandwidth": Key("memory_bandwidth: 3.35 TB/s", "bandwidth of the device's memory"),
    "memory_margin": Key("memory_margin: 2 GiB", "memory that a step cannot have: context, buffers, fragments"),
    "l2": Key("l2: 50 MB", "last cache that all of the device shares"),
    "launch": Key("launch: 2.4 us", "what the host spends on starting one kernel"),
    "faults": Key("faults: []", "what goes wrong, in any order"),
    "at": Key("at: 2 s", "when it begins"),
    "src": Key("src: leaf0", "where it starts: a node, or a rank of a background flow"),
    "dst": Key("dst: spine0", "where it ends"),
    "direction": Key("direction: both", "of the link that fails"),
    "factor": Key("factor: 0.1", "share of its own that is left; 0 is down, 1 mends"),
    "rank": Key("rank: 3", "rank of the topology"),
    "size": Key("size: 8M", "bytes of a background flow"),
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a topology file, for editors: what :mod:`commbench.topology.schema` accepts, key by key.

    Rules between keys (hosts that fill whole leaves) are not in it.
    """
    from commbench.topology.schema import TopologyFile

    made = TopologyFile.model_json_schema()
    for section in (made, *made["$defs"].values()):
        for one in (section, *section.get("anyOf", ())):
            for key, about in one.get("properties", {}).items():
                about.pop("title", None)
                if key in KEYS:  # a kind that was added elsewhere has keys of its own
                    about["description"] = KEYS[key].meaning
    reduction = made["$defs"]["Costs"]["properties"]["reduction"]
    reduction["anyOf"] = [{"const": "line-rate"} if one == {"type": "null"} else one for one in reduction["anyOf"]]
    for section in (made, made["$defs"]["HostGroup"]):
        host = section["properties"]["host"]
        name = {"type": "string", "minLength": 1}
        section["properties"]["host"] = {"description": host.pop("description"), "anyOf": [name, host]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
