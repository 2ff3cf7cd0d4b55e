# SPDX-License-Identifier: Apache-2.0
"""Fit the constants of the model of NCCL and write how good it is: ``python -m benchmarks.nccl DATA``.

DATA holds ``measurements`` (with an ``index.csv``) and ``collectives_single_node``. Written are the constants beside
the model and docs/nccl-accuracy.md; with ``--unseen``, which takes no DATA, only the part of that page that tells of
curves that nothing was fitted to.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.nccl.curves import Curve, clusters_in, nodes_in
from benchmarks.nccl.detect import detection, points_in
from benchmarks.nccl.fit import Sample, complete, fit, is_free, predicted, prior_of, samples_of
from benchmarks.nccl.score import REGIONS, Errors, adapted, baselines, errors_of, gather, left_out, row, usable
from benchmarks.nccl.unseen import INDEX, TITLE, unseen
from commbench.libraries.nccl.constants import FILE, read_constants, values
from commbench.libraries.nccl.model import chosen
from commbench.libraries.nccl.timing import names_of

__all__ = ["main"]

_OF_A_CLUSTER, _OF_A_NODE = 20.0, 6.0
"""Points that a curve weighs at most: the many curves inside one node are of few machines."""
_HEAD = """# How far the model of NCCL is from measurements

Written by `python -m benchmarks.nccl DATA` from public curves (measured nccl-tests, out of place; in place
where out of place takes 1.25 times as long). Each cell: median / 95th percentile of the size of the error in percent
(signed median). A prediction's constants belong to a GPU generation, a kind of link or a kind of network, never to one
curve; left out means that they were fitted without the whole cluster or machine. What the others say nothing of is a
class without constants: the model answers `unknown` there, and it is not scored. The form of the model, its classes and
priors were chosen with these curves and the left-out errors in sight: on curves of others it will do somewhat worse.
"""


def main() -> None:
    """Read, fit, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--unseen", action="store_true", help="judge only, by curves that nothing was fitted to")
    parser.add_argument("--docs", type=Path, default=Path("docs/nccl-accuracy.md"))
    parser.add_argument("--constants", type=Path, default=FILE)
    given = parser.parse_args()
    if given.unseen == (given.data is not None):
        parser.error("give DATA to fit to and judge by, or --unseen")
    if given.unseen:
        kept = given.docs.read_text(encoding="utf-8").partition(f"\n{TITLE}\n")[0]
        given.docs.write_text("\n".join([kept, *unseen(INDEX, values())[1:]]) + "\n", encoding="utf-8")
        print(f"wrote {given.docs}")
        return
    curves = clusters_in(given.data / "measurements")
    healthy = samples_of([curve for curve in curves if curve.health == "yes"], _OF_A_CLUSTER)
    nodes = samples_of(list(nodes_in(given.data / "collectives_single_node")), _OF_A_NODE)
    known = fit([*healthy, *nodes])
    given.constants.write_text(_constants(known, [*healthy, *nodes]), encoding="utf-8")
    own = [s for s in healthy if not s.curve.apart]
    out = list(left_out(own, [*nodes, *(s for s in healthy if s.curve.apart)], known))
    ill = [curve for curve in curves if curve.health == "no"]
    points = points_in(given.data / "measurements" / "points.csv")
    text = [_HEAD, *_clusters(healthy, out, known), *detection(out, ill, points, {**known, **_rest(known)})]
    text += _nodes(nodes, healthy, known)
    text += unseen(INDEX, {name: one.value for name, one in read_constants(given.constants).items()})
    given.docs.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"wrote {given.constants} and {given.docs}")


def _constants(known: Mapping[str, float], samples: Sequence[Sample]) -> str:
    """The data file: every constant with the number of points and clusters that it was fitted to."""
    points: dict[str, int] = {}
    clusters: dict[str, set[str]] = {}
    for sample in samples:
        which = chosen(sample.call, known)
        for number, option in enumerate(sample.call.options):
            count = int((which == number).sum())
            for name in names_of(option.shape) if count else ():
                points[name] = points.get(name, 0) + count
                clusters.setdefault(name, set()).add(sample.curve.cluster)
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Written by python -m benchmarks.nccl; do not edit.",
        "constants:",
    ]
    for name, value in known.items():
        source = f"{points[name]} points of {len(clusters[name])} machines or clusters"
        origin = "fitted" if is_free(name) else "assumed"
        source = source if is_free(name) else f"held near {prior_of(name)[0]:g}"
        lines.append(f'  {name}: {{value: {value:.4g}, provenance: {origin}, source: "{source}"}}')
    for name, (value, source) in complete(known).items():
        lines.append(f'  {name}: {{value: {value:.4g}, provenance: assumed, source: "{source}"}}')
    return "\n".join(lines) + "\n"


