# SPDX-License-Identifier: Apache-2.0
"""TCP connections in both engines: the same picoseconds and the same counts, on random networks."""

import os
from collections import Counter

import pytest
from hypothesis import given, settings

from commbench.engine import compiled, reference
from commbench.network.models import tcp_model
from commbench.network.packet.tcp.settings import Tcp
from tests.engine import engine_cases as cases
from tests.network.tcp_cases import tcp_cases


def _outcome(engine, case: cases.Case, given_tcp: Tcp) -> tuple[object, ...]:  # type: ignore[no-untyped-def]
    return cases.counted_outcome(engine, case, tcp_model(given_tcp))


def _compare(examples: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @given(tcp_cases())
    @settings(max_examples=examples, deadline=None)
    def compare(drawn: tuple[cases.Case, Tcp]) -> None:
        case, tcp = drawn
        expected = _outcome(reference, case, tcp)
        assert _outcome(compiled, case, tcp) == expected
        seen["cases"] += 1
        seen[tcp.congestion] += 1
        seen["fair" if tcp.fair else "one queue"] += 1
        if len(expected) > 1:
            counts = expected[4]
            assert isinstance(counts, dict)
            for name in ("drops", "repeated"):
                seen[name] += any(counts[name])

    compare()
    return seen


def test_both_engines_give_the_same_picoseconds_and_counts() -> None:
    seen = _compare(150)
    assert min(seen[name] for name in ("drops", "repeated", "reno", "cubic", "fair", "one queue")) >= 3, seen


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes minutes; set COMMBENCH_FULL=1")
def test_both_engines_give_the_same_on_a_thousand() -> None:
    assert _compare(1000)["cases"] >= 1000
