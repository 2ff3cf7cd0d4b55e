# SPDX-License-Identifier: Apache-2.0
"""Max-min fair sharing, as a pure function. It knows no packets, no ranks and no time.

Given links l with capacity C_l > 0 and flows f with a set of links L_f, find rates x_f >= 0 with

    sum of x_f over {f : l in L_f}  <=  C_l                                   for every link l,

such that no rate can grow without shrinking one that is smaller or equal. Equivalently: every flow has a *bottleneck*,
a link that is full and on which no other flow is faster,

    for all f exists l in L_f:   sum of x_g over l = C_l   and   x_f >= x_g for all g over l.

The solution is unique. *Progressive filling* finds it: take the link whose fair share (what is left of its capacity
over its flows not yet fixed) is smallest, fix these flows at that share, subtract them everywhere, repeat.

Worked instance (three links in a line, one long flow; the textbook case)::

    capacities   A 10, B 4, C 6;   flows   0: A B C,   1: A,   2: B,   3: C
    shares       A 5, B 2, C 3     ->  B first: x0 = x2 = 2
    left         A 8 for flow 1, C 4 for flow 3   ->  x3 = 4, x1 = 8

Source: D. Bertsekas, R. Gallager, "Data Networks", 2nd edition (1992), section 6.5.2.
"""

from collections.abc import Sequence

__all__ = ["max_min_rates"]


def max_min_rates(capacity: Sequence[float], flows: Sequence[Sequence[int]]) -> list[float]:
    """Max-min fair rate of every flow.

    The order of the arithmetic is part of the contract (engines must agree to the last bit): the link with the
    smallest share goes first, ties by lower index; its flows are fixed in ascending order, each subtracted from its
    links in the order given. Links that share no flow, even indirectly, do not touch each other's arithmetic.

    Args:
        capacity: capacity of each link, any unit, > 0.
        flows: for each flow the indices of its links; at least one, no index twice.

    Returns:
        rate of each flow, in the unit of the capacities.
    """
    on_link: dict[int, list[int]] = {}
    for flow, links in enumerate(flows):
        for link in links:
            on_link.setdefault(link, []).append(flow)
    left = {link: capacity[link] for link in on_link}
    unfixed = {link: len(members) for link, members in on_link.items()}
    rates = [-1.0] * len(flows)
    while unfixed:
        share, bottleneck = min((left[link] / count, link) for link, count in unfixed.items())
        for flow in on_link[bottleneck]:
            if rates[flow] >= 0.0:
                continue
            rates[flow] = share
            for link in flows[flow]:
                left[link] = max(left[link] - share, 0.0)  # rounding may leave a last bit below zero
                unfixed[link] -= 1
                if unfixed[link] == 0:
                    del unfixed[link]
    return rates
