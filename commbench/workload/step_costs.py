# SPDX-License-Identifier: Apache-2.0
"""What a training step costs beside its FLOP and bytes: constants of GPU types, software stacks and kinds of links.

They stand in ``tables/steps.yaml``, each with value, provenance and source, or in a file of the user's of the same form
that names only what differs (``commbench calibrate --steps`` writes one). Nothing in them is of a cluster or a run.

Rules. A pass of a layer takes the longer of its device time and the host's time to launch it. Products with weights
reach the efficiency that was measured for their shape times the device's ``products`` (``step_efficiency``). A
collective in which a rank moves V bytes over links of rate R takes latency x log2 of its ranks + (V + half) / (share x
R); by NCCL's model ``nccl_wait`` x log2 more, at ``nccl_share`` of its rate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from commbench.errors import InputError, unknown
from commbench.units import PS_PER_S, parse_duration_ps, parse_size
from commbench.yaml_reader import read_yaml

__all__ = [
    "ALONE",
    "ATTENTION",
    "Constant",
    "DeviceCosts",
    "LinkCosts",
    "StackCosts",
    "StepCosts",
    "field_of_key",
    "nvlink_kind",
    "read_constant",
    "read_step_costs",
]

TABLES = Path(__file__).with_name("tables")
ATTENTION = ("unfused", "flash-1", "flash-2", "flash-3")
ALONE = "a number alone"  # the source of a constant whose file gives none
PROVENANCE = ("measured", "fitted", "vendor", "assumed")
Quantities = Mapping[str, "Constant"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A number in SI units, as its file writes it, and where it comes from."""

    value: float
    text: str
    provenance: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCosts:
    """What kernels reach on one type of GPU, as shares from 0 to 1 unless said otherwise.

    Attributes:
        products, products_fp8: of the measured efficiency of the shape, in 16 and in 8 bits, or of the peak where none
            were measured. rowwise: how many times as long products take that scale every row.
        memory: of memory bandwidth.
        batched: of peak, in the products of unfused attention.
        odd_heads: how many times as long these take where the head size is no multiple of 8.
        flash_1, flash_1_backward, flash_2 ...: of peak, in attention as one kernel, by its generation.
    """

    UNITS: ClassVar[Mapping[str, str]] = {}
    products: float
    products_fp8: float
    rowwise: float
    memory: float
    batched: float
    odd_heads: float
    flash_1: float
    flash_1_backward: float
    flash_2: float
    flash_2_backward: float
    flash_3: float
    flash_3_backward: float


_NVLINK_4 = 400e9  # bytes/s of a GPU: NVLink 4 has 450 (H100), NVLink 3 300 (A100), those cut for export 200


def nvlink_kind(rate: float) -> str:
    """Whose constants links of this rate have, in bytes/s of a GPU: "nvlink" up to Ampere, "nvlink4" from Hopper on."""
    return "nvlink4" if rate >= _NVLINK_4 else "nvlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackCosts:
    """What the software adds.

    Attributes:
        host_pass_s: host's time to launch one pass of one layer. host_call_s: of a collective in it, for each rank
            beyond the first that has to meet.
        host_step_s: once a step: data, loss, optimizer's launches.
        memory_passes: how many times the bytes of unweighted operators are moved; 1: as operators count them.
        accumulation_bytes: moved per parameter and microbatch to add its gradients up.
        hidden_data, hidden_sharded: share of the communication of gradients, and of ZeRO 3, that runs beside compute
            and yet comes on top.
        hidden_tensor: the same of tensor collectives beside products.
        zero_rank_s: of ZeRO 1 and 2, per data rank and step.
        sharded_share: what ZeRO 3's collectives reach of what others do.
    """

    UNITS: ClassVar[Mapping[str, str]] = {
        "host_pass_s": "s", "host_call_s": "s", "host_step_s": "s", "zero_rank_s": "s",
    }  # fmt: skip
    host_pass_s: float
    host_call_s: float
    host_step_s: float
    memory_passes: float
    accumulation_bytes: float
    hidden_data: float
    hidden_sharded: float
    hidden_tensor: float
    zero_rank_s: float
    sharded_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCosts:
    """What collectives reach on one kind of links.

    Attributes:
        share: of the line rate. half_bytes: moved by a rank at half of that. latency_s: per doubling of the ranks.
        far_nics: at most this share, where GPUs share NICs and a group's are not beside one (``shared_nics``).
        transfer: share of the line rate that transfers between pipeline stages reach.
        nccl_share: in a step of what NCCL's model has alone. nccl_wait_s: longer in a step, per doubling of the ranks.
    """

    UNITS: ClassVar[Mapping[str, str]] = {"half_bytes": "bytes", "latency_s": "s", "nccl_wait_s": "s"}
    share: float
    half_bytes: float
    latency_s: float
    far_nics: float
    transfer: float
    nccl_share: float
    nccl_wait_s: float

    def seconds(self, moved_bytes: float, rate: float, doublings: float) -> float:
        """Of a collective in which a rank moves so many bytes over links of this rate."""
        return self.latency_s * doublings + (moved_bytes + self.half_bytes) / (self.share * rate)


