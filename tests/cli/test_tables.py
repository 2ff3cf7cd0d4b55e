# SPDX-License-Identifier: Apache-2.0
"""Tables of the verbs: every line fits 80 columns, and no figure that is not nothing reads 0."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.emulate import _observer
from commbench.cli.main import app
from commbench.cli.pipeline_tables import pipeline_table
from commbench.cli.run_gemm import gemm_header, gemm_row
from commbench.cli.run_overlap import overlap_table
from commbench.cli.run_tensor_parallel import tensor_parallel_table
from commbench.cli.tables import compared_table
from commbench.experiments.pipeline import PipelineTwins
from commbench.experiments.tensor_parallel import BlockTwins
from commbench.live.console import RunTable, header_lines, row, row_of_both
from commbench.live.observe import SessionFacts
from commbench.live.plan import Plan
from commbench.results.journal import read_records
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.records import Compared, Summary
from commbench.results.tensor_parallel_records import TensorParallelCompared, TensorParallelMeasured
from commbench.tables import Column, head_text, row_text
from commbench.units import format_figure, rate_unit
from tests.report import samples
from tests.report.test_live_steps import OVERLAP, PRODUCT

REPORTS = Path(__file__).resolve().parents[2] / "reports"


def _fits(text: str) -> None:
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "command",
    [
        "sim all-reduce -t dgx-h100-x2 -b 8 -e 8G -f 64 --channels 2",
        "sim train --model gpt3-1.3b --topology dgx-h100-x4 --tp 4 --pp 2 --dp 4 --microbatch 1 --global-batch 32 "
        "--device h100-sxm5-80gb --matrix-efficiency 0.6 --attention-efficiency 0.6 --memory-efficiency 0.8",
        "algorithm list",
        "algorithm crossover -t star-8 --ranks 2,4,8 -e 1M -f 32",
        "topology list",
        "topology show dgx-h100-x2",
        "topology show fat-tree-131072",
    ],
)
def test_a_table_fits_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(REPORTS.parent)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output
    _fits(done.stdout)


def test_tables_of_products_and_of_overlap_fit_80_columns() -> None:
    long = "a processor whose maker gave it a name that fills more than half a line"
    product = replace(PRODUCT, device=long, peak_flops=1.2345e15, peak_source=long)
    _fits(f"{gemm_header(product)}\n{gemm_row(product)}")
    _fits(overlap_table(replace(OVERLAP, backend="one of a long name", m=65536, n=65536, size_bytes=2**33)))


def test_tables_of_kept_records_fit_80_columns() -> None:
    for place in ("loopback", "emulated"):
        records = read_records(REPORTS / place / "validation.jsonl")
        (summary, *_) = (r for r in records if isinstance(r, Summary))
        _fits(compared_table([r for r in records if isinstance(r, Compared)], summary))
    records = read_records(REPORTS / "pipeline" / "runs.jsonl")
    kinds = (PipelineMeasured, PipelineSimulated, PipelineCompared)
    for run in {r.run for r in records}:
        parts = [[r for r in records if isinstance(r, kind) and r.run == run] for kind in kinds]
        _fits(pipeline_table([PipelineTwins(*each) for each in zip(*parts, strict=True)]))  # type: ignore[arg-type]
    records = read_records(REPORTS / "tensor-parallel" / "4-ranks.jsonl")
    blocks = [BlockTwins(r) for r in records if isinstance(r, TensorParallelMeasured)]
    _fits(tensor_parallel_table(blocks))
    assert any(isinstance(r, TensorParallelCompared) for r in records)


def test_a_slow_testbed_has_a_unit_of_its_own_and_no_zeros() -> None:
    """5 Mbit/s: 64 KiB take 0.16 s, which is 0.0004 GB/s."""
    record = samples.measured(size=65536, true_s=0.16)
    assert " 0.000 " not in row(record)
    lab = {"topology": "star-8", "routing": "ecmp", "link_rates_bytes_per_s": [625_000]}
    environment = samples.ENVIRONMENT | {"emulated": lab}
    plan = Plan(collective="all-reduce", ranks=4, sizes_bytes=(65536,), out=Path("x"), run="r")
    heads = header_lines(plan, SessionFacts("gloo", "commbench", 4, environment))
    line = row(record, unit=rate_unit(625_000)[0])
    _fits("\n".join([*heads, line]))
    assert "(MB/s)" in heads[-1]
    assert " 0.000 " not in line
    assert f"{1e3 * (record.algbw_GBps or 0):.4f}"[:5] in line


def test_the_tables_of_several_jobs_at_once_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(collective="reduce-scatter", ranks=4, sizes_bytes=(65536,), out=Path("x"), run="r")
    environment = samples.ENVIRONMENT | {"hosts": ["lab-03"] * 4, "cores_by_host": {"lab-03": 4}}
    for number in (0, 11):
        table = _observer(plan, number, 12, json=False)
        table.started(SessionFacts("gloo", "commbench", 4, environment))
        for true_s in (9.0, 9_000.0):
            table.measured(samples.measured(size=2**33, true_s=true_s))
    shown = capsys.readouterr().out
    assert "# job 11:\n" in shown
    _fits(shown)


@pytest.mark.parametrize(
    ("value", "text"),
    [(390.123, "390.1"), (5.779, "5.779"), (0.005779, "0.00578"), (1.6e-9, "1.6e-09"), (0.0, "0"), (12345.6, "12346")],
)
def test_figures_keep_what_the_column_allows(value: float, text: str) -> None:
    assert format_figure(value, 7) == text


def test_units_go_by_magnitude() -> None:
    assert [rate_unit(rate)[1] for rate in (4e11, 2e8, 6.25e6, 625.0, 3.0, 0.0)] == [
        *("GB/s", "GB/s", "MB/s", "kB/s", "B/s", "GB/s"),
    ]


def test_link_rates_are_shown_as_networks_are_sold() -> None:
    done = CliRunner().invoke(app, ["topology", "show", "star-8"])
    assert "100 Gbit/s (12.5 GB/s)" in done.stdout


def test_the_run_table_has_columns_in_place_and_out_of_place(capsys: pytest.CaptureFixture[str]) -> None:
    """As nccl-tests: a row a size, out of place first; where there is but one way, the other is not available."""
    plan = Plan(
        collective="reduce-scatter", ranks=4, sizes_bytes=(2**16, 2**33), out=Path("r"), run="r", place="both"
    )
    table = RunTable(plan)
    table.started(SessionFacts("gloo", "commbench", 4, samples.ENVIRONMENT | {"cores_by_host": {}, "hosts": ["h"] * 4}))
    for size in plan.sizes_bytes:
        for in_place, true_s in ((False, 9_000.0), (True, 0.001)):
            table.measured(replace(samples.measured(size=size, true_s=true_s), in_place=in_place))
    table.close()
    shown = capsys.readouterr().out
    _fits(shown)
    *_, over, names, _, first, second, average = shown.splitlines()
    assert over.split() == ["#", "out", "of", "place", "in", "place"]
    assert names.split() == ["#", "size", *["time", "algbw", "busbw", "#wrong"] * 2]
    assert [line.split()[0] for line in (first, second)] == [str(size) for size in plan.sizes_bytes]
    assert first.split()[1] != first.split()[5]
    assert average.startswith("# Avg bus bandwidth")
    alone = replace(samples.measured(size=2**16), in_place=True)
    assert row_of_both(None, alone).split()[:5] == ["65536", *["n/a"] * 4]
    assert row_of_both(alone, None).split()[-4:] == ["n/a"] * 4


def test_a_table_is_columns_and_values() -> None:
    columns = (
        Column("link", numeric=False, width=6),
        Column("bytes", "(B)", width=8),
        Column("share", width=6, form=".1%"),
    )
    assert head_text(columns) == "#link      bytes  share\n#            (B)"
    assert row_text(columns, ("a->b", 1024, 0.5)) == " a->b       1024  50.0%"
    assert row_text(columns, ("a->b", 1024, None)) == " a->b       1024    n/a"
    assert row_text(columns[1:], (123456789, None)) == "123456789    n/a", "a first number may take the blank before it"
