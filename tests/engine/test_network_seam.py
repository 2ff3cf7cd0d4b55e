# SPDX-License-Identifier: Apache-2.0
"""A network model from outside the package, behind the same engines: by hand, in both of them, and by its name."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.collectives.registry import DEFAULTS
from commbench.engine import compiled, reference
from commbench.engine.setting import CUT_OFF, Paths, Setting, What
from commbench.errors import InputError
from commbench.network.base import NetworkKernel, NetworkModel, Wiring
from commbench.network.fluid import FluidNetwork
from commbench.network.models import NETWORKS, get_network
from commbench.program.flat import TRANSFER
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective
from tests.engine import engine_cases as cases
from tests.engine.store_and_forward import MODEL


@pytest.mark.parametrize("engine", [reference, compiled], ids=lambda engine: engine.ENGINE)
def test_one_flow_at_a_time_on_each_link(engine) -> None:  # type: ignore[no-untyped-def]
    """100 B at 1 B/ps over two links: 200; the other waits 100 for the first link and never again. Fluid: half each."""
    program = cases.program_of([(TRANSFER, 0, 1, 100, 0, ()), (TRANSFER, 2, 3, 100, 0, ())])
    setting = Setting(Paths.of_lists([1e12, 1e12], [(0, 1)], [0], [0, 0]))
    assert engine.run(program, setting, network=MODEL).end_ps.tolist() == [200, 300]
    assert engine.run(program, setting).end_ps.tolist() == [200, 200]


def test_both_engines_give_the_same_picoseconds() -> None:
    """Random programs, with bandwidths, routes and ranks that change, but for routes over no link."""
    seen: Counter[str] = Counter()

    @given(cases.changing_cases())
    @settings(max_examples=150, deadline=None)
    def compare(case: cases.Case) -> None:
        program, setting = case
        hops = np.diff(setting.paths.first)
        kept = [c for c in setting.changes if c.what != What.ROUTE or (c.value != CUT_OFF and hops[int(c.value)])]
        setting = replace(setting, changes=tuple(kept))
        one, other = (engine.run(program, setting, network=MODEL) for engine in (reference, compiled))
        assert one.start_ps.tolist() == other.start_ps.tolist()
        assert one.end_ps.tolist() == other.end_ps.tolist()
        assert one.num_shares == other.num_shares
        seen["another time than fluid"] += one.finish_ps != reference.run(program, setting).finish_ps

    compare()
    assert seen["another time than fluid"] >= 20


def test_a_model_is_named_and_gets_the_links_latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: list[Wiring] = []

    def make(wiring: Wiring) -> FluidNetwork:
        given_to.append(wiring)
        return FluidNetwork(wiring.bandwidths.tolist())

    fabric = load_fabric("star-8")
    monkeypatch.setitem(NETWORKS, "mine", NetworkModel("mine", make, NETWORKS["fluid"].kernel))
    record = simulate_collective(fabric, "all-reduce", "ring", 8192, engine="reference", network="mine").record
    fluid = simulate_collective(fabric, "all-reduce", "ring", 8192).record
    assert (record.network, record.time_s) == ("mine", fluid.time_s)
    assert np.array_equal(given_to[0].latencies_ps, fabric.latencies_ps)
    assert len(given_to[0].buffers_bytes) == 0
    for detail in ("folded", "collective"):
        with pytest.raises(InputError, match="--network mine simulates every transfer: give --detail transfer"):
            simulate_collective(fabric, "all-reduce", "ring", 8192, network="mine", detail=detail, keep_trace=False)


@pytest.mark.parametrize("collective", ["all-reduce", "all-to-all"])  # rounds that fold, and what is simulated whole
def test_what_is_folded_asks_the_named_model_too(collective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fluid = NETWORKS["fluid"]

    def kernel() -> NetworkKernel:
        asked.append("other")
        return fluid.kernel()

    other = NetworkModel("other", fluid.make, kernel, weighted=True)
    monkeypatch.setattr("commbench.network.models.NETWORKS", {**NETWORKS, "other": other})
    given = {"size_bytes": 2**20, "detail": "folded", "keep_trace": False}
    done = [
        simulate_collective(load_fabric("star-8"), collective, DEFAULTS[collective], network=name, **given).record
        for name in ("fluid", "other")
    ]
    assert asked == ["other"]
    assert done[0].time_s == done[1].time_s


def test_an_unknown_model_is_refused_with_a_list() -> None:
    with pytest.raises(InputError, match=r"'packets' is unknown; known: fluid, packet\[:none\|dcqcn\|swift\|ndp\|tcp"):
        get_network("packets")


def test_the_option_refuses_with_the_same_words() -> None:
    words = "sim all-reduce -t star-8 -b 8K -e 8K --network packets"
    found = CliRunner().invoke(app, words.split())
    assert isinstance(found.exception, InputError)
    known = "fluid, packet[:none|dcqcn|swift|ndp|tcp], auto"
    assert str(found.exception) == f"--network 'packets' is unknown; known: {known}"
