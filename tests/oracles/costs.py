# SPDX-License-Identifier: Apache-2.0
"""Closed forms of all algorithms on an ideal switch, each derived from what the algorithm says, none from a simulation.

The network: every rank has one port out and one port in, of B bytes/s, at a switch that never blocks; alpha is the
latency between two ranks; additions are free. A step in which messages enter at the same time lasts alpha and then as
long as the busiest port: by max-min fairness k equal messages through one port each have B/k, all end together, and
unequal ones keep the port full until the last ends. So every form is

    time = latencies x alpha + share x S / B                (S: the full buffer, n: ranks, K: slices)

Two rules serve most algorithms.

*Even.* If in every step every rank sends and receives the same set of sizes, all ranks go in lockstep and the share is
what one rank sends. In K slices, T steps become T + K - 1. Slice j does in step s + j what it did in step s, so those
of a step share the ports, and a port carries the same bytes as before: latencies T + K - 1, the share unchanged.

*Leader.* The same holds if one rank has, in every step, the busiest port of all. The others are never ready later than
it is, nor is any message slower than those through its port, so its own time is that of all.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import NamedTuple

__all__ = [
    "Case",
    "Cost",
    "all_at_once",
    "all_pairs_all_reduce",
    "block",
    "bruck_all_to_all",
    "chain",
    "dissemination",
    "doubling_all_gather",
    "doubling_all_reduce",
    "folded",
    "gloo_broadcast",
    "gloo_reduce",
    "halving_doubling",
    "halving_reduce_scatter",
    "hierarchical",
    "nvls",
    "pat",
    "rabenseifner_reduce",
    "ring_all_reduce",
    "ring_half",
    "rounds",
    "sharp",
    "shift",
    "steps",
    "torus",
    "two_step",
]


class Cost(NamedTuple):
    """How often alpha, and how many times S/B. Half an alpha is one link, to or from the switch itself."""

    latencies: int | Fraction
    share: int | Fraction


@dataclass(frozen=True, slots=True)
class Case:
    """World size, slices, root, and ranks per host."""

    n: int
    slices: int = 1
    root: int = 0
    group: int = 1


def rounds(n: int) -> int:
    """log2 n, rounded up."""
    return (n - 1).bit_length()


def steps(number: int, share: int | Fraction, case: Case) -> Cost:
    """Even, or with a leader: ``number`` steps for one slice, in which the busiest port carries ``share``."""
    return Cost(number + case.slices - 1, share)


def block(n: int, blocks: int) -> Fraction:
    """Some of n blocks."""
    return Fraction(blocks, n)


# Rings --------------------------------------------------------------------------------------------------------------


def ring_all_reduce(case: Case) -> Cost:
    """Even: 2(n-1) steps of S/n. Both ways at once, two messages of S/2n share each port: the same."""
    return steps(2 * (case.n - 1), block(case.n, 2 * (case.n - 1)), case)


def ring_half(case: Case) -> Cost:
    """Even: n - 1 steps of S/n, for one of the two halves, reduce-scatter or all-gather."""
    return steps(case.n - 1, block(case.n, case.n - 1), case)


def chain(case: Case) -> Cost:
    """n - 1 hops; the last of K slices leaves K - 1 steps after the first: n - 2 + K steps of one S/K per port."""
    number = case.n - 2 + case.slices
    return Cost(number, Fraction(number, case.slices))


# Recursive doubling and halving -------------------------------------------------------------------------------------


def folded(case: Case) -> tuple[int, int, int]:
    """(log2 p, p, ranks that sit out) with p the largest power of two in the world."""
    bits = case.n.bit_length() - 1
    return bits, 2**bits, case.n - 2**bits


def doubling_all_gather(case: Case) -> Cost:
    """Even: log2 n steps of 1, 2, 4 .. n/2 blocks, n - 1 together. Bruck's rounds: the last carries what is missing."""
    return steps(rounds(case.n), block(case.n, case.n - 1), case)


def pat(case: Case) -> Cost:
    """Even: as above; a step before the rounds and one behind them only copy, in no time."""
    return doubling_all_gather(case)


def doubling_all_reduce(case: Case) -> Cost:
    """Even: log2 p whole buffers. A fold puts a buffer before and one behind, at rank 0, which leads.

    With 2 slices the fold's second slice comes into rank 0 beside a swap, and the first slice of the result leaves it
    beside a swap: in no step does another port carry more, and 2 slices never fold and unfold in one step.
    """
    bits, _, out = folded(case)
    fold = 2 if out else 0
    return steps(bits + fold, bits + fold, case)


def halving_doubling(case: Case) -> Cost:
    """Even: 2 log2 p steps; halves S/2 .. S/p are (p-1)/p S there, and as much back. A fold, as above, adds S twice."""
    bits, p, out = folded(case)
    fold = 2 if out else 0
    return steps(2 * bits + fold, 2 * block(p, p - 1) + fold, case)


def rabenseifner_reduce(case: Case) -> Cost:
    """The root leads, always receiving: (p-1)/p S in log2 p swaps, as much in log2 p gathers, S in the fold."""
    bits, p, out = folded(case)
    fold = 1 if out else 0
    return steps(2 * bits + fold, 2 * block(p, p - 1) + fold, case)


