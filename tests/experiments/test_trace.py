# SPDX-License-Identifier: Apache-2.0
"""A recorded step on another fabric: its time is that of its compute and of the collectives there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.errors import InputError
from commbench.experiments.simulated import CollectiveOptions, prepare
from commbench.experiments.trace import simulate_trace
from tests.workload.test_traces import CHAKRA, MIB, STEP, chakra, kineto


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def alone_s(topology: str, size: int, **more: object) -> float:
    """An all-reduce by itself, as an aggregate flow."""
    given = {"collective": "all-reduce", "topology": topology, "ranks": 4, "detail": "collective", "library": "ideal"}
    case = prepare(CollectiveOptions(**given | more), [(str(size), None, None, None)], lambda _: None)  # type: ignore[arg-type]
    return case.run(case.sizes_bytes[0]).record.time_s


@pytest.mark.parametrize("topology", ["star-8", "dgx-h100"])
def test_a_step_is_its_compute_its_delays_and_its_exposed_collectives(tmp_path: Path, topology: str) -> None:
    """100 us of gemm, 10 until the all-reduce, 25 of gemm and its delay beside; 10 until the optimizer, 50 of it."""
    found = simulate_trace(written(tmp_path, kineto(*STEP)), topology)
    sent = alone_s(topology, 2 * MIB)
    assert found.simulated_s == pytest.approx(max(110e-6 + sent, 125e-6) + 60e-6, rel=1e-9)
    assert found.recorded_s == 250e-6
    assert found.ranks == 4
    assert found.collectives == {
        "all-reduce": {
            "number": 1, "bytes": 2 * MIB, "recorded_s": 80e-6, "simulated_s": pytest.approx(sent, rel=1e-9),
        }
    }  # fmt: skip


def test_a_chakra_step_takes_all_ranks_and_its_critical_path(tmp_path: Path) -> None:
    found = simulate_trace(written(tmp_path, chakra(*CHAKRA)), "star-8", ranks=4)
    assert found.simulated_s == pytest.approx(150e-6 + alone_s("star-8", 4 * MIB), rel=1e-9)
    assert found.recorded_s is None
    assert "it does not say of how many ranks it is: taken as 4" in found.notes


def test_a_library_decides_how_its_collectives_go(tmp_path: Path) -> None:
    path = written(tmp_path, kineto(*STEP))
    ideal, nccl = (simulate_trace(path, "dgx-h100", library=one) for one in ("ideal", "nccl"))
    sent = alone_s("dgx-h100", 2 * MIB, library="nccl", detail=None)
    assert nccl.collectives["all-reduce"]["simulated_s"] == pytest.approx(sent, rel=1e-6)
    assert nccl.simulated_s > ideal.simulated_s


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, kineto(*STEP))
    with pytest.raises(InputError, match=r"--ranks 8: .* was recorded on 4 ranks; leave the option out"):
        simulate_trace(path, "star-8", ranks=8)
    with pytest.raises(InputError, match="--library 'tccl' is unknown; known: ideal, nccl, rccl"):
        simulate_trace(path, "star-8", library="tccl")
    with pytest.raises(InputError, match="16 ranks on topology star-8: it has 8 endpoints"):
        simulate_trace(written(tmp_path, kineto(*STEP, world=16)), "star-8")


def test_the_table_fits_80_columns_and_json_is_one_object(tmp_path: Path) -> None:
    path = written(tmp_path, kineto(*STEP))
    shown = CliRunner().invoke(app, ["sim", "trace", str(path), "-t", "dgx-h100"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "it is of one rank" in " ".join(shown.stdout.split())
    assert " all-reduce" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    done = CliRunner().invoke(app, ["sim", "trace", str(path), "-t", "dgx-h100", "--json"])
    found = json.loads(done.stdout)
    assert (found["kind"], found["schema"], found["recorded_s"]) == ("simulated-trace", 1, 250e-6)
    assert "note: it is of one rank" in done.stderr
