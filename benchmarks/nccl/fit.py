# SPDX-License-Identifier: Apache-2.0
"""Fit the constants of the model of NCCL to measured curves.

A constant is a prior times a factor of its stem (``hop.LL``) times a factor of its own (``hop.LL.hopper``), all but the
prior fitted in logarithms with priors at 1: what few curves say stays near what the others say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.nccl.curves import Curve
from commbench.libraries.nccl.model import NcclCall, call_of, chosen
from commbench.libraries.nccl.timing import CallShape, names_of, time_of

__all__ = ["PRIORS", "Sample", "complete", "fit", "is_free", "predicted", "prior_of", "samples_of"]

FloatArray = npt.NDArray[np.float64]

PRIORS = {  # by stem: the constant, and how far (in logarithms) a fit may go for all and for one
    "floor": (5.0, 0.5, 0.5),
    "host": (3.0, 0.3, 0.3),
    "host.power": (2.5, 0.01, 0.01),  # set free it goes to 1.4, and a process that starts all GPUs slows large calls
    "blocks": (0.2, 0.4, 0.4),
    "base.LL128": (1.0, 0.5, 0.5),
    "base.Simple": (1.0, 0.3, 0.3),
    "base.LL": (1.0, 0.01, 0.01),
    "hop": (1.0, 0.5, 0.4),
    "nvls": (1.0, 0.3, 0.3),
    "net": (1.0, 0.1, 0.5),
    "treefill": (0.8, 0.3, 0.4),
    "wire": (1.0, 0.1, 0.2),
    "netwire": (1.0, 0.05, 0.2),
    "netwire.LL128": (1.0, 0.02, 0.05),  # NCCL counts 0.92 of the wire; 120 of its 128 bytes are data
    "copy": (1.0, 0.5, 0.5),
    "small.share": (0.55, 0.1, 0.5),
    "small.scale": (4.0, 0.1, 0.5),
    "overlap": (1.0, 0.05, 0.3),
    "overlap.p2p": (0.8, 0.1, 0.3),
    "join": (0.3, 0.3, 0.5),
    "bytes": (0.3, 0.5, 0.5),
    "p2p.floor": (6.0, 0.3, 0.5),
    "peers": (0.3, 1.0, 0.5),
    "p2p.Simple": (8.0, 0.5, 0.5),
    "p2p.wire": (1.1, 0.2, 0.2),
    "p2p.netwire": (1.2, 0.2, 0.3),
    "p2p.net": (25.0, 0.5, 0.5),
    "p2p.nodes": (1.0, 0.5, 0.5),
    "crowd": (1.0, 0.5, 0.5),
}
_SOFT = 0.15  # of an error in logarithms, beyond which it counts less
_HELD = 0.01  # spread of a prior, in logarithms, up to which a constant is as good as given
_NOISE = 0.06  # of a point, in logarithms


def stem_of(name: str) -> str:
    """``hop.LL.hopper`` -> ``hop.LL``; the part that all generations share."""
    return name.rpartition(".")[0] if name not in PRIORS else name


def prior_of(name: str) -> tuple[float, float, float]:
    """The prior of a constant."""
    while name not in PRIORS:
        name = name.rpartition(".")[0]
    return PRIORS[name]


def is_free(name: str) -> bool:
    """Whether a fit may move a constant, rather than hold it at its prior."""
    return prior_of(name)[2] > _HELD


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A curve with the parts of its time.

    ``shapes`` are those of the chosen candidates, with the points where they are.
    """

    curve: Curve
    call: NcclCall
    weight: float


def samples_of(curves: Sequence[Curve], most: float = 20.0) -> list[Sample]:
    """Curves made ready; long ones weigh no more than ``most`` points."""
    return [
        Sample(
            curve,
            call_of(curve.machine, curve.kind, curve.sizes, curve.dtype),
            min(1.0, (most / len(curve.sizes)) ** 0.5),
        )
        for curve in curves
        if len(curve.sizes)
    ]


