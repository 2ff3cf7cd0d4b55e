# SPDX-License-Identifier: Apache-2.0
"""Max-min fair sharing, as a pure function. It knows no packets, no ranks and no time.

Given links l with capacity C_l > 0 and flows f that load link l with weight w_fl > 0 (1 for a plain flow), find rates
x_f >= 0 with

    sum of w_fl x_f over {f : l in L_f}  <=  C_l                              for every link l,

such that no rate can grow without shrinking one that is smaller or equal. Equivalently: every flow has a *bottleneck*,
a link that is full and on which no other flow is faster,

    for all f exists l in L_f:   sum of w_gl x_g over l = C_l   and   x_f >= x_g for all g over l.

The solution is unique. *Progressive filling* finds it: raise all rates together until links are full, fix the flows
over these at that share, subtract them everywhere, repeat with the rest.

Worked instance (three links in a line, one long flow; the textbook case)::

    capacities   A 10, B 4, C 6;   flows   0: A B C,   1: A,   2: B,   3: C
    shares       A 5, B 2, C 3     ->  B first: x0 = x2 = 2
    left         A 8 for flow 1, C 4 for flow 3   ->  x3 = 4, x1 = 8

A flow of weight 2 counts as two flows of weight 1 on that link: so aggregate flows, and symmetric ones folded into one,
need no rule of their own.

Source: D. Bertsekas, R. Gallager, "Data Networks", 2nd edition (1992), section 6.5.2.
"""

from collections.abc import Sequence

__all__ = ["WEIGHT_UNIT", "max_min_rates", "whole_weight"]

WEIGHT_UNIT = 2.0**-20
"""Weights are multiples of this, so that sums of them are exact (below 2**33) and no result depends on their order."""


def whole_weight(weight: float) -> float:
    """The nearest weight above zero that the solver takes."""
    return max(round(weight / WEIGHT_UNIT), 1) * WEIGHT_UNIT


def max_min_rates(
    capacity: Sequence[float],
    flows: Sequence[Sequence[int]],
    weights: Sequence[Sequence[float] | None] | None = None,
) -> list[float]:
    """Max-min fair rate of every flow.

    The arithmetic is part of the contract (engines must agree to the last bit). A link's share is ``left / weight``.
    In a round, s is the smallest share of all links; all flows over any link with exactly this share are fixed at s;
    each link then loses ``s * (weight of its flows fixed now)`` at once, and its share is the larger one of what it was
    and of what it is now: rounding never lowers it. So s rises from round to round, and what a link comes to depends on
    the rates of its own flows alone, which it loses in ascending order: whoever knows the rates below s everywhere
    knows the links that are full at s, in whatever order the rest is found (network.filling). No step depends on how
    links or flows are numbered, so equal flows get bitwise equal rates.

    Args:
        capacity: capacity of each link, any unit, > 0.
        flows: for each flow the indices of its links; at least one, no index twice.
        weights: for each flow its weight on each of these links, multiples of WEIGHT_UNIT; None means 1 everywhere.

    Returns:
        rate of each flow per unit of weight, in the unit of the capacities.
    """
    loads = [[1.0] * len(links) for links in flows]
    for flow, given in enumerate(weights or ()):
        if given is not None:
            loads[flow] = list(given)
    on_link: dict[int, list[int]] = {}
    weight: dict[int, float] = {}
    for flow, links in enumerate(flows):
        for link, load in zip(links, loads[flow], strict=True):
            on_link.setdefault(link, []).append(flow)
            weight[link] = weight.get(link, 0.0) + load
    left = {link: capacity[link] for link in on_link}
    rates = [-1.0] * len(flows)
    shares = {link: left[link] / weight[link] for link in on_link}
    while shares:
        share = min(shares.values())
        full = (link for link in shares if shares[link] == share)
        fixed = {flow for link in full for flow in on_link[link] if rates[flow] < 0.0}
        lost: dict[int, float] = {}
        for flow in fixed:
            rates[flow] = share
            for link, load in zip(flows[flow], loads[flow], strict=True):
                lost[link] = lost.get(link, 0.0) + load
        for link, load in lost.items():
            left[link] = max(left[link] - share * load, 0.0)  # rounding may leave a last bit below zero
            weight[link] -= load
            if weight[link] == 0.0:
                del shares[link]
            else:
                shares[link] = max(shares[link], left[link] / weight[link])
    return rates