def halving_reduce_scatter(case: Case) -> Cost:
    """Even in powers of two: (n-1)/n S in log2 n steps. Else rank 0 leads.

    The first x places of p stand for two ranks. Rank 0 gets n blocks in the fold; then, while w = p/2 .. 2, 1 places
    are left on its side, their w + min(w, x) blocks; at last it gives 1. Its partner never gets more.

    With 2 slices, the last swap of the second stands beside the handing over of the first. Rank 0 there gives
    1 + min(2, x) - 1 + 1 blocks of S/2n and gets 1 + 1. For x > 1 that is the sum of both, 3; for x = 1 it gives 2
    and gets 2, one less than the sum.
    """
    bits, p, out = folded(case)
    if not out:
        return steps(bits, block(p, p - 1), case)
    blocks = case.n + sum(2**bit + min(2**bit, out) for bit in range(bits)) + 1
    saved = Fraction(1, 2) if out == 1 and case.slices == 2 else 0
    return steps(bits + 2, (blocks - saved) / Fraction(case.n), case)


def dissemination(case: Case) -> Cost:
    """Even: ceil(log2 n) tokens of one element, which no slices cut: those that are empty are not sent."""
    return Cost(rounds(case.n), rounds(case.n))


def shift(case: Case) -> Cost:
    """Even: one step, one buffer."""
    return steps(1, 1, case)


# All-to-all ---------------------------------------------------------------------------------------------------------


def all_at_once(case: Case) -> Cost:
    """One step: n - 1 blocks through every port, or through that of the root."""
    return steps(1, block(case.n, case.n - 1), case)


def all_pairs_all_reduce(case: Case) -> Cost:
    """Even: all at once, twice."""
    return steps(2, block(case.n, 2 * (case.n - 1)), case)


def two_step(case: Case) -> Cost:
    """Even: g - 1 messages of h blocks, then h - 1 of g; before each a step that only copies, in no time.

    Slice j exchanges in steps 1 + j and 3 + j: K slices in 2K different steps up to K = 2, then in K + 2. With one
    host, or hosts of one rank, it is one step.
    """
    n, g, hosts = case.n, case.group, case.n // case.group
    if 1 in (g, hosts):
        return all_at_once(case)
    return Cost(min(2 * case.slices, case.slices + 2), block(n, (g - 1) * hosts + (hosts - 1) * g))


def bruck_all_to_all(case: Case) -> Cost:
    """Even: block i goes once for every bit set in i, in R = ceil(log2 n) rounds.

    A round is every third step, the others only copy. K slices send in K of three steps, from K = 3 on in all of
    them: RK latencies up to then, 3(R - 1) + K afterwards.
    """
    number = rounds(case.n)
    latencies = min(number * case.slices, 3 * (number - 1) + case.slices)
    return Cost(latencies, block(case.n, sum(i.bit_count() for i in range(case.n))))


# On two levels, in the switch ---------------------------------------------------------------------------------------


def hierarchical(case: Case) -> Cost:
    """Even: 2(g-1) steps of S/g and 2(h-1) of S/n on h hosts of g: 2(n-1)/n S in all, since gh = n."""
    g, hosts = case.group, case.n // case.group
    share = 2 * (g - 1) * Fraction(1, g) + 2 * (hosts - 1) * Fraction(1, case.n)
    return steps(2 * (g - 1) + 2 * (hosts - 1), share, case)


def torus(case: Case) -> Cost:
    """The same with c columns for g and r rows for h."""
    rows = next(r for r in range(isqrt(case.n), 0, -1) if case.n % r == 0)
    return hierarchical(Case(case.n, case.slices, group=case.n // rows))


def nvls(case: Case) -> Cost:
    """Four steps of one link: S to the switch, S/n to the head, S/n back, S to all. The ports are 1 up, 1 down.

    K slices: K + 3 steps, of which step u carries up S/K while a slice is in step 0 and S/nK while one is in step 2,
    down S/nK while one is in step 1 and S/K while one is in step 3; the slice in step s is slice u - s.
    """
    share = Fraction(0)
    for u in range(case.slices + 3):
        first, second, third, fourth = (0 <= u - s < case.slices for s in range(4))
        share += max(first + Fraction(third, case.n), fourth + Fraction(second, case.n)) / case.slices
    return Cost(Fraction(case.slices + 3, 2), share)


def sharp(case: Case) -> Cost:
    """K + 1 steps of one link, of S/K up, down, or both."""
    return Cost(Fraction(case.slices + 1, 2), Fraction(case.slices + 1, case.slices))


# Gloo ---------------------------------------------------------------------------------------------------------------
# Two operations in flight: the two of a pair share the ports, and the next pair goes when both are through. A pair of
# two segments of S/2n thus is one step of S/n.


def gloo_reduce(case: Case) -> Cost:
    """n - 1 pairs of S/2n round the ring; then n - 1 parts of S/n into the root's port at once."""
    return Cost((case.n - 1) + 1, block(case.n, (case.n - 1) + (case.n - 1)))


def gloo_broadcast(case: Case) -> Cost:
    """A rank v that has the buffer sends it at once to all v + 2^i with 2^i > v.

    In powers of two the latest path is 0, 1, 3, 7 ..: log2 n children share the first port, one fewer each time.
    """
    number = rounds(case.n)
    return GLOO_BROADCAST.get(case.n) or Cost(number, Fraction(number * (number + 1), 2))


GLOO_BROADCAST = {
    3: Cost(1, 2),  # 0 to 1, 2
    5: Cost(2, 3 + 1),  # 0 to 1, 2, 4; then 1 to 3
    6: Cost(2, 3 + 2),  # 0 to 1, 2, 4; then 1 to 3, 5
    7: Cost(2, 3 + 2),  # the same, and 2 to 6 alone
}