def predicted(sample: Sample, constants: Mapping[str, float]) -> FloatArray:
    """us at the curve's sizes; nan where a constant is not known."""
    which = chosen(sample.call, constants)
    found = np.full(len(sample.curve.sizes), np.nan)
    for number in np.unique(which).tolist():
        shape = sample.call.options[number].shape
        if all(name in constants for name in names_of(shape)):
            at = which == number
            found[at] = time_of(shape, constants)[at]
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """A shape at some points of a sample."""

    shape: CallShape
    at: npt.NDArray[np.bool_]
    logs: FloatArray
    weight: float
    names: tuple[str, ...]


def _pieces(samples: Sequence[Sample], constants: Mapping[str, float]) -> list[_Piece]:
    found = []
    for sample in samples:
        which = chosen(sample.call, constants)
        for number in np.unique(which).tolist():
            shape, at = sample.call.options[number].shape, which == number
            logs = np.log(sample.curve.times[at] * 1e6)
            found.append(_Piece(shape, at, logs, sample.weight, names_of(shape)))
    return found


def _residuals(piece: _Piece, constants: Mapping[str, float], soft: float) -> FloatArray:
    total = time_of(piece.shape, constants)
    error: FloatArray = np.log(total[piece.at]) - piece.logs
    less = np.sign(error) * soft * np.sqrt(2 * (np.sqrt(1 + (error / soft) ** 2) - 1))
    found: FloatArray = piece.weight * less / _NOISE
    return found


