# SPDX-License-Identifier: Apache-2.0
"""What tells two results apart is in the record, in the series, in the legend and in the table."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.report.identity import identity, labels, word
from commbench.report.kinds import FIELDS, LAB
from commbench.report.series import curve_panels, error_panels
from commbench.report.tables import compared_table, measured_table, simulated_table
from commbench.results.journal import read_records
from commbench.results.kinds import KINDS
from commbench.results.records import Compared, Measured, Record, Simulated
from commbench.results.run_id import new_run_id
from tests.report import samples
from tests.report.outcomes import OUTCOMES

LAB_FACTS = {
    "topology": "star-8",
    "routing": "ecmp",
    "link_rates_bytes_per_s": [2_500_000],
    "hash_seed": 1,
    "mtu": 1500,
    "shaping": {"fair": True, "congestion": "reno"},
    "jobs": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "job": 0,
    "background": [[0, 6]],
    "faults": [],
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
def test_every_field_is_part_of_the_identity_or_stated_to_be_an_outcome(kind: type[Record]) -> None:
    """A field that is added to a record must be put into one of the two."""
    fields = {field.name for field in dataclasses.fields(kind)}
    told, outcomes = set(FIELDS[kind]), OUTCOMES[kind]
    assert not told & outcomes
    assert told | outcomes >= fields, "neither in the identity nor in the list of outcomes"
    assert outcomes <= fields
    assert told - fields <= set(LAB), "what is no field comes from the lab"


def _records() -> dict[type[Record], Record]:
    measured, simulated = samples.measured(), samples.simulation(size=samples.MIB).record
    (compared,) = samples.compared_records([measured], [simulated])
    return {Measured: measured, Simulated: simulated, Compared: compared}


def _other(value: Any, name: str) -> Any:
    if name == "weights":
        return (*range(1, 17),)  # for each two of four ranks
    if value == ():
        return ({"ranks": [0, 1], "time_s": 1.0}, {"ranks": [2, 3], "time_s": 1.0})
    if value is None:
        return True
    return f"other {value}" if isinstance(value, str) else type(value)(value + 1)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for k in (Measured, Simulated, Compared) for n in FIELDS[k] if n not in LAB and n != "ranks"],
    ids=lambda value: getattr(value, "kind", value),
)
def test_results_that_differ_in_one_part_are_two_lines_with_two_names_and_two_rows(
    kind: type[Record], name: str
) -> None:
    one = _records()[kind]
    two: Any = dataclasses.replace(one, **{name: _other(getattr(one, name), name)})
    assert identity(one) != identity(two)
    if kind is Compared:
        assert len(error_panels([one, two])) == 2
    else:
        panels = curve_panels([one, two])
        names = [(panel.collective, series.name) for panel in panels for series in panel.series]
        assert len(set(names)) == 2
        assert all(len(series.points) == 1 for panel in panels for series in panel.series)
    table = {Measured: measured_table, Simulated: simulated_table, Compared: compared_table}[kind]([one, two])
    assert table is not None
    (column,) = [i for i, column in enumerate(table.columns) if column.title == name.replace("_", " ")]
    assert table.rows[0][column].text != table.rows[1][column].text


@pytest.mark.parametrize(
    ("fact", "other", "said"),
    [
        ("topology", "star-4", "star-4 ecmp"),
        ("link_rates_bytes_per_s", [6_250_000], "50 Mbit/s"),
        ("faults", [{"fault": "LinkFault", "src": "h0", "factor": 0.5}], "fault LinkFault, src h0, factor 0.5"),
        ("background", [], "no other flows"),
        ("job", 1, "job 1 of 0 1 2 3; 4 5 6 7"),
        ("mtu", 9000, "TCP reno, mtu 9000, fair yes"),
    ],
)
def test_two_labs_are_two_lines(fact: str, other: object, said: str) -> None:
    one = samples.measured(environment={"emulated": LAB_FACTS})
    two = samples.measured(environment={"emulated": LAB_FACTS | {fact: other}})
    (panel,) = curve_panels([one, two])
    assert [len(series.points) for series in panel.series] == [1, 1]
    assert panel.series[1].name == f"ring, {said}"
    table = measured_table([one, two])
    assert table is not None
    assert said in [cell.text for cell in table.rows[1]]


def test_channels_scenarios_and_second_runs_into_one_file_are_lines_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    for name, content in (("one", "0.5"), ("two", "0.25")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "busy.yaml").write_text(
            f"faults:\n  - {{at: 0 us, kind: slow-rank, rank: 0, factor: {content}}}\n", "utf-8"
        )
    sweep = ["sim", "all-reduce", "-t", "star-8", "-b", "1K", "-e", "2K", "--out", str(out)]
    runs: list[list[str]] = [["--channels", "1"], ["--channels", "2"], ["--channels", "4"]]
    runs += [["--scenario", str(tmp_path / name / "busy.yaml")] for name in ("one", "two")]
    runs += [["--jitter", "0.1"], ["-d", "float64"], ["--channels", "1"]]
    for options in runs:
        assert CliRunner().invoke(app, [*sweep, *options]).exit_code == 0
    records = [record for record in read_records(out) if isinstance(record, Simulated)]
    (panel,) = curve_panels(records)
    assert [len(series.points) for series in panel.series] == [2] * len(runs)
    assert len({record.run for record in records}) == len(runs)
    assert len({series.name for series in panel.series}) == len(runs)
    found = labels(records)
    assert found[0] == found[1] != found[2]
    assert "2 channels" in found[2]
    assert {"busy", f"content {records[6].scenario_digest}"} <= set(found[6])
    assert records[6].scenario_digest != records[8].scenario_digest
    assert "jitter 0.1" in found[10]
    assert "8 B" in found[12]


def test_a_run_that_a_file_named_is_told_without_its_time_too() -> None:
    assert word("run", "today 20260728T091500Z-0a1b2c3d") == "run today 0a1b2c3d"


def test_jobs_of_many_ranks_are_told_in_few_words() -> None:
    one = _records()[Simulated]

    def told(*jobs: range | list[int]) -> str:
        return identity(dataclasses.replace(one, jobs=tuple({"ranks": [*j], "time_s": 1.0} for j in jobs)))["jobs"]

    assert told(range(0, 16, 2), range(1, 16, 2)) == "0 2 .. 14; 1 3 .. 15"
    assert told([0, 1, 4, 5], [9, 3, *range(10, 20)]) == "0 1 4 5; 9 3 10 11 .. 19"
    odd = [i * i for i in range(100)]
    assert told(odd, odd[::-1]).startswith("2 of 100 ranks, content ")
    assert told(odd, odd[::-1]) != told(odd[::-1], odd)


def test_only_what_differs_is_told() -> None:
    one = _records()[Simulated]
    assert labels([one, dataclasses.replace(one, channels=4, run="b")]) == [("1 channel",), ("4 channels",)]
    assert labels([one, dataclasses.replace(one, run="b")]) == [(), ("run b",)]


def test_a_run_is_told_by_what_no_other_run_shares() -> None:
    """The last eight digits of its id: runs that start in the same second differ there."""
    ids = ("20260728T091500Z-0a1b2c3d", "20260728T091500Z-4e5f6071")
    assert labels([samples.measured(run=run) for run in ids]) == [("run 0a1b2c3d",), ("run 4e5f6071",)]
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", new_run_id())


def test_what_a_library_chooses_from_size_to_size_breaks_no_line() -> None:
    """One curve, as nccl-tests prints one: algorithm, protocol and channels stand in the rows."""
    one = samples.simulation(size=samples.MIB).record
    base = dataclasses.replace(one, library="nccl", library_version="2.21", algorithm="Tree", protocol="LL", channels=1)
    other = dataclasses.replace(base, size_bytes=2**30, algorithm="Ring", protocol="Simple", channels=16)
    assert identity(base) == identity(other)
    (panel,) = curve_panels([base, other])
    assert [(line.name, len(line.points)) for line in panel.series] == [("nccl 2.21", 2)]
    table = simulated_table([base, other])
    assert table is not None
    takes = [column.title for column in table.columns].index("takes")
    assert [row[takes].text for row in table.rows] == ["Tree LL, 1 channel", "Ring Simple, 16 channels"]
    plain = simulated_table([one])
    assert plain is not None
    assert "takes" not in {*(column.title for column in plain.columns), *dict(plain.common)}
