# SPDX-License-Identifier: Apache-2.0
"""commbench by packets against htsim: ``python -m benchmarks.against_htsim [HTSIM_ROCE] [--repeats N]``.

The ring all-reduce of 64 MiB on 128 hosts of a k = 8 fat tree, 100 Gbit/s and 1 us a link. htsim knows no collectives:
it gets the ring as a connection matrix, each chunk started by the answer to the one before. commbench simulates that
matrix (``sim flows``) and the all-reduce (``sim all-reduce``, whose ranks send one chunk after the other). Whole
processes in turns, medians; without htsim's program commbench runs alone, beside htsim's kept figure.

csg-htsim (github.com/Broadcom/csg-htsim) is built by ``make`` in its folder sim: sim/datacenter/htsim_roce.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.commands import commbench, run_checked
from benchmarks.process import Finished

__all__ = ["KEPT_US", "main", "matrix"]

RANKS, SIZE_BYTES, FABRIC = 128, 64 * 2**20, "fat-tree-k8"
KEPT_US = (12_581, 12_695)
"""What csg-htsim (RoCE) and the htsim of ATLAHS gave for this ring on another machine, their fabric not told."""
HEADER = 64
"""Bytes of a packet besides its payload: RocePacket::ACKSIZE of csg-htsim 841d9e7."""
_THEIRS = "-mtu 4096 -linkspeed 100000 -strat ecmp_host -paths 16 -q 100 -end 100000"


def matrix(ranks: int, size_bytes: int) -> str:
    """A ring all-reduce as a connection matrix: 2 (N - 1) steps of N messages of ``size_bytes / N`` bytes."""
    steps = 2 * (ranks - 1)
    lines = [f"Nodes {ranks}", f"Connections {ranks * steps}", f"Triggers {ranks * (steps - 1)}"]
    for step in range(steps):
        for rank in range(ranks):
            number = step * ranks + rank + 1
            starts = "start 0" if step == 0 else f"trigger {number - ranks - 1 + (ranks if rank == 0 else 0)}"
            done = f" send_done_trigger {number}" if step < steps - 1 else ""
            lines.append(f"{rank}->{(rank + 1) % ranks} id {number} {starts} size {size_bytes // ranks}{done}")
    lines += [f"trigger id {number} oneshot" for number in range(1, ranks * (steps - 1) + 1)]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("htsim", nargs="?", help="htsim_roce of csg-htsim [only commbench runs]")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of every program [3]")
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats}: must be at least 1")
    htsim = shutil.which(given.htsim) if given.htsim else None
    if given.htsim and htsim is None:
        parser.error(f"{given.htsim}: no such program; give the path of htsim_roce, built by make in csg-htsim's sim")
    network = f"packet:none,header={HEADER}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ring.cm"
        file.write_text(matrix(RANKS, SIZE_BYTES), encoding="utf-8")
        on = ["-t", FABRIC, "--routing", "ecmp", "--network", network, "--json"]
        programs: dict[str, tuple[list[str], Callable[[str], float]]] = {
            "sim all-reduce": (commbench("sim", "all-reduce", "-a", "ring", "-b", "64M", "-e", "64M", *on), _ours_us),
            "sim flows": (commbench("sim", "flows", str(file), *on), _ours_us),
        }
        if htsim is not None:
            there = ["env", "-C", folder, str(Path(htsim).resolve())]  # it leaves logs in the current folder
            programs["htsim_roce"] = ([*there, "-tm", str(file), "-nodes", str(RANKS), *_THEIRS.split()], _theirs_us)
        runs: dict[str, list[Finished]] = {name: [] for name in programs}
        for _ in range(given.repeats):
            for name, (command, _) in programs.items():
                runs[name].append(run_checked(command))
    seconds = {name: median(one.wall_s for one in each) for name, each in runs.items()}
    times_us = {name: median(programs[name][1](one.stdout) for one in each) for name, each in runs.items()}
    against = [times_us["htsim_roce"]] if given.htsim else list(KEPT_US)
    print(f"ring all-reduce, {RANKS} ranks, 64 MiB, {FABRIC}, {network}; medians of {given.repeats}")
    for name in programs:
        apart = ", ".join(f"{times_us[name] / one - 1:+.1%}" for one in against)
        print(f"  {name:16}{times_us[name]:12,.2f} us  {apart:>14}{seconds[name]:9.2f} s")
    if not given.htsim:
        print(f"  htsim, kept, not measured here: {KEPT_US[0]:,} to {KEPT_US[1]:,} us")
    return 0


def _ours_us(said: str) -> float:
    record = json.loads(said.splitlines()[-1])
    return float(record["time_s"]) * 1e6


def _theirs_us(said: str) -> float:
    """The end of the last flow. htsim's random numbers are of the second in which it starts."""
    ends = [float(found) for found in re.findall(r"finished at ([0-9.]+)", said)]
    if len(ends) != 2 * (RANKS - 1) * RANKS:
        sys.exit(f"htsim finished {len(ends)} of {2 * (RANKS - 1) * RANKS} flows: {said[-300:]}")
    return max(ends)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
