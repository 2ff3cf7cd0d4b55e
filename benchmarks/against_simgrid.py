# SPDX-License-Identifier: Apache-2.0
"""commbench against SimGrid: the same ring all-reduce on the same fat tree, whole processes, in turns."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import commbench, run_checked
from benchmarks.process import Finished
from benchmarks.records import Program, Race, Skipped
from commbench.cluster import place
from commbench.errors import InputError, RunError
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.topology.model import NodeKind
from commbench.units import PS_PER_S

__all__ = ["CASES", "QUICK_CASES", "Case", "SimGrid", "races", "simgrid"]

SIZE_BYTES = 64 * 2**20
STYLES = ("actors", "callbacks")
SOURCE = Path(__file__).parent / "simgrid" / "ring.cpp"
HEADER = "simgrid/s4u.hpp"


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work: ranks on ``fat-tree-<ranks>``; ``jitter`` as a fraction of each transfer's bytes."""

    ranks: int
    placement: str = "linear"
    jitter: float = 0.0
    seed: int = 1

    @property
    def plain(self) -> bool:
        """Ranks in order, all transfers equal."""
        return self.placement == "linear" and not self.jitter

    @property
    def name(self) -> str:
        """What is special about it, in words."""
        if self.plain:
            return "in order"
        return f"{self.placement} placement, {self.jitter:.0%} jitter".replace("%", " %")


CASES = (*(Case(n) for n in (16, 128, 256, 512, 1024)), *(Case(n, "random", 0.1) for n in (512, 1024)))
QUICK_CASES = (Case(16), Case(128), Case(128, "random", 0.1))


@dataclass(frozen=True, slots=True)
class SimGrid:
    """The compiled program: where it lies, SimGrid's version, and the compiler's."""

    path: Path
    version: str
    compiler: str


def simgrid(folder: Path) -> SimGrid | Skipped:
    """Compile the SimGrid side into ``folder``; or why that cannot be.

    Raises:
        RunError: compiler and headers are there and the program does not compile or start.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        return Skipped(what="SimGrid", why="no C++ compiler: g++ is not on PATH")
    probe = folder / "probe.cpp"
    probe.write_text(f"#include <{HEADER}>\nint main() {{}}\n", encoding="utf-8")
    tried = run_checked([compiler, "-std=c++17", "-fsyntax-only", str(probe)], allowed=(0, 1))
    if tried.status:
        return Skipped(what="SimGrid", why=f"g++ does not find {HEADER}: on Debian it is in libsimgrid-dev")
    program = folder / "ring"
    flags = ["-O2", "-std=c++17", "-ffp-contract=off"]
    run_checked([compiler, *flags, str(SOURCE), "-o", str(program), "-lsimgrid"])
    small = run_checked([str(program), "4", "64", "2", STYLES[0]])
    version = run_checked([compiler, "-dumpfullversion"]).stdout.strip()
    return SimGrid(program, json.loads(small.stdout)["version"], f"g++ {version} {' '.join(flags)}")


def races(
    cases: Sequence[Case], peer: SimGrid | None, repeats: int, tell: Callable[[str], None]
) -> Iterator[Race | Skipped]:
    """One race per case: commbench, SimGrid, commbench, SimGrid ...; what commbench refuses is skipped.

    SimGrid runs in both styles in the first round, and then in the one that was faster.
    """
    for case in cases:
        tell(f"{case.ranks} ranks, {case.name}")
        try:
            yield _race(case, peer, repeats)
        except InputError as error:
            yield Skipped(what=f"{case.ranks} ranks, {case.name}", why=str(error))


def _race(case: Case, peer: SimGrid | None, repeats: int) -> Race:
    topology = load_fabric(f"fat-tree-{case.ranks}")
    ours: list[Finished] = []
    theirs: dict[str, list[Finished]] = {style: [] for style in STYLES}
    with tempfile.TemporaryDirectory() as folder:
        peers = (
            {} if peer is None else {style: _simgrid_command(peer, style, case, topology, folder) for style in STYLES}
        )
        for number in range(repeats):
            ours.append(run_checked(_our_command(case)))
            for style in peers if number == 0 else _fastest(theirs, peers):
                theirs[style].append(run_checked(peers[style]))
    record = _said(ours[0])
    engine = f"{record['engine']} engine, detail {record['detail']}"
    rival = None
    if peer is not None:
        (style,) = _fastest(theirs, peers)
        predicted_s = _said(theirs[style][0])["time_ps"] / PS_PER_S
        rival = _program(f"SimGrid {peer.version}", style, theirs[style], predicted_s, "run_s")
    return Race(
        case=case.name,
        ranks=case.ranks,
        transfers=record["transfers"],
        size_bytes=record["size_bytes"],
        ours=_program("commbench", engine, ours, record["time_s"], "wall_s"),
        peer=rival,
    )


def _said(done: Finished) -> dict[str, Any]:
    """The last line that a program wrote: its JSON object."""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _fastest(runs: Mapping[str, Sequence[Finished]], among: Mapping[str, Any]) -> list[str]:
    """The style with the best wall so far, as a list of one; empty without styles."""
    return sorted(among, key=lambda style: min(r.wall_s for r in runs[style]))[:1]


def _program(name: str, note: str, runs: Sequence[Finished], predicted_s: float, inside: str) -> Program:
    """``inside`` is the key under which the program tells its own seconds."""
    return Program(
        name=name,
        note=note,
        walls_s=tuple(r.wall_s for r in runs),
        cpus_s=tuple(r.cpu_s for r in runs),
        peak_bytes=max(r.peak_bytes for r in runs),
        inside_s=tuple(_said(r)[inside] for r in runs),
        predicted_s=predicted_s,
    )


def _our_command(case: Case) -> list[str]:
    what = ["all-reduce", "--topology", f"fat-tree-{case.ranks}", "--algorithm", "ring", "-b", "64M", "-e", "64M"]
    options = {"--placement": case.placement, "--jitter": str(case.jitter), "--seed": str(case.seed)}
    special = [] if case.plain else [word for pair in options.items() for word in pair]
    return commbench("sim", *what, "--detail", "transfer", *special, "--json")


def _simgrid_command(peer: SimGrid, style: str, case: Case, topology: Fabric, folder: str) -> list[str]:
    """The same work for SimGrid; a placement goes through a file of host numbers.

    Raises:
        RunError: the topology is not the fat tree that the program builds.
    """
    leaves, spines = (len(list(topology.of_kind(kind))) for kind in (NodeKind.LEAF, NodeKind.SPINE))
    if leaves * spines != topology.num_hosts or topology.num_hosts != case.ranks:
        raise RunError(
            f"topology {topology.name}: {topology.num_hosts} hosts, {leaves} leaves, {spines} spines: the SimGrid "
            f"program builds {case.ranks} hosts with as many spines as hosts on a leaf"
        )
    command = [str(peer.path), str(case.ranks), str(SIZE_BYTES), str(spines), style]
    if case.placement != "linear":
        file = Path(folder) / "placement"
        file.write_text(
            " ".join(map(str, place(topology, case.ranks, case.placement, case.seed).tolist())), encoding="utf-8"
        )
        command += ["--placement", str(file)]
    if case.jitter:
        command += ["--jitter", str(case.jitter), "--seed", str(case.seed)]
    return command
