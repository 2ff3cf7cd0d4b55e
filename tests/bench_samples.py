# SPDX-License-Identifier: Apache-2.0
"""Observations of a benchmark, for tests of what is made of them."""

from benchmarks.records import Program, Race

__all__ = ["MIB", "program", "race"]

MIB = 2**20


def program(name: str, *walls_s: float, predicted_s: float = 0.0101863296, peak_bytes: int = 40 * MIB) -> Program:
    return Program(
        name=name,
        note="so",
        walls_s=walls_s,
        cpus_s=tuple(wall / 2 for wall in walls_s),
        inside_s=tuple(wall / 4 for wall in walls_s),
        peak_bytes=peak_bytes,
        predicted_s=predicted_s,
    )


def race(ranks: int = 16, *, ours_s: float = 0.5, peer_s: float | None = 2.0, predicted_s: float = 0.01) -> Race:
    return Race(
        case="in order",
        ranks=ranks,
        transfers=2 * ranks * (ranks - 1),
        size_bytes=64 * MIB,
        ours=program("commbench", ours_s + 1, ours_s, predicted_s=predicted_s),
        peer=None if peer_s is None else program("SimGrid 1.2.3", peer_s, peer_s + 1, predicted_s=0.01),
    )