Kind = type[DeviceCosts] | type[StackCosts] | type[LinkCosts]
KINDS: Mapping[str, Kind] = {"devices": DeviceCosts, "stacks": StackCosts, "links": LinkCosts}


@dataclass(frozen=True)
class StepCosts:
    """All constants, by kind (``devices``, ``stacks``, ``links``), name and key.

    Attributes:
        constants: every number with its origin. file: what was read, as errors give it.
    """

    constants: Mapping[str, Mapping[str, Quantities]]
    file: str = field(default="", compare=False)

    def device(self, name: str) -> DeviceCosts | None:
        """Of a GPU; None where nothing is known of its type."""
        own = self.device_key(name)
        return None if own is None else DeviceCosts(**self._values("devices", own))

    def device_key(self, name: str) -> str | None:
        """The type that a device belongs to: the longest key that its name begins with."""
        fitting = [key for key in self.constants["devices"] if name.startswith(key)]
        return max(fitting, key=len, default=None)

    def stack(self, name: str) -> StackCosts:
        """Of a software stack.

        Raises:
            InputError: it is unknown; lists the known ones.
        """
        if name not in self.constants["stacks"]:
            raise InputError(f"--stack {name!r} {unknown(name, self.constants['stacks'])}")
        return StackCosts(**self._values("stacks", name))

    def links(self, name: str) -> LinkCosts:
        """Of a kind of links.

        Raises:
            InputError: it is unknown; lists the known ones.
        """
        if name not in self.constants["links"]:
            raise InputError(f"kind of links {name!r} {unknown(name, self.constants['links'])}")
        return LinkCosts(**self._values("links", name))

    def with_values(self, values: Mapping[tuple[str, str, str], float]) -> "StepCosts":
        """The same with other numbers at (kind, name, key)."""
        constants = {kind: {name: dict(one) for name, one in named.items()} for kind, named in self.constants.items()}
        for (kind, name, key), value in values.items():
            constants[kind][name][key] = replace(constants[kind][name][key], value=value)
        return StepCosts(constants, self.file)

    def words(self, kind: str, name: str, which: Sequence[str] = ()) -> str:
        """The constants of one name for people: ``key value (provenance)``; ``which``: of these keys alone."""
        parts = [
            f"{_short(key).replace('_', ' ')} {one.text} ({one.provenance})"
            for key, one in self._of(kind, name).items()
            if one.value and (not which or key in which)
        ]
        return ", ".join(parts)

    def device_words(self, device: str, generation: str, which: Sequence[str]) -> str:
        """What a step takes of a device's constants, for people; ``which``: of matrix, attention and memory."""
        own = self.device_key(device)
        assert own is not None
        cores = ("batched",) if generation == "unfused" else tuple(
            f"{generation.replace('-', '_')}{end}" for end in ("", "_backward")
        )
        keys = {"matrix": ("products",), "attention": cores, "memory": ("memory",)}
        constants = self._of("devices", own)
        parts = [
            f"{key.replace('_', ' ')} {constants[key].text} ({constants[key].provenance})"
            for name in which
            for key in keys[name]
        ]
        return ", ".join(parts)

    def _of(self, kind: str, name: str) -> Quantities:
        return self.constants[kind][name]

    def _values(self, kind: str, name: str) -> dict[str, float]:
        return {key: one.value for key, one in self._of(kind, name).items()}


