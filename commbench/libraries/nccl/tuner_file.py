# SPDX-License-Identifier: Apache-2.0
"""The rules that NCCL's example tuner plugin reads (nccl_tuner.conf): at every size what the model says is fastest.

Format: that of the file which NCCL's example plugin brings along, as :mod:`commbench.topology.imports.tuner` reads it:
collective, least and most bytes, algorithm, protocol, channels, nodes, ranks; -1 leaves a choice to NCCL. The first
rule that fits is taken; a size that no rule has is NCCL's own.
"""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from commbench.errors import InputError

__all__ = ["COLLECTIVES", "tuner_rules"]

COLLECTIVES = {
    "all-reduce": "allreduce", "all-gather": "allgather", "reduce-scatter": "reducescatter", "broadcast": "broadcast",
    "reduce": "reduce",
}  # fmt: skip
_WORTH = 0.05  # of the time: less than the model's own error is no reason for a rule
_ALGORITHMS = {"Ring": "ring", "Tree": "tree", "NVLS": "nvls", "NVLSTree": "nvls_tree", "PAT": "pat"}

Candidates = Sequence[tuple[str, float, float]]
"""Of one size: "algorithm protocol", the library's own estimate and the model's time in seconds; its choice first."""


def tuner_rules(kind: str, swept: Sequence[tuple[int, Candidates]], *, nodes: int, ranks: int) -> list[str]:
    """Lines of a tuner file, neighbouring sizes with one answer joined, each up to the next; they say
    what they gain at most.

    Args:
        kind: of collective. swept: sizes in bytes, ascending, with what was weighed. nodes, ranks: of the job.

    Raises:
        InputError: a collective that tuner files do not have.
    """
    if kind not in COLLECTIVES:
        raise InputError(f"a tuner file has no {kind}; it has {', '.join(COLLECTIVES)}")
    lines = [
        f"# {kind} on {nodes} nodes, {ranks} ranks: simulated, not measured; hold it against nccl-tests before use",
        "# collective_type,min_bytes,max_bytes,algorithm,protocol,channels,nNodes,nRanks",
    ]
    answers = [(size, _fastest(found), found) for size, found in swept]
    groups = [list(part) for _, part in groupby((one for one in answers if one[1]), key=lambda one: one[1])]
    for number, part in enumerate(groups):
        algorithm, protocol = part[0][1].split(" ")
        last = groups[number + 1][0][0] - 1 if number + 1 < len(groups) else part[-1][0]
        gain = max(1 - _time(found, name) / found[0][2] for _, name, found in part)
        lines.append(f"# {f'up to {gain:.0%} less time than' if gain > _WORTH else 'as'} NCCL's own choice")
        lines.append(
            f"{COLLECTIVES[kind]},{part[0][0]},{last},{_ALGORITHMS[algorithm]},{protocol.lower()},-1,{nodes},{ranks}"
        )
    return lines


def _time(found: Candidates, name: str) -> float:
    return next(time for one, _, time in found if one == name)


def _fastest(found: Candidates) -> str:
    """The name of the fastest candidate whose time is known, NCCL's own unless much is gained; "": none is."""
    known = {name: time for name, _, time in found if isfinite(time) and name.split(" ")[0] in _ALGORITHMS}
    if not known:
        return ""
    best, own = min(known, key=lambda name: known[name]), found[0][0]
    return own if own in known and known[best] > (1 - _WORTH) * known[own] else best
