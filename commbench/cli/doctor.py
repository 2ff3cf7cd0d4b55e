# SPDX-License-Identifier: Apache-2.0
"""``commbench doctor``: what this machine is, and what is suspicious about it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, writable
from commbench.errors import CheckFailedError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.doctor.gpus import GpuState
    from commbench.doctor.machine import HostFacts
    from commbench.doctor.suspicions import Suspicion

__all__ = ["doctor", "doctor_text"]

_WIDTH = 78


def doctor(
    write: Annotated[
        Path | None, typer.Option("--write", callback=writable, help="Write a topology of this host to this file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Say what GPUs, links, NICs, limits and settings this machine has; exit code 1 if something is suspicious."""
    from commbench.doctor.gpus import read_gpus
    from commbench.doctor.machine import read_machine
    from commbench.doctor.suspicions import suspicions

    machine, (gpus, why_not) = read_machine(), read_gpus()
    if not machine.of_kind("gpu") and not gpus:
        why_not = ""
    found = suspicions(machine, gpus)
    if json:
        typer.echo(_line(machine, gpus, why_not, found))
    else:
        put(doctor_text(machine, gpus, why_not, found))
    if write is not None:
        _write(write, machine, gpus, why_not)
    if found:
        raise CheckFailedError(f"{len(found)} suspicious; what to do stands above")


def _write(out: Path, machine: "HostFacts", gpus: "Sequence[GpuState]", why_not: str) -> None:
    from commbench.doctor.topology import topology_of
    from commbench.results.outfile import write_whole
    from commbench.topology import load_fabric

    made = topology_of(machine, gpus, out.stem, why_not)
    for text in made.odd:
        tell(f"note: {text}")
    write_whole(out, made.text)
    load_fabric(out)
    tell(f"wrote {out}; `commbench topology show {out}` has its numbers")


def _line(machine: "HostFacts", gpus: "Sequence[GpuState]", why_not: str, found: "Sequence[Suspicion]") -> str:
    from dataclasses import asdict

    own, suspicions = [asdict(gpu) for gpu in gpus], [asdict(one) for one in found]
    notes = [why_not] if why_not else []
    return json_line("doctor", machine=asdict(machine), gpus=own, notes=notes, suspicions=suspicions)


def doctor_text(machine: "HostFacts", gpus: "Sequence[GpuState]", why_not: str, found: "Sequence[Suspicion]") -> str:
    """What was seen, a line each, then what is suspicious; every line fits 80 columns."""
    rows = [*_system(machine), *_devices(machine), *_gpus(gpus), *_settings(machine)]
    if why_not:
        rows.append(("note", why_not))
    lines = [line for name, text in rows for line in _wrapped(text, f"{name:12} ")]
    lines.append(f"# {len(found)} suspicious" if found else "# nothing is suspicious")
    for one in found:
        lines += _wrapped(one.what, " - ") + _wrapped(one.do, "   ")
    return "\n".join(lines)


def _wrapped(text: str, lead: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False)


def _system(machine: "HostFacts") -> Iterator[tuple[str, str]]:
    from commbench.units import format_bytes

    nodes = f", NUMA nodes of {', '.join(map(str, machine.numa.values()))} cores" if len(machine.numa) > 1 else ""
    quota = "" if machine.quota is None else f", {machine.quota:g} cores' worth of time"
    yield "cpu", machine.cpu or "does not tell its model"
    yield "cores", f"{machine.cores} usable of {machine.online or 'an unknown number'}{quota}{nodes}"
    if machine.governors:
        yield "governor", ", ".join(machine.governors)
    yield "memory", "not told" if machine.memory_bytes is None else format_bytes(machine.memory_bytes)
    locked = "unlimited" if machine.memlock_bytes is None else format_bytes(machine.memlock_bytes)
    yield "memlock", locked
    yield "huge pages", f"{machine.hugepages or 0} free; transparent: {machine.transparent or 'not told'}"
    can = "not told" if machine.namespaces is None else f"up to {machine.namespaces} of users"
    yield "namespaces", f"{can}{f'; {machine.restricted} keeps ordinary users from it' if machine.restricted else ''}"


def _devices(machine: "HostFacts") -> Iterator[tuple[str, str]]:
    for kind, name in (("gpu", "GPU"), ("nvswitch", "NVSwitch"), ("nic", "NIC")):
        devices = machine.of_kind(kind)
        if kind == "gpu" and not devices:
            yield name, "none on the PCI bus"
        for one in devices:
            lanes = f", {one.width} lanes at {one.speed:g} GT/s" if one.width and one.speed else ""
            node = "" if one.numa is None else f", NUMA node {one.numa}"
            yield name, f"{one.address} ({one.vendor}:{one.device}){lanes}{node}"
    for each in machine.interfaces:
        rate = "speed not told" if each.speed is None else f"{each.speed / 1e9:g} Gbit/s"
        yield "interface", f"{each.name} {each.state}, {rate}, MTU {each.mtu}"
    for port in machine.ports:
        rate = "rate not told" if port.rate is None else f"{port.rate / 1e9:g} Gbit/s"
        yield "RDMA port", f"{port.device} port {port.port} {port.state}, {rate}, {port.layer}"


def _gpus(gpus: "Sequence[GpuState]") -> Iterator[tuple[str, str]]:
    from commbench.units import format_bytes

    for gpu in gpus:
        told = [gpu.name, gpu.address]
        told += [format_bytes(gpu.memory_bytes)] if gpu.memory_bytes else []
        told += [f"{gpu.clock} of {gpu.most_clock} MHz"] if gpu.clock and gpu.most_clock else []
        told += [f"ECC {'on' if gpu.ecc else 'off'}"] if gpu.ecc is not None else []
        told += [f"{gpu.links_up} of {gpu.links} NVLinks up"] if gpu.links else ["no NVLink"]
        yield f"GPU {gpu.index}", ", ".join(told)


def _settings(machine: "HostFacts") -> Iterator[tuple[str, str]]:
    yield "driver", machine.driver or "none of NVIDIA's"
    yield "NCCL", ", ".join(f"{name} {version}" for name, version in machine.nccl.items()) or "not installed for Python"
    for name, value in machine.variables.items():
        yield "variable", f"{name}={value}"
