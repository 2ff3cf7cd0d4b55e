# SPDX-License-Identifier: Apache-2.0
"""``predict``: one collective of one size on one machine, with all that was weighed; and a machine's own points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.libraries.nccl.constants import values
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.model import NcclCall, Option, call_of, chosen
from commbench.libraries.nccl.prediction import Candidate, Prediction
from commbench.libraries.nccl.timing import names_of, terms_of
from commbench.libraries.nccl.tuning import channels_of

__all__ = ["KINDS", "MIDDLE", "Adapted", "MachinePoint", "adapt", "predict", "predict_sizes"]

FloatArray = npt.NDArray[np.float64]

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "broadcast", "reduce", "all-to-all", "all-to-all-v")
_LATENCY = ("launch", "latency")
_PRIOR = np.array([0.5, 0.3, 0.5])  # in logarithms, of latency, wire and knee
MIDDLE = 8 * 2.0**20
"""Bytes: between latency and wire, where a third point says most of the knee."""
_OCTAVES = 1.5  # powers of two within which what a point in the middle says fades to 60 %; of 1 to 4 the best left out
_TRUST = 0.02  # in logarithms, of a point that the user measured


@dataclass(frozen=True, slots=True)
class MachinePoint:
    """A measured time: bytes and seconds, of a collective."""

    size_bytes: float
    time_s: float
    kind: str = "all-reduce"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What a machine's own points say beside the constants of its class; the prior is 1, 1 and 1.

    Attributes:
        latency, wire: factors of what does not and of what does grow with the size.
        knee: factor of the whole at ``knee_bytes``, which fades within a few powers of two to either side.
        points: how many it was made from.
    """

    latency: float = 1.0
    wire: float = 1.0
    knee: float = 1.0
    knee_bytes: float = MIDDLE
    points: int = 0

    def apply(self, terms: Mapping[str, FloatArray], sizes: FloatArray) -> dict[str, FloatArray]:
        """The terms as this machine has them, at sizes in bytes."""
        if not self.points:
            return dict(terms)
        near = self.knee ** _fading(sizes / self.knee_bytes)
        return {
            name: value * (self.latency if name in _LATENCY else self.wire) * near for name, value in terms.items()
        }


def _fading(ratio: FloatArray) -> FloatArray:
    """1 at a ratio of one, less to either side. A knee is local: where protocols change and where chunks fill channels
    differs from one power of two to the next."""
    return np.exp(-0.5 * (np.log2(ratio) / _OCTAVES) ** 2)


def predict(
    machine: NcclMachine,
    kind: str,
    size_bytes: float,
    dtype: str = "float32",
    *,
    redop: str = "sum",
    own: Adapted | None = None,
) -> Prediction:
    """What NCCL takes for a collective, and how long it lasts.

    Args:
        machine: where. kind: one of KINDS. size_bytes: as nccl-tests counts them: of the full buffer.
        dtype, redop: NVLS does not add all of them.
        own: what points of this very machine say (:func:`adapt`).

    Returns:
        the prediction; its status is "unknown" where a constant of this class of machine is not known.

    Raises:
        InputError: not a collective of NCCL, or nothing that it may take.
    """
    return predict_sizes(machine, kind, [size_bytes], dtype, redop=redop, own=own)[0]


def predict_sizes(
    machine: NcclMachine,
    kind: str,
    sizes: Sequence[float],
    dtype: str = "float32",
    *,
    redop: str = "sum",
    own: Adapted | None = None,
) -> list[Prediction]:
    """The same for many sizes at once."""
    if kind not in KINDS:
        raise InputError(f"collective {kind!r} is none that the model of NCCL knows: {', '.join(KINDS)}")
    call = call_of(machine, kind, sizes, dtype, redop)
    if not call.options:
        given = ", ".join((*machine.algorithms, *machine.protocols))
        raise InputError(
            f"{kind} on {machine.nodes} x {machine.gpus_per_node} {machine.gpu}: nothing is left of {given}"
        )
    known = values()
    which = chosen(call, known)
    at = np.asarray(sizes, dtype=np.float64)
    times = [_terms(option, known, own, at) for option in call.options]
    return [_one(call, which, times, number, float(size)) for number, size in enumerate(sizes)]


