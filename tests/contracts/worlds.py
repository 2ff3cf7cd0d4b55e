# SPDX-License-Identifier: Apache-2.0
"""The requests that every registered algorithm is judged on: worlds, slices, channels, roots, hosts and sizes."""

from collections.abc import Iterable, Iterator
from itertools import product

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import ALGORITHMS
from commbench.collectives.spec import get_collective

ALGORITHM_LIST = [
    algorithm
    for (_, name), algorithm in sorted(ALGORITHMS.items())
    if name == algorithm.name  # aliases left out
]


def requests(
    algorithm: Algorithm, worlds: Iterable[int], slices: Iterable[int], channels: Iterable[int] = (1,)
) -> Iterator[Request]:
    """Every request of the grid that the algorithm serves: first, last and middle root, and whole and half hosts."""
    rooted = get_collective(algorithm.collective).rooted
    for n, k, c in product(worlds, slices, channels):
        roots = sorted({0, n // 2, n - 1}) if rooted else [0]
        groups = [g for g in (1, 2, 3, 4, n) if n % g == 0]
        sizes = (5 * n, 3001 * n, 600_000 // n * n) if algorithm.sized else (1000 * n,)
        for root, group, size in product(roots, sorted(set(groups)), sizes):
            request = Request(
                num_ranks=n, slices=k, channels=c, root=root, group=group, num_elements=size, element_bytes=4
            )
            if not algorithm.refuses(request):
                yield request


def name_of(algorithm: Algorithm, request: Request) -> str:
    """Readable test id."""
    return (
        f"{algorithm.collective}/{algorithm.name}-{request.num_ranks} ranks-{request.slices} slices-"
        f"{request.channels} channels-root {request.root}-group {request.group}-{request.num_elements} elements"
    )
