# SPDX-License-Identifier: Apache-2.0
"""From an InfraGraph device that is a host to the host section of a topology file."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from commbench.errors import TopologyError
from commbench.topology.imports.base import latency, listed, number, socket_link
from commbench.topology.imports.infragraph_file import InfraParts
from commbench.topology.imports.infragraph_schema import InfraLink
from commbench.topology.imports.pci import PCIE_SPEEDS, pcie_GBps
from commbench.topology.search import matching_devices

__all__ = ["HostGraph"]

_STOPS = frozenset({"cpu", "xpu", "nic", "switch"})  # what wires end at; slots, ports and memory they pass
_NVLINKS = ((4, 20.0), (6, 25.0), (12, 25.0), (18, 25.0), (18, 50.0))  # links of a GPU and GB/s of one, by generation
_GENERATION = re.compile(r"(?:gen|pcie|express|nvlink)[ _-]*v?([1-6])", re.IGNORECASE)
_MAKERS = (("amd", r"\bamd\b|epyc"), ("intel", r"\bintel\b|xeon"), ("arm", r"\barm\b|grace"), ("power", r"power ?\d"))
_MOST = {"gpus": 576, "nics": 64, "pcie_switches": 576, "sockets": 64}
_FROM_FILE = "rate of the link in the InfraGraph file"


class HostGraph:
    """What is joined to what inside a device: parts of a NIC as one, wires followed to the next GPU, CPU, NIC, switch.

    Attributes:
        kinds: kind of every part by name. gpus, nics: names in order. odd: what is to be said of it.
    """

    def __init__(self, made: InfraParts) -> None:
        self._made = made
        self.kinds = {part.nic or name: "nic" if part.nic else part.kind for name, part in made.parts.items()}
        if "nic" not in self.kinds.values():  # of a device that has ports alone they are what networks are joined to
            self.kinds = {name: "nic" if kind == "port" else kind for name, kind in self.kinds.items()}
        self._next: dict[str, list[tuple[str, InfraLink]]] = {name: [] for name in self.kinds}
        for (a, b), link in made.joins.items():
            ends = self.unit(a), self.unit(b)
            if ends[0] != ends[1]:
                self._next[ends[0]].append((ends[1], link))
                self._next[ends[1]].append((ends[0], link))
        self.gpus = self._of("xpu")
        self.nics = self._of("nic")
        self.odd: list[str] = []
        self._near: dict[str, str] = {}

    def unit(self, part: str) -> str:
        """The NIC that a part belongs to, else the part."""
        return self._made.parts[part].nic or part

    def nic_at(self, part: str) -> str:
        """The NIC whose port a part is, by its name or by the one NIC that its wires lead to; "" if there is none."""
        own = self.unit(part)
        if self.kinds[own] not in _STOPS and own not in self._near:
            near = [name for name, _ in self._reach(own) if self.kinds[name] == "nic"]
            self._near[own] = near[0] if len(near) == 1 else ""
        return own if self.kinds[own] == "nic" else self._near.get(own, "")

    def section(self, nics: int) -> dict[str, Any] | str:
        """A GPU host with so many NICs, or why there is none."""
        if len(self.gpus) > _MOST["gpus"]:
            return f"{len(self.gpus)} GPUs in one host: at most {_MOST['gpus']}"
        near = {gpu: list(self._reach(gpu)) for gpu in self.gpus}
        touched = dict.fromkeys(name for ends in near.values() for name, _ in ends if self.kinds[name] == "switch")
        up = {name for name in touched if self._scales_up(name)}
        points = {gpu: next((n for n, _ in ends if n in touched and n not in up), "") for gpu, ends in near.items()}
        switches, sockets = self._places(points)
        if isinstance(switches, str):
            return switches
        above = {gpu: [(n, link) for n, link in ends if n in up] for gpu, ends in near.items()}
        peers = {gpu: [(n, link) for n, link in ends if self.kinds[n] == "xpu"] for gpu, ends in near.items()}
        wired = self._nvlink(above, "nvswitch") or self._nvlink(peers, "mesh") or {"wiring": "pcie"}
        if isinstance(wired, str):
            return wired
        down = [x for gpu, ends in near.items() for n, x in ends if n == points[gpu] or self.kinds[n] == "cpu"]
        maker = next((maker for maker, words in _MAKERS if re.search(words, self._words("cpu"), re.IGNORECASE)), "")
        device = self._device()
        host = {"wiring": wired.pop("wiring"), **({"device": device} if device else {}), "gpus": len(self.gpus)}
        host |= {"nics": nics, "pcie_switches": switches, "sockets": sockets, **wired}
        host |= {"pcie": self._pcie(down), "socket": self._socket(maker)} | ({"cpu": maker} if maker else {})
        return next(iter(_too_many(host)), host)

    def _of(self, kind: str) -> list[str]:
        return [name for name, one in self.kinds.items() if one == kind]

    def _words(self, kind: str) -> str:
        return " ".join(part.words for part in self._made.parts.values() if part.kind == kind and not part.nic)

    def _reach(self, start: str) -> Iterator[tuple[str, InfraLink]]:
        """Where the wires from a part lead, each with its first link."""
        seen, todo = {start}, deque(self._next[start])
        while todo:
            name, link = todo.popleft()
            if name in seen:
                continue
            seen.add(name)
            if self.kinds[name] in _STOPS:
                yield name, link
            else:
                todo += [(other, link) for other, _ in self._next[name]]

    def _scales_up(self, switch: str) -> bool:
        """Whether it joins all GPUs and neither CPU nor NIC, and its links are not called PCIe."""
        ends = list(self._reach(switch))
        kinds = {self.kinds[name] for name, _ in ends}
        gpus = [link for name, link in ends if self.kinds[name] == "xpu"]
        named = any(re.search("(?i)pci", link.words) for link in gpus)
        return len(gpus) == len(self.gpus) and not kinds & {"cpu", "nic"} and not named

    def _places(self, points: dict[str, str]) -> tuple[int | str, int]:
        """PCIe switches with GPUs and sockets above them, or why they do not share out as a topology file has it."""
        used = list(dict.fromkeys(points.values()))
        above = [self._cpu_above([one] if one else [gpu for gpu in points if not points[gpu]]) for one in used]
        sockets = {cpu for cpus in above for cpu in cpus}
        if not sockets:
            self.odd.append("no CPU is joined to the GPUs: one socket is assumed")
        switches, count = 0 if "" in used else len(used), max(1, len(sockets))
        gpus = len(points)
        if ("" in used and len(used) > 1) or switches % count or gpus % (switches or count):
            why = f"{gpus} GPUs on {len(used) - ('' in used)} PCIe switches and {count} sockets do not share out evenly"
            return why, count
        order = [used.index(points[gpu]) for gpu in points]
        if switches and order != [i * switches // gpus for i in range(gpus)]:
            self.odd.append("GPUs stand on the PCIe switches out of order, a topology file counts them through")
        return switches, count

    def _cpu_above(self, starts: Sequence[str]) -> set[str]:
        """The CPUs that are nearest to parts, each part's through as few switches as may be."""
        found = set[str]()
        for start in starts:
            seen, todo = {start}, [start]
            while todo:
                ends = [name for one in todo for name, _ in self._reach(one)]
                if cpus := [name for name in ends if self.kinds[name] == "cpu"]:
                    found.add(cpus[0])
                    break
                todo = [name for name in dict.fromkeys(ends) if self.kinds[name] == "switch" and name not in seen]
                seen.update(todo)
        return found

    def _nvlink(self, ends: dict[str, list[tuple[str, InfraLink]]], wiring: str) -> dict[str, Any] | str:
        """Links of the GPUs to their switches, or to each other; {} if there are none, or why none can be written."""
        counts = {len(found) for found in ends.values()}
        if counts == {0}:
            return {}
        if len(counts) > 1 or (wiring == "mesh" and counts != {len(self.gpus) - 1}):
            return "the links between the GPUs are neither those of a switch of them all nor one between every two"
        links = [link for found in ends.values() for _, link in found]
        rate, count = self._rate(links), counts.pop() if wiring == "nvswitch" else 1
        made = number(f"{rate:.9g} GB/s", "vendor", _FROM_FILE) if rate else None
        if made is None:
            told = _GENERATION.search(links[0].words)
            generation = min(int(told[1]), len(_NVLINKS)) if told else 3
            count, one = _NVLINKS[generation - 1]
            if wiring == "mesh":
                count, one = 1, count * one / (len(self.gpus) - 1)
            source = f"NVLink {generation}{', as the link is called' if told else ''}; the InfraGraph file has no rate"
            made = number(f"{one:.9g} GB/s", "assumed", source)
            self._guessed(links, f"{count} x {one:g} GB/s (NVLink {generation})")
        wait = links[0].latency or latency("0.25 us" if wiring == "nvswitch" else "0.5 us")
        return {"wiring": wiring, "nvlink": {"links": count, "bandwidth": made, "latency": wait}}

    def _pcie(self, links: Sequence[InfraLink]) -> dict[str, Any]:
        """Of the link below a GPU, else of the generation that it is called by, else of the fourth."""
        rate = self._rate(links)
        made = number(f"{rate:.9g} GB/s", "vendor", f"{_FROM_FILE}; transfers are those of 16 lanes") if rate else None
        if made is None:
            told = _GENERATION.search(links[0].words) if links else None
            generation = int(told[1]) if told else 4
            called = ", as the link is called" if told else ""
            source = f"PCIe {generation} x16{called}; the InfraGraph file has no rate"
            made = number(f"{pcie_GBps(PCIE_SPEEDS[generation - 1], 16):.4g} GB/s", "assumed", source)
            self._guessed(links, f"PCIe {generation} x16")
        return {"bandwidth": made, "latency": (links[0].latency if links else None) or latency("0.25 us")}

    def _socket(self, maker: str) -> dict[str, Any]:
        """Between two CPUs: as the file has it, else as NCCL counts it."""
        joins = self._made.joins.items()
        rate = self._rate([link for ends, link in joins if all(self.kinds.get(end) == "cpu" for end in ends)])
        told = {"bandwidth": number(f"{rate:.9g} GB/s", "vendor", _FROM_FILE)} if rate else {}
        return socket_link(maker) | told

    def _rate(self, links: Sequence[InfraLink]) -> float | None:
        """GB/s that they all have, or the slowest has; None where one is not said."""
        rates = [link.GBps for link in links]
        told = [rate for rate in rates if rate]
        if len(told) < len(rates) or not told:
            return None
        if len(set(told)) > 1:
            names = listed(sorted({link.name for link in links}))
            self.odd.append(f"links {names} differ in rate: the slowest is taken")
        return min(told)

    def _guessed(self, links: Sequence[InfraLink], what: str) -> None:
        names = listed(dict.fromkeys(link.name for link in links)) or "between GPU and CPU"
        self.odd.append(f"no rate of link {names}: {what} is assumed")

    def _device(self) -> str:
        """What the GPUs are called, if it is the beginning of the name of one device or of one kind of them."""
        words = re.findall(r"[a-z]+\d+[a-z]*\d*|[a-z]+|\d+", self._words("xpu").lower())[:40]
        for first, end in ((i, j) for i in range(len(words)) for j in (i + 3, i + 2, i + 1) if j <= len(words)):
            name = "-".join(words[first:end])
            if re.search(r"\d", words[first]) or words[first] in ("rtx",):
                try:
                    found = matching_devices(name)
                except TopologyError:
                    continue
                return name if len({re.sub(r"-\d+gb$", "", one) for one in found}) == 1 else ""
        return ""


def _too_many(host: dict[str, Any]) -> Iterator[str]:
    """Counts that no topology file may have."""
    yield from (f"{host[key]} {key} in one host: at most {end}" for key, end in _MOST.items() if host[key] > end)
    if host.get("nvlink", {}).get("links", 1) > 1024:
        yield f"{host['nvlink']['links']} links of one GPU: at most 1024"
