# SPDX-License-Identifier: Apache-2.0
"""``commbench device``: which GPUs are known, how fast they are, and who says so."""

from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl
from commbench.cli.tables import columns, number_table, plain
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.topology.devices import Device

__all__ = ["app"]

app = typer.Typer(help="List and show devices: what computes in a host.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name that `device list` shows, its beginning, or a .yaml file.")]

_SHOWN = ("fp16", "bf16", "fp8", "fp4")


@app.command("list")
def list_all(json: Jsonl = False) -> None:
    """Every device that can be found: memory, its bandwidth, and peaks in dense TFLOP/s."""
    from commbench.topology.devices import load_device
    from commbench.topology.search import list_devices

    devices = [load_device(name) for name in list_devices()]
    if json:
        for device in devices:
            typer.echo(_line(device))
        return
    table = columns(**{"device": "left", **dict.fromkeys(("GB", "TB/s", *_SHOWN), "right")})
    for device in devices:
        peaks = [device.peak_flops.get(key) for key in _SHOWN]
        table.add_row(
            device.name,
            f"{device.memory_bytes / 1e9:.4g}",
            f"{device.memory_bytes_per_s / 1e12:.3f}",
            *("-" if peak is None else f"{peak / 1e12:.5g}" for peak in peaks),
        )
    put(plain(table))
    put(plain("fp16 ... fp4: peaks of dense products, TFLOP/s; `commbench device show NAME` says who promises them"))


@app.command("show")
def show(name: Name, json: Jsonl = False) -> None:
    """One device: every number, and where it comes from."""
    from commbench.topology.devices import load_device

    device = load_device(name)
    if json:
        typer.echo(_line(device))
        return
    for part in (f"{device.name}: {device.description}", f"  file     {device.origin}"):
        put(plain(part))
    put(f"\n{plain(number_table(device.numbers))}")


def _line(device: "Device") -> str:
    from commbench.units import GB, seconds

    others = {f"{key}_bytes": device.others[key] for key in ("memory_margin", "l2") if key in device.others}
    facts = {
        "name": device.name,
        "description": device.description,
        "origin": device.origin,
        "peak_flops": dict(device.peak_flops),
        "memory_bytes": device.memory_bytes,
        "memory_GBps": device.memory_bytes_per_s / GB,
        **others,
        **({"launch_s": seconds(device.others["launch"])} if "launch" in device.others else {}),
        "numbers": {
            path: {"value": number.text, "provenance": number.provenance.value, "source": number.source}
            for path, number in device.numbers.items()
        },
    }
    return json_line("device", **facts)
