# SPDX-License-Identifier: Apache-2.0
"""Passes under ZeRO 3, by the simulator's rules (``workload.step``).

A layer's weights are fetched while the layer before it computes, gradients are reduced beside the layers that follow,
and a pass with gradients ends when the last of them are reduced, so that the fetch for what comes next has nothing
beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commbench.workload.pipeline.schedule import Pass
from commbench.workload.traffic import Traffic

__all__ = ["LayerPass", "Sharded", "sharded"]


@dataclass(frozen=True, slots=True)
class LayerPass:
    """One layer's pass, ``many`` times: seconds on the device, and those in collectives over the links of ZeRO's."""

    number: int
    many: int
    device: float
    sent: float


@dataclass(frozen=True, slots=True)
class Sharded:
    """Seconds of a pass, and of what is gathered and reduced in it if nothing else is."""

    time_s: float
    gathered_s: float
    reduced_s: float


def sharded(
    layers: Sequence[LayerPass], kind: Pass, count: int, traffic: Sequence[Traffic], price: Mapping[Traffic, float],
    *, adding_s: float, before_s: float,
) -> Sharded:  # fmt: skip
    """A pass through a stage.

    Args:
        layers: in forward order. kind: of the pass. count: layers of the stage, embedding and head apart.
        traffic: of the stage under ZeRO 3. price: seconds of each alone.
        adding_s: in which gradients are added up behind the last layer. before_s: of computing beside which the first
            layer can be fetched.
    """
    when = "forward" if kind is Pass.FORWARD else "backward"
    names = {Pass.FORWARD: _GATHER, Pass.INPUT: _GATHER, Pass.WEIGHT: _REDUCE}.get(kind, (*_GATHER, *_REDUCE))
    sums = dict[tuple[str, int | None], float]()
    for one in traffic:
        if one.when == when and one.collective in names:
            key = (one.collective, one.layer)
            sums[key] = sums.get(key, 0.0) + price[one]
    order = [one for one in (layers if kind is Pass.FORWARD else list(reversed(layers))) for _ in range(one.many)]
    places = [count if one.number == 1 else one.number for one in order]  # layers stand for a stage of one
    gathers = [sums.get(("all-gather", at), 0.0) for at in places]
    reduces = [sums.get(("reduce-scatter", at), 0.0) for at in places]
    end = _pass_s(order, gathers, reduces, adding_s if kind in (Pass.BACKWARD, Pass.WEIGHT) else 0.0, before_s)
    return Sharded(end, sum(gathers), sum(reduces))


_GATHER, _REDUCE = ("all-gather",), ("reduce-scatter",)


def _pass_s(
    order: Sequence[LayerPass], gathers: Sequence[float], reduces: Sequence[float], adding_s: float, before_s: float
) -> float:
    """Layer by layer: what is gathered and reduced shares links, of which a layer's own collectives get half meanwhile.
    """
    end, start, begun = 0.0, -before_s, -before_s
    fetched, reduced = -before_s, 0.0
    for one, gather, reduce in zip(order, gathers, reduces, strict=True):
        issued = max(fetched, start)
        fetched = issued + gather + min(gather, max(0.0, reduced - issued))
        start = max(end, fetched if gather else 0.0)
        beside = min(one.device, max(0.0, reduced - start) + gather)
        end = start + one.device + (beside * one.sent / one.device if one.device else 0.0)
        reduced = max(reduced, end) + reduce if reduce else reduced
    links = begun + sum(gathers) + sum(reduces)
    return max(end + adding_s, reduced if any(reduces) else 0.0, links)
