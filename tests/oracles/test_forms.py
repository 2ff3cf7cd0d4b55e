# SPDX-License-Identifier: Apache-2.0
"""Every registered algorithm on an ideal switch, against its closed form, to the picosecond."""

import pytest

from commbench.collectives.registry import ALGORITHMS
from tests.cases import US, leaf_star, simulate_collective, star
from tests.oracles.costs import Case
from tests.oracles.forms import FORMS

REGISTERED = sorted({(a.collective, a.name): a for a in ALGORITHMS.values()})
CASES = [(key, case) for key, form in FORMS.items() for case in form.cases]

# Bandwidth, picoseconds per byte, alpha. The second alpha is twice a prime, so that no sum of bytes can stand for it;
# without any alpha, all that can overlap does.
NETWORKS = [(12.5e9, 80, 2 * US), (1e9, 1000, 2 * 7919), (50e9, 20, 0)]


def name_of(collective: str, algorithm: str, case: Case) -> str:
    """Readable test id."""
    return f"{collective}/{algorithm}-{case.n} ranks-{case.slices} slices-root {case.root}-group {case.group}"


def size_of(n: int) -> int:
    """Bytes that n, n * n and 2n blocks, and up to 16 chunks, divide into whole elements, in 1, 2, 3 or 5 slices."""
    return 4 * 16 * 30 * n * n


@pytest.mark.parametrize("key", REGISTERED, ids="/".join)
def test_every_algorithm_has_a_form(key: tuple[str, str]) -> None:
    """In powers of two and in another world, and sliced, wherever it serves them."""
    assert key in FORMS, f"{'/'.join(key)} has no closed form in tests/oracles/forms.py"
    worlds = {case.n for case in FORMS[key].cases}
    powers = {n for n in worlds if n & (n - 1) == 0}
    assert len(worlds) > 1
    assert powers
    assert worlds - powers or ALGORITHMS[key].worlds == "powers of two"
    assert {case.slices for case in FORMS[key].cases} >= {1, 2} or key[1] == "gloo"


def test_every_form_has_an_algorithm() -> None:
    assert sorted(FORMS) == REGISTERED


@pytest.mark.parametrize(("key", "case"), CASES, ids=[name_of(*key, case) for key, case in CASES])
def test_form(key: tuple[str, str], case: Case) -> None:
    size = 4 if key[0] == "barrier" else size_of(case.n)
    latencies, share = FORMS[key].cost(case)
    for bandwidth, ps_per_byte, alpha_ps in NETWORKS:
        ideal = leaf_star if ALGORITHMS[key].one_leaf else star
        topology = ideal(case.n, bandwidth=bandwidth, latency_ps=alpha_ps // 2)
        simulated = simulate_collective(topology, *key, size, slices=case.slices, root=case.root, group=case.group)
        assert simulated.record.size_bytes == size
        assert simulated.trace.finish_ps == latencies * alpha_ps + share * size * ps_per_byte


def test_two_way_torus_that_is_not_square() -> None:
    """2 x 3 ranks; each channel has half of the buffer in 6 chunks, and alpha is as long as one of the 12 chunks: 1.

    Channel A sends 2, 2 chunks along the row, 1, 1 along the column, 2, 2; channel B 3 along the column, 1, 1, 1, 1
    along the row, 3. All ranks do the same. A message that is alone in the port takes its size, two take turns:

        A enters, size, leaves      B enters, size, leaves
        1         2     5           1         3     6         half speed to 5, when B has 1 left
        6         2     9           7         1     9         alone to 7, when A has 1 left
        10        1     12          10        1     12
        13        1     15          13        1     15
        16        2     19          16        1     18        at 18 A has 1 left
        20        2     24          19        3     24        alone to 20, when B has 2 left
    """
    size = 12 * 24_000
    chunk_ps = 24_000 * 80
    simulated = simulate_collective(star(6, latency_ps=chunk_ps // 2), "all-reduce", "torus-2d-two-way", size)
    assert simulated.trace.finish_ps == 24 * chunk_ps