@cache
def read_step_costs(path: Path | None = None) -> StepCosts:
    """The shipped constants, with those of a file instead of theirs.

    Raises:
        InputError: the file cannot be read, or has a key or number that does not serve; names file, line, key and rule.
    """
    shipped = _read(TABLES / "steps.yaml", None)
    return shipped if path is None else _read(path, shipped)


def _read(path: Path, under: StepCosts | None) -> StepCosts:
    document = read_yaml(path, InputError, example="stacks: {megatron: {host_pass: 1 ms}}")
    found: dict[str, dict[str, dict[str, Constant]]] = {kind: {} for kind in KINDS}
    if under is not None:
        found = {kind: {name: dict(one) for name, one in named.items()} for kind, named in under.constants.items()}
    for kind, names in document.data.items():
        if kind not in KINDS or not isinstance(names, dict):
            raise InputError(f"{document.shown}, line {document.line([kind])}: {kind} {unknown(kind, KINDS)}")
        for name, given in names.items():
            place = f"{document.shown}, line {document.line([kind, name])}: {kind}.{name}"
            known = [_short(f.name) for f in fields(KINDS[kind])]
            if not isinstance(given, dict):
                raise InputError(f"{place} must be a mapping with keys of {', '.join(known)}")
            own = dict(found[kind].get(name, {}))
            for key, value in given.items():
                if key not in known:
                    raise InputError(f"{place}.{key} {unknown(key, known)}")
                full = next(f.name for f in fields(KINDS[kind]) if _short(f.name) == key)
                own[full] = read_constant(value, KINDS[kind].UNITS.get(full, ""), f"{place}.{key}")
            missing = [f.name for f in fields(KINDS[kind]) if f.name not in own and f.default is MISSING]
            if missing:
                raise InputError(f"{place} has no {', '.join(map(_short, missing))}")
            found[kind][name] = own
    return StepCosts(found, document.shown)


def _short(name: str) -> str:
    """The key of a field in files: without its unit, which the value has."""
    for unit in ("_s", "_bytes"):
        if name.endswith(unit) and name != "accumulation_bytes":
            return name.removesuffix(unit)
    return name


@dataclass(frozen=True, slots=True)
class Written:
    """How files write a constant: its key there, and its unit ("s", "bytes" or "")."""

    short: str
    unit: str


def field_of_key(kind: str, name: str) -> Written:
    """How files write the constant of that name (an attribute of the kind's class)."""
    return Written(_short(name), KINDS[kind].UNITS.get(name, ""))


def read_constant(given: Any, unit: str, place: str) -> Constant:
    """A number in its long form, or alone, which counts as assumed; unit: "s", "bytes" or "".

    Raises:
        InputError: it is neither; names the place.
    """
    long = given if isinstance(given, dict) else {"value": given, "provenance": "assumed", "source": ALONE}
    if set(long) != {"value", "provenance", "source"} or long["provenance"] not in PROVENANCE:
        raise InputError(f"{place}: give value, provenance ({', '.join(PROVENANCE)}) and source, or a value alone")
    value, source = long["value"], str(long["source"])
    try:
        number = float(_PARSERS[unit](value))
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{place} = {value!r}: {error}") from None
    if not 0 <= number < 1e12:
        raise InputError(f"{place} = {value!r}: must be 0 or more")
    return Constant(number, str(value), long["provenance"], source)


def _seconds(text: object) -> float:
    return parse_duration_ps(text) / PS_PER_S


_PARSERS: Mapping[str, Callable[[Any], float]] = {"s": _seconds, "bytes": parse_size, "": float}
