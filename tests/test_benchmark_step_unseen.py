# SPDX-License-Identifier: Apache-2.0
"""Steps that no constant was fitted to: the page's figures are the code's, and the rows are none of the fit's."""

import csv
import re
from collections import defaultdict
from statistics import fmean

import pytest

from benchmarks.published import PAGE, ROWS
from benchmarks.step_unseen import UNSEEN, group_of, predicted
from commbench.errors import InputError
from commbench.experiments.step_rows import StepRow, _row, predict, read_rows
from commbench.workload.step_costs import read_step_costs

SECTION = PAGE.read_text(encoding="utf-8").partition("no constant has seen\n")[2]
TABLES = {
    name: (int(steps), float(closed) / 100)
    for name, steps, closed in re.findall(r"^\| (\w+, [^|]+) \| (\d+) \|.*\| ([\d.]+)% \|$", SECTION, re.MULTILINE)
}
TOO_LARGE = (
    "launcher-175b-64", "launcher-175b-128", "mlperf-405b-v5.0-512", "mlperf-gpt3-v4.1-b200-64",
    *(f"bridge-{version}-405b-gb200-256" for version in ("26.02", "26.02.01", "26.04", "26.04.01", "26.06")),
)  # fmt: skip
"""To simulate; the page says so."""
NAMED = dict(re.findall(r"^- ([+-][\d.]+)% (\S+)$", SECTION, re.MULTILINE)[::-1])


@pytest.fixture(scope="module")
def rows() -> list[StepRow]:
    return read_rows(UNSEEN)[0]


def test_the_page_has_what_the_closed_form_says(rows: list[StepRow]) -> None:
    costs, errors = read_step_costs(), defaultdict[str, list[float]](list)
    for row in rows:
        if row.name not in TOO_LARGE:
            errors[group_of(row)].append(abs(predict(row, costs).iteration_s / row.measured_s - 1))
    assert set(TABLES) == set(errors)
    for name, own in errors.items():
        steps, closed = TABLES[name]
        assert (steps, closed) == (len(own), pytest.approx(fmean(own), abs=6e-4)), name


def test_the_worst_are_what_the_simulator_says(rows: list[StepRow]) -> None:
    assert len(NAMED) >= 3
    small = [row for row in rows if row.name in NAMED.values() and row.plan.degrees.num_ranks <= 1024]
    found, left = predicted(small[:2], read_step_costs())
    assert not left
    assert found
    for one in found:
        shown = next(float(error) for error, name in NAMED.items() if name == one.row.name)
        assert one.simulated == pytest.approx(shown / 100, abs=6e-4)


def test_the_readme_says_what_the_page_says() -> None:
    (steps, error), = re.findall(r"^\| \*\*all steps\*\* \| (\d+) \| [^|]+ \| ([\d.]+)% \|", SECTION, re.MULTILINE)[:1]
    readme = " ".join((PAGE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert f"{steps} of sources that no constant has seen {error} %" in readme


def test_no_source_of_the_fit_is_among_them(rows: list[StepRow]) -> None:
    fitted = {row.source for file in ROWS for row in read_rows(file)[0]}
    assert not fitted & {row.source for row in rows}
    assert len(rows) >= 100


def given(**changes: str) -> dict[str, str]:
    """The numbers of a step of Qwen3-30B-A3B."""
    row = {
        "id": "own", "layers": "48", "hidden": "2048", "heads": "32", "seq": "4096", "global_batch": "512",
        "micro_batch": "4", "precision": "bf16", "gpu": "H100", "gpus": "8", "tp": "1", "pp": "1", "dp": "8", "ep": "8",
        "recompute": "full", "iter_time_s": "20", "stack": "fsdp", "zero": "3", "preset": "qwen3-30b-a3b",
    }  # fmt: skip
    return row | changes


def test_a_preset_gives_what_columns_cannot_say() -> None:
    plan = _row(given(bytes="fp32-adam"), ["fsdp"], timed=True).plan
    assert (plan.model.num_experts, plan.model.head_size, plan.degrees.ep, plan.run.ep) == (128, 128, 8, 8)
    assert (plan.model.sequence, plan.precision.name) == (4096, "fp32-adam")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "47"}, "layers = 47 is not that of preset qwen3-30b-a3b; give 48, or no preset"),
        ({"preset": "qwen"}, "model 'qwen' is unknown"),
        ({"bytes": "few"}, "precision 'few' is unknown"),
        ({"ep": "16"}, "ep 16 does not divide cp x dp"),
    ],
)
def test_a_row_at_odds_with_its_preset_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        _row(given(**changes), ["fsdp"], timed=True)


def test_every_row_names_where_it_was_read() -> None:
    with UNSEEN.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows if "/" not in row["source"] or not row["confirmed"]] == []
