# SPDX-License-Identifier: Apache-2.0
"""No prediction and no refusal changes unseen: every kept line is found again."""

import pytest

from tests.golden.commands import REFUSED, SIMULATED
from tests.golden.keep import read_refusals, read_times, refusal, time_ps, transports

_PARTS = 12  # enough that a failure says where about; few enough to be quick


@pytest.mark.parametrize("part", range(_PARTS))
def test_simulated_times_are_as_kept(part: int) -> None:
    kept = read_times()
    commands = SIMULATED[part::_PARTS]
    assert {command: time_ps(command) for command in commands} == {command: kept[command] for command in commands}


def test_times_over_a_transport_are_as_kept() -> None:
    kept = read_times()
    assert transports().items() <= kept.items()
    assert len(kept) == len(SIMULATED) + len(transports())
    assert all(ps.isdigit() for ps in kept.values())


def test_refusals_are_as_kept() -> None:
    kept = read_refusals()
    assert {command: refusal(command) for command in REFUSED} == kept
    assert all(said.startswith(("exit 2: error: ", "exit 3: error: ")) for said in kept.values())
