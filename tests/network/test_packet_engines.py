# SPDX-License-Identifier: Apache-2.0
"""Packets in both engines: the same picoseconds and the same counts, on random networks."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings

from commbench.engine import compiled, reference
from commbench.engine.setting import Change, What
from commbench.network.models import packet_model
from commbench.network.packet.settings import BALANCES, CONTROLS, Packets
from tests.engine import engine_cases as cases
from tests.network.packet_cases import packet_cases


def _outcome(engine, case: cases.Case, packets: Packets) -> tuple[object, ...]:  # type: ignore[no-untyped-def]
    return cases.counted_outcome(engine, case, packet_model(packets))


def _compare(examples: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @given(packet_cases())
    @settings(max_examples=examples, deadline=None)
    def compare(drawn: tuple[cases.Case, Packets]) -> None:
        case, packets = drawn
        expected = _outcome(reference, case, packets)
        assert _outcome(compiled, case, packets) == expected
        seen["cases"] += 1
        if len(expected) == 1:
            return
        counts = expected[4]
        assert isinstance(counts, dict)
        for name in ("marks", "drops", "trims", "pauses", "repeated", "reordered"):
            seen[name] += any(counts[name])
        seen[packets.control] += 1
        seen[packets.balance] += 1
        seen["changes"] += len(case[1].changes) > 0

        seen["sprayed ndp"] += packets.control == "ndp" and packets.balance == "spray"

    compare()
    return seen


def test_both_engines_give_the_same_picoseconds_and_counts() -> None:
    seen = _compare(150)
    wanted = ("drops", "trims", "pauses", "repeated", "reordered", *CONTROLS, *BALANCES)
    assert min(seen[name] for name in wanted) >= 3, seen


@pytest.mark.full
@pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes minutes; set COMMBENCH_FULL=1")
def test_both_engines_give_the_same_on_a_thousand() -> None:
    assert _compare(1000)["cases"] >= 1000


@pytest.mark.parametrize(
    ("control", "pfc"), [*((each, pfc) for each in CONTROLS[:3] for pfc in (True, False)), ("ndp", False)]
)
def test_an_incast_of_many_packets_needs_more_room_than_was_there(control: str, pfc: bool) -> None:
    """Eight senders of 300 packets: the compiled state grows, and its times stay those of the reference."""
    rows = [(1, sender, 8, 30_000, 0, ()) for sender in range(8)]
    paths = cases.Paths.of_lists([1e9] * 9, [(sender, 8) for sender in range(8)], [0] * 8, list(range(8)))
    setting = cases.Setting(cases.replace(paths, link_latencies_ps=np.full(9, 1_000_000)))
    room = {"xoff_bytes": 20_000, "xon_bytes": 10_000, "buffer_bytes": 9999, "ecn_max_bytes": 8000}
    packets = Packets(control=control, mtu_bytes=100, pfc=pfc, **room)
    case = cases.program_of(rows), setting
    expected = _outcome(reference, case, packets)
    assert _outcome(compiled, case, packets) == expected
    assert len(expected) == 5
    counts = expected[4]
    assert isinstance(counts, dict)
    assert any(counts["marks"]) == (control == "dcqcn")
    assert any(counts["drops"]) == (not pfc and control != "ndp")
    assert any(counts["trims"]) == (control == "ndp")


def test_messages_move_to_another_route_in_ascending_number() -> None:
    """The second to begin has the lower number: both engines let it join the turn of the new link first."""
    rows: list[tuple[int, int, int, int, int, Sequence[int]]] = [(1, 0, 0, 0, 0, ()), (1, 0, 0, 700, 0, (2,))]
    rows += [(0, 0, -1, 0, 0, ()), (1, 0, 0, 0, 0, ())]
    paths = cases.Paths.of_lists([1e12] * 3, [(0, 1), (1, 2)], [0, 0], [0, 1, -1, 1])
    paths = cases.replace(paths, link_latencies_ps=np.zeros(3, dtype=np.int64))
    setting = cases.Setting(paths, changes=(Change(100, What.ROUTE, 1, 0),))
    case, packets = (cases.program_of(rows), setting), Packets(mtu_bytes=100, header_bytes=0, xoff_bytes=0, xon_bytes=0)
    assert _outcome(compiled, case, packets) == _outcome(reference, case, packets)