def fit(
    samples: Sequence[Sample], rounds: int = 15, start: Mapping[str, float] | None = None, enough: float = 1e-4
) -> dict[str, float]:
    """Constants that fit best, by Gauss-Newton steps with damping."""
    names = sorted({n for sample in samples for option in sample.call.options for n in names_of(option.shape)})
    constants = {name: prior_of(name)[0] for name in names} | {k: v for k, v in (start or {}).items() if k in names}
    stems = sorted({stem_of(name) for name in names})
    columns = {name: number for number, name in enumerate(names)}
    common = {stem: len(names) + number for number, stem in enumerate(stems)}
    width = len(names) + len(stems)
    scale = np.array(
        [prior_of(name)[2] for name in names] + [prior_of(stem if stem in PRIORS else stem + ".x")[1] for stem in stems]
    )
    theta = np.zeros(width)
    for name in names:
        theta[columns[name]] = np.log(constants[name] / prior_of(name)[0])
    damping = 1e-3
    pieces = _pieces(samples, constants)
    used: set[str] = set()
    cost = np.inf
    for number in range(rounds):
        soft = _SOFT * max(1, 16 // 2**number)  # at first all points pull, so that none is given up too early
        hessian, gradient, value = _normal(pieces, constants, columns, common, width, soft)
        used = {name for piece in pieces for name in piece.names}
        hessian[np.diag_indices(width)] += 1 / scale**2
        gradient += theta / scale**2
        cost = value + float(np.sum((theta / scale) ** 2))
        for _ in range(6):
            step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
            trial = theta + np.clip(step, -0.5, 0.5)
            values = _values(trial, names, columns, common)
            new = _squares(pieces, values, soft) + float(np.sum((trial / scale) ** 2))
            if new < cost:
                gain, theta, constants, damping = cost - new, trial, values, damping / 3
                break
            damping *= 4
        else:
            break
        pieces = _pieces(samples, constants)
        if gain < enough * cost and soft == _SOFT:
            break
    return {name: constants[name] for name in names if name in used}


_RING, _TREE = "net.Ring.Simple.", "net.Tree.Simple."
_OF_GPUS = (
    *("host", "blocks", "hop.LL", "hop.LL128", "hop.Simple", "join", "bytes", "overlap", "overlap.p2p", "peers"),
    *("p2p.Simple", "p2p.floor", "copy.all-gather", "copy.reduce-scatter", "copy.all-reduce"),
)
_OF_LINKS = ("wire.LL", "wire.LL128", "p2p.wire")
_OF_NETWORKS = ("treefill", "overlap.net")
_SIBLINGS = {"sm103": "sm100", "sm100": "sm103"}  # of one generation
_LIKE = {  # networks, and what they are taken for in what no curve of theirs shows
    **{"verbs-rccl": "verbs", "verbs-alone": "verbs", "slingshot": "verbs", "verbs": "verbs-alone"},
    **{"verbs-alone-rccl": "verbs-alone", "slingshot-alone": "verbs-alone", "efa2": "efa"},
}


def complete(known: Mapping[str, float], *, rates: bool = True) -> dict[str, tuple[float, str]]:
    """Constants of classes that are known in the main, which no curve shows: those of a near class, or the median of
    all others; each with where it is from. Between nodes a ring's hop is a tree's. A generation without a floor, a link
    or network without a rate stays unknown, but for EFA of the second kind, which no healthy curve shows: it is taken
    for the first.

    Args:
        known: fitted. rates: whether rates of near classes are taken, too.
    """
    found: dict[str, tuple[float, str]] = {}
    for here, there in (*_SIBLINGS.items(), *_LIKE.items()):
        if here not in ("sm100", "sm103", "efa2") and f"netwire.Simple.{here}" not in known:
            continue
        for name in known:
            stem, _, of = name.rpartition(".")
            if of == there and f"{stem}.{here}" not in known and (rates or "wire." not in name):
                found[f"{stem}.{here}"] = (known[name], f"as {name}")
    for tree in [name for name in known if name.startswith(_TREE)]:
        ring = tree.replace(_TREE, _RING)
        if ring not in {**known, **found}:
            found[ring] = (known[tree], f"as {tree}")
    if "net.Tree.Simple.efa2" in found:
        found["net.NVLSTree.Simple.efa2"] = (found["net.Tree.Simple.efa2"][0], "as net.Tree.Simple.efa")
    have = {**known, **{name: value for name, (value, _) in found.items()}}
    for main, stems in (("floor", _OF_GPUS), ("wire.Simple", _OF_LINKS), ("netwire.Simple", _OF_NETWORKS)):
        for of in [name.rpartition(".")[2] for name in have if stem_of(name) == main]:
            for stem in stems:
                others = [value for name, value in known.items() if stem_of(name) == stem]
                if f"{stem}.{of}" not in have and others:
                    found[f"{stem}.{of}"] = (float(np.median(others)), f"the median of {len(others)} other classes")
    return found


def _values(theta: FloatArray, names: list[str], columns: dict[str, int], common: dict[str, int]) -> dict[str, float]:
    return {n: prior_of(n)[0] * float(np.exp(theta[columns[n]] + theta[common[stem_of(n)]])) for n in names}


def _squares(pieces: Sequence[_Piece], constants: Mapping[str, float], soft: float) -> float:
    return sum(float(np.sum(_residuals(piece, constants, soft) ** 2)) for piece in pieces)


def _normal(
    pieces: Sequence[_Piece],
    constants: dict[str, float],
    columns: dict[str, int],
    common: dict[str, int],
    width: int,
    soft: float,
) -> tuple[FloatArray, FloatArray, float]:
    """Hessian and gradient of half the squares, and the squares."""
    hessian, gradient, value, move = np.zeros((width, width)), np.zeros(width), 0.0, 1e-4
    for piece in pieces:
        base = _residuals(piece, constants, soft)
        value += float(base @ base)
        rows = []
        for name in piece.names:
            moved = dict(constants)
            moved[name] *= np.exp(move)
            rows.append((_residuals(piece, moved, soft) - base) / move)
        slope = np.array(rows)
        at = np.array([columns[name] for name in piece.names])
        shared = np.array([common[stem_of(name)] for name in piece.names])
        inner, outer = slope @ slope.T, slope @ base
        for left in (at, shared):
            np.add.at(gradient, left, outer)
            for right in (at, shared):
                np.add.at(hessian, (left[:, None], right[None, :]), inner)
    return hessian, gradient, value
