# SPDX-License-Identifier: Apache-2.0
"""InfraGraph files: devices of components, instances of devices, and edges with slices and schemes, read and expanded.

Ends of edges are names with Python slices,
``npu[0:2]``; a device may be made of others, whose components are then named behind it: ``cx5[0].port[0]``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from commbench.errors import TopologyError, did_you_mean
from commbench.topology.explain import explained
from commbench.topology.imports.infragraph_schema import Infra, InfraDevice, InfraLink, Instance, Wrapped
from commbench.yaml_reader import Document, problems_text, read_yaml

__all__ = ["End", "File", "InfraPart", "InfraParts", "Place", "read_infragraph"]

Place = Sequence[str | int]
"""Keys from the top of a file."""
End = tuple[tuple[str, int], str]
"""An instance by name and number, and one of its parts."""
_MOST = 2**18  # components of a device, and pairs that edges join
_MOST_DEPTH = 8
_END = re.compile(r"([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?")
_SLICE = re.compile(r"(\d{0,7})(?:(:)(\d{0,7})(?::(\d{0,7}))?)?", re.ASCII)

@dataclass(frozen=True, slots=True)
class InfraPart:
    """One component: its ``kind``, what is said of it, and the NIC that it is or belongs to ("" for none)."""

    kind: str
    words: str
    nic: str = ""


@dataclass(frozen=True, slots=True)
class InfraParts:
    """A device in full: parts by name (``npu.0``, ``cx5.0.port.1``), and links by the two that they join."""

    parts: dict[str, InfraPart] = field(default_factory=dict)
    joins: dict[tuple[str, str], InfraLink] = field(default_factory=dict)


class File:
    """A file with what its devices are made of; everything that its edges name is in it, or it is refused.

    Attributes:
        infra: what it says. devices, instances: of it, by name.
        uneven: lines of edges one2one that have more ends on one side.
    """

    def __init__(self, infra: Infra, document: Document, where: str = "") -> None:
        self.infra, self._document, self._where = infra, document, where
        self.uneven: list[int] = []
        self.devices: dict[str, InfraDevice] = self._named(infra.devices, "devices")
        self.instances: dict[str, Instance] = self._named(infra.instances, "instances")
        self._made: dict[str, InfraParts] = {}
        self._left = _MOST

    def refusal(self, path: Place, rule: str) -> TopologyError:
        """An error with line and keys of what breaks the rule."""
        place = ".".join(str(step) for step in path)
        return TopologyError(problems_text(self._document.shown, [(self.line(path), f"{place}: {rule}")]))

    def line(self, path: Place) -> int:
        """Where a key stands, below ``infrastructure`` if the file has that; a file of one device begins inside it."""
        return self._document.line(path[2:] if self._where == "device" else [*filter(None, [self._where]), *path])

    def made(self, name: str, path: Place, depth: int = 0) -> InfraParts:
        """The device of that name in full; ``path`` is where it is named."""
        if name not in self.devices:
            raise self.refusal(path, f"no device {name!r}; {did_you_mean(name, self.devices)}{_known(self.devices)}")
        if depth > _MOST_DEPTH:
            raise self.refusal(path, f"devices stand inside each other more than {_MOST_DEPTH} deep, or {name!r} in itself")  # noqa: E501
        if name not in self._made:
            self._made[name] = self._make(name, depth)
        return self._made[name]

    def links(self, given: Sequence[InfraLink], path: Place) -> dict[str, InfraLink]:
        """Links by name."""
        return self._named(given, *path)

    def pairs(self, ends: Sequence[Sequence[Any]], scheme: str | None, path: Place) -> list[tuple[Any, Any]]:
        """What an edge joins; of two that are the same nothing."""
        left, right = ends
        if scheme is None and (len(left) > 1 or len(right) > 1):
            raise self.refusal([*path, "scheme"], "missing, and there are several ends: one2one, many2many or ring")
        if scheme == "ring" and list(left) != list(right):
            raise self.refusal([*path, "scheme"], "a ring is of one list of ends, so ep1 and ep2 must be the same")
        count = len(left) * len(right) if scheme == "many2many" else max(len(left), len(right))
        self.spend(count, path)
        if scheme == "many2many":
            return [(a, b) for a, b in product(left, right) if a != b]
        if scheme == "ring":
            return [(a, b) for a, b in zip(left, [*left[1:], left[0]], strict=True) if a != b]
        if len(left) != len(right):
            self.uneven.append(self.line(path))
        return [(a, b) for a, b in zip(left, right, strict=False) if a != b]

    def instances_of(self, text: str, path: Place) -> tuple[Instance, list[int]]:
        """The instance that an end names, and which of them."""
        name, indices = self._split(text, path)
        if name not in self.instances:
            raise self.refusal(path, f"no instance {name!r}; {did_you_mean(name, self.instances)}{_known(self.instances)}")  # noqa: E501
        return self.instances[name], self._indices(indices, self.instances[name].count, name, path)

    def components_of(self, device: str, text: str, path: Place) -> list[str]:
        """Names of the parts of a device that an end names."""
        steps, found, here = text.split("."), [""], self.devices[device]
        if len(steps) > 1 and steps[0] == device:  # the device's own name may stand before
            steps = steps[1:]
        for at, step in enumerate(steps):
            name, indices = self._split(step, path)
            components = {one.name: one for one in here.components}
            if name not in components:
                near = f"{did_you_mean(name, components)}{_known(components)}"
                raise self.refusal(path, f"device {here.name!r} has no component {name!r}; {near}")
            one, last = components[name], at == len(steps) - 1
            if last == (one.choice == "device"):
                told = f"{name} is a device: name its component, as {name}[0].port[0]" if last else f"{name} is none"
                raise self.refusal(path, told)
            numbers = self._indices(indices, one.count, name, path)
            if len(found) * len(numbers) > _MOST:
                raise self.refusal(path, f"more than {_MOST:,} ends")
            found = [f"{before}.{name}.{i}" for before in found for i in numbers]
            here = here if last else self.devices[name]
        return [name[1:] for name in found]

    def _named(self, given: Sequence[Any], *path: str | int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for i, one in enumerate(given):
            if one.name in found:
                raise self.refusal([*path, i, "name"], f"{one.name!r} stands twice")
            found[one.name] = one
        return found

    def _make(self, name: str, depth: int) -> InfraParts:
        device, here = self.devices[name], ("devices", list(self.devices).index(name))
        made, links = InfraParts(), self.links(device.links, (*here, "links"))
        for i, one in enumerate(self._named(device.components, *here, "components").values()):
            inner = InfraParts({"": InfraPart(one.kind, f"{one.name} {one.description or ''}")})
            if one.choice == "device":
                inner = _as_nic(self.made(one.name, [*here, "components", i, "name"], depth + 1))
            self.spend(one.count * (len(inner.parts) + len(inner.joins)), [*here, "components", i, "count"])
            for at in (f"{one.name}.{n}" for n in range(one.count)):
                for key, part in inner.parts.items():
                    own = f"{at}.{key}" if key else at
                    outer = at if part.nic == "." else f"{at}.{part.nic}"
                    nic = outer if part.nic else own if part.kind == "nic" else ""
                    made.parts[own] = InfraPart(part.kind, part.words, nic)
                made.joins.update({(f"{at}.{a}", f"{at}.{b}"): link for (a, b), link in inner.joins.items()})
        for i, edge in enumerate(device.edges):
            path = (*here, "edges", i)
            ends = [self.components_of(name, end.path, [*path, key, "component"])
                    for key, end in (("ep1", edge.ep1), ("ep2", edge.ep2))]  # fmt: skip
            if edge.link not in links:
                raise self.refusal([*path, "link"], f"no link {edge.link!r} in {name!r}; {_known(links)}")
            for a, b in self.pairs(ends, edge.scheme, path):
                made.joins[min(a, b), max(a, b)] = links[edge.link]
        return made

    def spend(self, count: int, path: Place) -> None:
        """Components and pairs are counted as they are made, in all devices together."""
        self._left -= count
        if self._left < 0:
            raise self.refusal(path, f"more than {_MOST:,} components and pairs that edges join, the most of a file")

    def _split(self, text: str, path: Place) -> tuple[str, str | None]:
        match = _END.fullmatch(text.strip())
        if match is None:
            raise self.refusal(path, f"{text[:60]!r} is no name with a slice, such as npu[0:2]")
        return match[1], match[2]

    def _indices(self, text: str | None, count: int, name: str, path: Place) -> list[int]:
        """What a slice takes of so many."""
        match = _SLICE.fullmatch(text or ":")
        if match is None:
            raise self.refusal(path, f"[{(text or '')[:40]}] is no slice such as [0:2]")
        first = int(match[1] or 0)
        last, step = (int(match[3] or count), int(match[4] or 1)) if match[2] else (first + 1, 1)
        if step < 1 or not first < last <= count:
            raise self.refusal(path, f"[{text}] must lie in 0:{count}, {name} has {count}")
        return list(range(first, last, step))


def _as_nic(made: InfraParts) -> InfraParts:
    """A device inside another: one NIC (nic ``.``) where it has ports or NICs and no GPU."""
    kinds = {part.kind for part in made.parts.values()}
    if "xpu" in kinds or not kinds & {"port", "nic"}:
        return made
    return InfraParts({name: InfraPart(part.kind, part.words, ".") for name, part in made.parts.items()}, made.joins)


def _known(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:8])
    return f"known: {shown}{' and more' if len(names) > 8 else ''}"


def read_infragraph(path: Path) -> File:
    """A file as it stands; one that is a single device has one instance of it.

    Raises:
        TopologyError: it is none, or breaks a rule; names file, line, key and rule.
    """
    document = read_yaml(path, TopologyError, example="name: my-fabric")
    data, where = document.data, "infrastructure" if "infrastructure" in document.data else ""
    outer = list[str | int]([where] if where else [])
    old = [key for key in ([*outer, "connections"], [*outer, "devices", 0, "connections"]) if _there(document, key)]
    if old:
        raise TopologyError(f"{document.shown}: line {document.line(old[0])}: connections: of InfraGraph's drafts; its "
                            "schema has edges instead, with ep1, ep2, scheme and link")  # fmt: skip
    try:
        if "components" in data:
            one = InfraDevice.model_validate(data)
            infra = Infra(devices=[one], instances=[Instance(name=one.name, device=one.name, count=1)])
            return File(infra, document, "device")
        infra = Wrapped.model_validate(data).infrastructure if where else Infra.model_validate(data)
    except ValidationError as error:
        raise TopologyError(explained(error, document, keys={})) from None
    return File(infra, document, where)


def _there(document: Document, path: Place) -> bool:
    here: Any = document.data
    for step in path:
        inside = (isinstance(here, dict) and step in here) or (isinstance(here, list) and step == 0 and here)
        if not inside:
            return False
        here = here[step]
    return True
