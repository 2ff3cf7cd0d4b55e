# SPDX-License-Identifier: Apache-2.0
"""NCCL's topology XML (NCCL_TOPO_DUMP_FILE): one host, its PCIe tree, NVLinks and NICs."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from commbench.errors import TopologyError
from commbench.topology.hosts import CUBE_MESH
from commbench.topology.imports.base import (
    Imported,
    latency,
    listed,
    most_common,
    number,
    one_nvlink_GBps,
    socket_link,
    topology_text,
)
from commbench.topology.imports.pci import CPU_MAKERS, GPUS, PciGpu, pcie_GBps

__all__ = ["import_nccl_topology"]

_TAGS = frozenset({"system", "cpu", "pci", "gpu", "nvlink", "c2c", "nic", "net", "pcilink", "xgmi"})
_GENERATION = ((90, "32.0 GT/s"), (80, "16.0 GT/s"), (0, "8.0 GT/s"))  # likewise, of PCIe
_NUMBER = re.compile(r"\d{1,12}|0x[0-9a-fA-F]{1,12}", re.ASCII)
_SPEED = re.compile(r"(\d{1,3}(?:\.\d{1,2})?) ?GT/s")
_MOST_DEPTH, _MOST = 40, 4096
_SMS = range(30, 200)  # compute capabilities that there may be
_UNKNOWN = PciGpu("", 0)


@dataclass(slots=True)
class _Gpu:
    """A GPU while the file is read: where it hangs, and its NVLinks as (target, links, class of the target)."""

    name: str
    busid: str
    sm: int
    device: str
    vendor: str
    cpu: int
    switch: str
    pcie_GBps: float | None  # noqa: N815
    links: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """All that is in the file, and what is odd about it."""

    cpus: list[dict[str, str]] = field(default_factory=list)
    gpus: list[_Gpu] = field(default_factory=list)
    nets: list[tuple[str, float, str]] = field(default_factory=list)  # name, Gbit/s, topmost switch
    odd: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    stray: list[str] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)  # values that cannot be
    empty_links: list[str] = field(default_factory=list)
    busids: Counter[str] = field(default_factory=Counter)


def import_nccl_topology(root: Element, name: str, place: str, teller: str = "its NCCL topology") -> Imported:
    """What an XML describes, and a topology of one such host.

    Args:
        root: its element. name: of the topology. place: of the file, for errors. teller: of what it says, for people.

    Raises:
        TopologyError: nested too deep, or no GPU in it.
    """
    found = _Found()
    for element, path in _walk(root, place):
        _take(element, path, found)
    if not found.gpus:
        raise TopologyError(f"{place}: an NCCL topology without a GPU")
    if len(found.gpus) > _MOST or len(found.nets) > _MOST:
        raise TopologyError(f"{place}: more than {_MOST} GPUs or NICs in one host")
    _judge(found)
    text, why = _text(found, name, teller)
    return Imported("NCCL topology", _facts(found), tuple(found.odd), text, why)


def _walk(root: Element, place: str) -> Iterator[tuple[Element, tuple[Element, ...]]]:
    """Every element below the root with those above it, in the order of the file."""
    stack: list[tuple[Element, tuple[Element, ...]]] = [(child, (root,)) for child in reversed(root)]
    while stack:
        element, path = stack.pop()
        if len(path) > _MOST_DEPTH:
            raise TopologyError(f"{place}: elements stand inside each other more than {_MOST_DEPTH} deep")
        yield element, path
        stack += [(child, (*path, element)) for child in reversed(element)]


def _take(element: Element, path: tuple[Element, ...], found: _Found) -> None:
    """One element."""
    found.stray += [text for text in ((element.text or "").strip(), (element.tail or "").strip()) if text]
    if element.tag not in _TAGS:
        found.unknown[element.tag[:40]] += 1
        return
    _judge_numbers(element, path, found)
    if element.tag == "cpu":
        found.cpus.append(dict(element.attrib))
    if element.tag == "pci":
        found.busids[element.get("busid", "")] += 1
        if _is_device(element) and _rate(element) is None:
            found.empty_links.append(element.get("busid", "?"))
    if element.tag == "gpu":
        found.gpus.append(_gpu(element, path, len(found.cpus) - 1, found))
    if element.tag in ("nvlink", "xgmi") and found.gpus and path[-1].tag == "gpu":
        count = _whole(element.get("count"))
        found.gpus[-1].links.append((element.get("target", ""), count, element.get("tclass", "")))
    if element.tag == "net":
        speed = _whole(element.get("speed"))
        found.nets.append((element.get("name", "?")[:60], speed / 1e3, _topmost(path)))
    if element.tag == "nic" and not len(element):
        found.odd.append(f"adapter {path[-1].get('busid', '?')} has no network interface")


def _is_device(element: Element) -> bool:
    """Whether it is a GPU or a NIC, not a bridge."""
    return element.get("class", "").startswith(("0x03", "0x02"))


def _judge_numbers(element: Element, path: tuple[Element, ...], found: _Found) -> None:
    """Keep which of its numbers are none; they count as not told."""
    bus = next((one.get("busid", "?") for one in (element, *reversed(path)) if one.tag == "pci"), "?")
    for key in ("sm", "link_width", "count", "speed"):
        text = element.get(key)
        if text and not _NUMBER.fullmatch(text.strip()):
            found.junk.append(f"{key}={text[:20]!r} of <{element.tag}> at bus {bus}")


def _sm(element: Element, device: str, bus: str, found: _Found) -> int:
    """The compute capability of a GPU: of the device that it names, where the file has none or another."""
    text = element.get("sm")
    told, known = _whole(text), GPUS.get(device, _UNKNOWN)
    name, own = known.device, known.compute_capability
    if told and (told not in _SMS or (own and told != own)):
        why = f"{name} has {own}" if own else f"from {_SMS[0]} to {_SMS[-1]}"
        found.junk.append(f"sm={text!r} of <gpu> at bus {bus} ({why})")
    return own or (told if told in _SMS else 0)


def _gpu(element: Element, path: tuple[Element, ...], cpu: int, found: _Found) -> _Gpu:
    own = path[-1]
    name = f"GPU {element.get('dev', '?')}"[:20]
    rate = _rate(own)
    ids = own.get("device", ""), own.get("vendor", "")
    sm = _sm(element, ids[0], own.get("busid", "?"), found)
    return _Gpu(name, own.get("busid", ""), sm, *ids, cpu, _topmost(path[:-1]), rate)


def _topmost(path: Sequence[Element]) -> str:
    """Bus of the switch nearest to the CPU on the way to a device; "" where it hangs on the CPU."""
    return next((one.get("busid", "") for one in path if one.tag == "pci" and not _is_device(one)), "")


def _whole(text: str | None) -> int:
    """A whole number, decimal or hexadecimal; 0 for anything else."""
    text = (text or "").strip()
    return int(text, 16 if text.startswith("0x") else 10) if _NUMBER.fullmatch(text) else 0


def _rate(element: Element) -> float | None:
    """GB/s of a PCIe link, one direction; None where the file does not say."""
    match, width = _SPEED.match(element.get("link_speed", "")), _whole(element.get("link_width"))
    return pcie_GBps(float(match[1]), width) if match and 0 < width <= 32 else None


def _judge(found: _Found) -> None:
    """Say what is odd."""
    odd, gpus = found.odd, found.gpus
    names = {gpu.busid: gpu.name for gpu in gpus}
    own = [gpu.name for gpu in gpus if any(target == gpu.busid for target, _, _ in gpu.links)]
    if own:
        odd.append(f"NVLinks of {listed(own)} point at the GPU itself; left out")
    for gpu in gpus:
        gpu.links = [link for link in gpu.links if link[0] != gpu.busid]
        lost = [target for target, _, tclass in gpu.links if tclass.startswith("0x03") and target not in names]
        if lost:
            odd.append(f"NVLinks of {gpu.name} lead to {listed(lost)}, which is no GPU of the file")
    totals = {gpu.name: sum(count for _, count, _ in gpu.links) for gpu in gpus}
    if len(set(totals.values())) > 1:
        usual = most_common(list(totals.values()))
        short = [f"{name} {total}" for name, total in totals.items() if total != usual]
        odd.append(f"GPUs have {usual} NVLinks, but {listed(short)}")
    if found.junk:
        odd.append(f"values that cannot be, not used: {listed(found.junk)}")
    if found.empty_links:
        odd.append(f"empty link speed or width at {listed(found.empty_links)}; NCCL then assumes gen3 x16")
    rates = [gpu.pcie_GBps for gpu in gpus if gpu.pcie_GBps]
    slow = [gpu.name for gpu in gpus if gpu.pcie_GBps and gpu.pcie_GBps < 0.9 * max(rates)]
    if slow:
        odd.append(f"PCIe link of {listed(slow)} is slower than that of the other GPUs")
    if dead := [name for name, speed, _ in found.nets if not speed]:
        odd.append(f"no speed of {listed(dead)}")
    if twice := [busid for busid, count in found.busids.items() if count > 1]:
        odd.append(f"bus {listed(twice)} stands twice")
    if found.unknown:
        odd.append(f"unknown tags, left out: {listed(f'{tag} ({count})' for tag, count in found.unknown.items())}")
    if found.stray:
        odd.append(f"stray text between tags at {len(found.stray)} places ({listed(sorted(set(found.stray)))})"[:200])
    if not found.nets:
        odd.append("no network interface")


def _near(found: _Found) -> list[tuple[str, float, str]]:
    """The interfaces that share a switch with a GPU; where none does, all with the highest speed."""
    switches = {gpu.switch for gpu in found.gpus if gpu.switch}
    near = [net for net in found.nets if net[2] in switches and net[1]]
    fastest = max((speed for _, speed, _ in found.nets), default=0.0)
    return near or [net for net in found.nets if net[1] == fastest and fastest]


def _facts(found: _Found) -> tuple[tuple[str, str], ...]:
    gpus, near = found.gpus, _near(found)
    names = [GPUS.get(gpu.device, _UNKNOWN).device or f"PCI device {gpu.device or '?'}, sm_{gpu.sm}" for gpu in gpus]
    kinds = Counter(names)
    others = [name for name, _, _ in found.nets if name not in {net[0] for net in near}]
    shown = [("GPUs", ", ".join(f"{count} x {kind}" for kind, count in kinds.items()))]
    shown += [("NVLinks of a GPU", str(most_common([sum(n for _, n, _ in gpu.links) for gpu in gpus])))]
    shown += [("wiring", _wiring(gpus)[0] or "none that a topology file has")]
    shown += [("CPUs", f"{len(found.cpus)} NUMA nodes, {len({gpu.cpu for gpu in gpus})} of them with GPUs")]
    shown += [("NICs beside GPUs", f"{len(near)} of {most_common([net[1] for net in near]):g} Gbit/s" if near else "0")]
    return (*shown, *([("other NICs", listed(others))] if others else []))


def _wiring(gpus: Sequence[_Gpu]) -> tuple[str, int]:
    """Wiring of a host, and its links: of one GPU (nvswitch), or between two (mesh)."""
    totals = {sum(count for _, count, _ in gpu.links) for gpu in gpus}
    if totals == {0}:
        return "pcie", 0
    if all(tclass.startswith("0x0680") for gpu in gpus for _, _, tclass in gpu.links) and len(totals) == 1:
        return "nvswitch", totals.pop()
    number = {gpu.busid: i for i, gpu in enumerate(gpus)}
    ends = [(gpu.busid, target, count) for gpu in gpus for target, count, _ in gpu.links if target in number]
    pairs = {(number[busid], number[target]): count for busid, target, count in ends}
    if len(pairs) == len(gpus) * (len(gpus) - 1) and len(set(pairs.values())) == 1:
        return "mesh", next(iter(pairs.values()))
    both = CUBE_MESH | {(b, a): count for (a, b), count in CUBE_MESH.items()}
    return ("cube-mesh", 1) if pairs == both else ("", 0)


def _text(found: _Found, name: str, teller: str) -> tuple[str, str]:
    """A topology file of one such host, or why there is none."""
    gpus, near = found.gpus, _near(found)
    wiring, links = _wiring(gpus)
    if not wiring:
        return "", "the NVLinks are neither those of a switch, nor of a mesh, nor of the hybrid cube mesh"
    sockets = len({gpu.cpu for gpu in gpus})
    switches = {gpu.switch for gpu in gpus}
    count = len(switches) if "" not in switches else 0
    if count % sockets or len(gpus) % (count or sockets) or len(near) > 64:
        return "", f"{len(gpus)} GPUs on {count} switches and {sockets} NUMA nodes do not share out evenly"
    maker, known, sm = _maker(found), GPUS.get(gpus[0].device, _UNKNOWN), gpus[0].sm
    device = known.device
    if links and gpus[0].vendor == "0x1002" and not known.xgmi_GBps:
        return "", f"the rate of an xGMI link of PCI device {gpus[0].device} is not known"
    if links and not sm:
        return "", "the rate of an NVLink is not known of GPUs without a compute capability (sm)"
    host: dict[str, Any] = {"wiring": wiring, **({"device": device} if device else {}), "gpus": len(gpus)}
    host |= {"nics": len(near), "pcie_switches": count, "sockets": sockets}
    if links:
        rate = one_nvlink_GBps(sm, known.xgmi_GBps)
        one = number(f"{rate:g} GB/s", "vendor", f"one link of a GPU of compute capability {sm / 10:g}, data sheet")
        host["nvlink"] = {**({"links": links} if wiring != "cube-mesh" else {}), "bandwidth": one,
                          "latency": latency("0.25 us" if wiring == "nvswitch" else "0.5 us")}  # fmt: skip
    host["pcie"] = {"bandwidth": _pcie_rate(gpus, teller), "latency": latency("0.25 us")}
    host["socket"] = socket_link(maker, _whole(found.cpus[0].get("modelid")) if found.cpus else 0)
    host |= {"cpu": maker} if maker else {}
    speed = f", NICs of {most_common([net[1] for net in near]):g} Gbit/s" if near else ""
    words = f"A host of {len(gpus)} GPUs as {teller} has it{speed}."
    return topology_text(name, words, host, {"kind": "none"}), ""


def _maker(found: _Found) -> str:
    """Who made the CPUs; "" if the file does not say."""
    first = found.cpus[0] if found.cpus else {}
    told = first.get("arch", ""), first.get("vendor", "")
    return next((maker for maker, (arch, vendor) in CPU_MAKERS.items() if (vendor or arch) in told), "")


def _pcie_rate(gpus: Sequence[_Gpu], teller: str) -> dict[str, str]:
    """Of the PCIe link of the slowest GPU, or what its generation has."""
    told = [gpu.pcie_GBps for gpu in gpus if gpu.pcie_GBps]
    if told:
        return number(f"{min(told):.4g} GB/s", "vendor", f"link speed and width of the GPUs, as {teller} has them")
    usual = next(speed for least, speed in _GENERATION if gpus[0].sm >= least)
    source = "x16 of the GPU's generation; the file has no link speed"
    return number(f"{pcie_GBps(float(usual.split()[0]), 16):.4g} GB/s", "assumed", source)