def _table(title: str, errors: Mapping[str, Errors], first: str) -> list[str]:
    lines = ["", title, "", f"| {first} | {' | '.join(REGIONS)} |", f"|---{'|---' * len(REGIONS)}|"]
    return lines + [f"| {name} | {' | '.join(row(of))} |" for name, of in errors.items()]


def _kind(curve: Curve) -> str:
    return curve.kind


def _all(curve: Curve) -> str:
    return "all"


def _rest(known: Mapping[str, float]) -> dict[str, float]:
    """What no curve shows, without its source."""
    return {name: value for name, (value, _) in complete(known).items()}


def _clusters(
    healthy: Sequence[Sample], out: Sequence[tuple[Sample, Mapping[str, float]]], known: Mapping[str, float]
) -> list[str]:
    """Clusters and boxes from the index."""
    own = [s for s, _ in out]
    missed = [(s, errors_of(s.curve, predicted(s, other))) for s, other in out]
    pairs = [(s.curve, errors) for s, errors in missed]
    inside = [(s.curve, errors_of(s.curve, predicted(s, known))) for s in own]
    vtrain = [(s.curve, errors_of(s.curve, predicted(s, known))) for s in healthy if s.curve.apart]
    told = sum(int(np.isfinite(predicted(s, other)).sum()) for s, other in out)
    total = sum(len(s.curve.sizes) for s in own)
    lines = _table(
        "## Clusters, left out in turn",
        {"left out": gather(pairs, _all)["all"], "fitted": gather(inside, _all)["all"]},
        "",
    )
    lines += ["", f"{told} of {total} points are of classes that other clusters tell something of."]
    lines += _table("By machine, left out:", gather(pairs, lambda c: c.name), "curve")
    lines += _table("By collective, left out:", gather(pairs, _kind), "collective")
    lines += _table("vTrain, thinned to 2^k and 3 x 2^k MiB, fitted:", gather(vtrain, lambda c: c.name), "curve")
    return lines + _with_points(out)


def _with_points(out: Sequence[tuple[Sample, Mapping[str, float]]]) -> list[str]:
    """Own points and baselines, on curves from the floor to the plateau whose class other clusters show."""
    table: dict[str, list[tuple[Curve, Errors]]] = {}
    count = 0
    for sample, known in out:
        alone = predicted(sample, known)
        if not usable(sample.curve) or not np.isfinite(alone).all():
            continue
        count += 1
        table.setdefault("the model", []).append((sample.curve, errors_of(sample.curve, alone)))
        for points in (2, 3):
            errors = adapted(sample, known, points)
            table.setdefault(f"the model with {points} points of the machine", []).append((sample.curve, errors))
        for name, errors in baselines(sample).items():
            table.setdefault(name, []).append((sample.curve, errors))
    found = {name: gather(pairs, _all)["all"] for name, pairs in table.items()}
    title = "## Beside simpler models, and with points of the machine itself, all left out"
    note = f"{count} curves that reach from floor to plateau. Points that a model was given are not scored."
    return [*_table(title, found, "model"), "", note]


def _nodes(nodes: Sequence[Sample], healthy: Sequence[Sample], known: Mapping[str, float]) -> list[str]:
    """Inside one node: one version of a platform left out in turn."""
    pairs = [(s.curve, errors_of(s.curve, predicted(s, other))) for s, other in left_out(nodes, healthy, known)]
    inside = [(s.curve, errors_of(s.curve, predicted(s, known))) for s in nodes]
    lines = _table(
        "## Inside one node, a version of a platform left out in turn",
        {"left out": gather(pairs, _all)["all"], "fitted": gather(inside, _all)["all"]},
        "",
    )
    lines += _table("By platform and version, left out:", gather(pairs, lambda c: c.cluster), "platform")
    return lines + _table("By collective, left out:", gather(pairs, _kind), "collective")


if __name__ == "__main__":
    main()
