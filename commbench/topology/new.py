# SPDX-License-Identifier: Apache-2.0
"""A new topology file from a few counts: commented, valid, every number in it marked as assumed."""

import math

from commbench.errors import InputError

__all__ = ["new_topology"]

_PLAIN = """host:
  wiring: plain
  nics: {nics}
  bus: {{bandwidth: 400 Gbit/s, latency: 0 us}} # between the CPU and each NIC
"""
_GPU = """host: # or the name of a topology whose host section is taken, for example `host: dgx-h100`
  wiring: nvswitch
  # device: h100-sxm5-80gb # for `sim train`; `commbench device list` shows them
  gpus: {gpus}
  nics: {nics} # NIC r is rail r
  pcie_switches: {switches}
  sockets: 1
  nvlink: {{links: 18, bandwidth: 25 GB/s, latency: 0.25 us}} # links of one GPU; rate of one, one direction
  pcie: {{bandwidth: 63 GB/s, latency: 0.25 us}} # x16 gen5
  socket: {{bandwidth: 22 GB/s, latency: 0.1 us}}
"""
_DOWN = "  downlink: {bandwidth: 400 Gbit/s, latency: 0.5 us} # between a NIC and its leaf, one direction\n"
_UP = "  uplink: {latency: 0.5 us} # bandwidth follows from the downlinks and the oversubscription\n"


def new_topology(*, hosts: int, gpus: int, rails: int, tiers: int, oversubscription: float, name: str) -> str:
    """The text of a topology file.

    Args:
        hosts: hosts in all.
        gpus: GPUs of a host on NVSwitch; 0 makes plain hosts of one CPU rank.
        rails: NICs of a host, each to a leaf of its own; 1 is a fabric without rails.
        tiers: tiers of switches, 0 (one host alone) to 3.
        oversubscription: bandwidth below / above a leaf; spines are not oversubscribed.
        name: as users call it.

    Raises:
        InputError: counts that no such fabric has; names the option, the value and what to type.
    """
    bounds = {"hosts": (hosts, 1, 2**20), "gpus": (gpus, 0, 576), "rails": (rails, 1, 64), "tiers": (tiers, 0, 3)}
    for key, (value, least, most) in bounds.items():
        if not least <= value <= most:
            raise InputError(f"--{key} {value}: must be from {least} to {most:,}")
    if not 1e-3 <= oversubscription <= 1e3:
        raise InputError(f"--oversubscription {oversubscription:g}: must be from 0.001 to 1000, for example 2:1")
    if tiers < 2 and oversubscription != 1:
        raise InputError(f"--oversubscription {oversubscription:g} with --tiers {tiers}: no uplinks; type --tiers 2")
    fabric = _fabric(hosts, rails, tiers, oversubscription)
    host = _GPU if gpus else _PLAIN
    what = f"{hosts} hosts of {gpus} GPUs" if gpus else f"{hosts} plain hosts"
    return (
        "# Written by `commbench topology new`; docs/topology-files.md explains every key.\n"
        "# Numbers that stand alone count as assumed. Give yours a source:\n"
        "#   bandwidth: {value: 400 Gbit/s, provenance: vendor, source: datasheet of the NIC}\n"
        f"name: {_quoted(name)}\n"
        f"description: {what}, {rails} NIC{'s' if rails > 1 else ''} each, {tiers} tiers of switches.\n"
        f"routing: {'rail-aware' if rails > 1 and tiers else 'd-mod-k'} # or ecmp, d-mod-k, rail-aware\n\n"
        + host.format(gpus=gpus, nics=rails, switches=math.gcd(gpus, rails))
        + f"\nfabric:\n{fabric}\ncosts:\n"
        "  message_overhead: 0 us # processor time of one message, at its sender and at its receiver\n"
        "  reduction: line-rate # or a rate such as 20 GB/s, at which a rank adds what it receives\n"
    )


def _quoted(name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise InputError(f"--name {name[:40]!r}: must be 1 to 200 printable characters, for example my-cluster")
    return "'" + name.replace("'", "''") + "'"


def _fabric(hosts: int, rails: int, tiers: int, oversubscription: float) -> str:
    ports = rails if rails > 1 else 1
    match tiers:
        case 0:
            if hosts > 1:
                raise InputError(f"--hosts {hosts} with --tiers 0: nothing joins them; type --tiers 1 or more")
            return "  kind: none\n"
        case 1:
            kind = "rail-only" if ports > 1 else "star"
            return f"  kind: {kind} # one leaf{' for each rail' if ports > 1 else ''}\n  hosts: {hosts}\n{_DOWN}"
        case 2:
            (per_leaf,) = _split(hosts, 2)
            return (
                f"  kind: {'rail-optimized' if ports > 1 else 'leaf-spine'}\n  hosts: {hosts}\n"
                f"  hosts_per_leaf: {per_leaf}\n"
                f"  spines: {_above(per_leaf, oversubscription)} # each joins every leaf\n"
                f"  oversubscription: {oversubscription:.12g} # bandwidth below / above a leaf\n{_DOWN}{_UP}"
            )
        case _:
            per_leaf, units = _split(hosts, 3)
            spines = _above(per_leaf, oversubscription)
            return (
                f"  kind: {'rail-three-tier' if ports > 1 else 'three-tier'}\n  hosts: {hosts}\n"
                f"  hosts_per_leaf: {per_leaf}\n"
                f"  leaves_per_pod: {units * ports} # {f'{units} for each of {ports} rails' if ports > 1 else 'all'}\n"
                f"  spines_per_pod: {spines} # each joins every leaf of its pod\n"
                f"  cores: {spines * units} # in all; each joins one spine of every pod\n"
                f"  oversubscription: {{leaf: {oversubscription:.12g}, spine: 1}} # bandwidth below / above a switch\n"
                f"{_DOWN}{_UP}  core_link: {{latency: 0.5 us}} # bandwidth follows as well\n"
            )


def _above(ports: int, oversubscription: float) -> int:
    """Switches above one with this many ports below, so that links up are about as fast as those down."""
    return min(max(1, round(ports / oversubscription)), 1024)


def _split(hosts: int, tiers: int) -> tuple[int, ...]:
    """Hosts of a leaf, and with three tiers leaves (of one rail) of a pod; two or more of everything."""
    left, found = hosts, []
    for above in range(tiers - 1, 0, -1):
        wanted = left ** (1 / (above + 1))
        divisors = [d for i in range(2, math.isqrt(left) + 1) if left % i == 0 for d in (i, left // i)]
        fitting = [d for d in divisors if above == 1 or _has_divisor(left // d)]
        if not fitting:
            raise InputError(
                f"--hosts {hosts} with --tiers {tiers}: do not share out evenly to 2 or more in each of {tiers} tiers; "
                f"type --hosts {-(-hosts // 2**tiers) * 2**tiers} or --tiers {tiers - 1}"
            )
        found.append(min(fitting, key=lambda d: (abs(math.log(d / wanted)), -d)))
        left //= found[-1]
    return tuple(found)


def _has_divisor(number: int) -> bool:
    return any(number % i == 0 for i in range(2, math.isqrt(number) + 1))