def _terms(
    option: Option, known: Mapping[str, float], own: Adapted | None, sizes: FloatArray
) -> dict[str, FloatArray]:
    """Seconds by what they go to; none where a constant is not known."""
    if any(name not in known for name in names_of(option.shape)):
        return {}
    terms = terms_of(option.shape, known)
    if own is not None:
        terms = own.apply(terms, sizes)
    return {name: np.broadcast_to(value, sizes.shape) * 1e-6 for name, value in terms.items()}


def _one(
    call: NcclCall, which: npt.NDArray[np.int64], times: list[dict[str, FloatArray]], number: int, size: float
) -> Prediction:
    machine, best = call.machine, int(which[number])
    cost = call.options[best].cost
    terms = {name: float(value[number]) for name, value in times[best].items()}
    channels, threads = (call.graphs.channels, 640) if cost is None else channels_of(cost, size, machine, call.graphs)
    order = sorted(range(len(call.options)), key=lambda n: (n != best, float(call.options[n].formula_us[number])))
    reason = "" if terms else _reason(call, best)
    return Prediction(
        time_s=sum(terms.values()) if terms else float("nan"),
        algorithm=cost.algorithm if cost else "SendRecv",
        protocol=cost.protocol if cost else "LL/Simple",
        channels=channels,
        threads=threads,
        terms=terms,
        status="unknown" if reason else "known",
        reason=reason,
        candidates=tuple(_candidate(call.options[n], times[n], number) for n in order),
    )


def _candidate(option: Option, terms: dict[str, FloatArray], number: int) -> Candidate:
    cost = option.cost
    return Candidate(
        cost.algorithm if cost else "SendRecv",
        cost.protocol if cost else "LL/Simple",
        float(option.formula_us[number]) * 1e-6,
        float(sum(value[number] for value in terms.values())) if terms else float("nan"),
    )


def _reason(call: NcclCall, best: int) -> str:
    machine, known = call.machine, values()
    lacking = [name for name in names_of(call.options[best].shape) if name not in known]
    what = f"{machine.gpu} over {machine.link}" + (f" and {machine.network}" if machine.nodes > 1 else "")
    return (
        f"no constants for {what} ({', '.join(lacking)}): measure two or three points of it, "
        "the smallest size, 8 MiB and 1 GiB"
    )


def adapt(machine: NcclMachine, points: Sequence[MachinePoint], dtype: str = "float32") -> Adapted:
    """What points of a machine say beside the constants of its class: one scales the wire or the latency, whichever it
    shows, two both, a third the knee between.

    Raises:
        InputError: no points, a time that is none, or a class without constants.
    """
    if not points:
        raise InputError("to adapt to a machine takes one to three points of it, such as 8:13us, 8M:80us and 1G:4ms")
    for point in points:
        if not (0 < point.time_s < np.inf and point.size_bytes > 0):
            raise InputError(f"point {point.size_bytes:g}:{point.time_s:g}s: size and time must be above 0")
    found = [predict(machine, point.kind, point.size_bytes, dtype) for point in points]
    for one in found:
        if one.status == "unknown":
            raise InputError(one.reason)
    times_us = np.array([point.time_s for point in points]) * 1e6
    terms = [{name: np.array([value * 1e6]) for name, value in one.terms.items()} for one in found]
    return solve(terms, np.array([point.size_bytes for point in points]), times_us)


def solve(terms: Sequence[Mapping[str, FloatArray]], sizes: FloatArray, times_us: FloatArray) -> Adapted:
    """Factors that bring the terms to measured times, near their priors.

    Args:
        terms: of each point, in us. sizes: of the points, in bytes. times_us: measured.
    """
    from scipy.optimize import least_squares

    three = len(sizes) > 2
    scale = np.where([True, True, three], _PRIOR, 1e-6)  # two points say nothing of the knee
    middle = float(np.sort(sizes)[1]) if three else MIDDLE

    def made(theta: FloatArray) -> Adapted:
        latency, wire, knee = np.exp(theta).tolist()
        return Adapted(latency, wire, knee, middle, len(sizes))

    def off(theta: FloatArray) -> FloatArray:
        own = made(theta)
        times = [
            sum(float(value[0]) for value in own.apply(one, sizes[i : i + 1]).values()) for i, one in enumerate(terms)
        ]
        missed: FloatArray = np.concatenate([np.log(np.array(times) / times_us) / _TRUST, theta / scale])
        return missed

    return made(least_squares(off, np.zeros(3)).x)
