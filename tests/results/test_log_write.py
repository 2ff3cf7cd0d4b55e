# SPDX-License-Identifier: Apache-2.0
"""nccl-tests' text as commbench writes it: it is read back as it was, and its columns are nccl-tests'."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commbench.cli.main import app, outcome
from commbench.collectives.spec import COLLECTIVES, get_collective
from commbench.results.log_write import log_foot, log_head, log_row
from commbench.results.logs import read_log

PRINTED = st.sampled_from(sorted(COLLECTIVES.keys() - {"barrier"}))


@given(
    PRINTED,
    st.integers(2, 200),
    st.lists(st.tuples(st.integers(0, 34), st.floats(1e-6, 9), st.floats(1e-6, 9) | st.none()), min_size=1),
    st.sampled_from(["float32", "float16", "bfloat16", "float64", "int32"]),
    st.none() | st.integers(0, 10**6),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(
    tmp_path: Path,
    collective: str,
    ranks: int,
    points: list[tuple[int, float, float | None]],
    dtype: str,
    wrong: int | None,
) -> None:
    members = [(f"h{rank // 8}", rank % 8, "x1") for rank in range(ranks)]
    by_size = {8 * ranks * 2**power: (out, into) for power, out, into in points}
    sizes = sorted(by_size)
    width = {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)
    more = {"root": 1, "wrong": (wrong, wrong)}
    rows = [log_row(collective, ranks, size, size // width, dtype, by_size[size], **more) for size in sizes]  # type: ignore[arg-type]
    text = "\n".join([log_head(collective, members, sizes, ["a note"]), *rows, log_foot(collective, [1.0])]) + "\n"
    file = tmp_path / "w.log"
    file.write_text(text, encoding="utf-8")
    found = read_log(file).records
    wanted = [(size, place, time) for size in sizes for place, time in enumerate(by_size[size]) if time is not None]
    assert [(r.size_bytes, r.in_place) for r in found] == [(size, bool(place)) for size, place, _ in wanted]
    for record, (size, _, time) in zip(found, wanted, strict=True):
        assert record.time_s == pytest.approx(time, rel=1e-2 if time < 1e-4 else 1e-5, abs=6e-9)
        assert (record.collective, record.ranks, record.dtype, record.num_elements) == (
            collective, ranks, dtype, size // width
        )  # fmt: skip
        assert record.root == (1 if get_collective(collective).rooted else None)
        assert record.wrong == (None if wrong is None else pytest.approx(wrong, rel=1e-5))
        assert not record.problem


def test_sim_prints_a_log_that_import_takes(tmp_path: Path) -> None:
    command = "sim all-reduce -t dgx-h100-x2 --channels 8 -b 8 -e 8G -f 1024"
    text = CliRunner().invoke(app, [*command.split(), "--format", "nccl-tests"], catch_exceptions=False).stdout
    head = [line for line in text.splitlines() if "algbw" in line]
    assert " ".join(head[0].split()) == "# size count type redop root time algbw busbw #wrong time algbw busbw #wrong"
    assert all(len(line.split()) == 13 for line in text.splitlines() if not line.startswith("#"))
    (tmp_path / "s.log").write_text(text, encoding="utf-8")
    found = read_log(tmp_path / "s.log")
    assert found.notes == ()
    assert {(r.ranks, r.hosts, r.device) for r in found.records} == {(16, 2, "h100-sxm5-80gb")}
    shown = CliRunner().invoke(app, command.split(), catch_exceptions=False).stdout
    times = [float(line.split()[2]) for line in shown.splitlines() if not line.startswith("#")]
    assert [r.time_s * 1e6 for r in found.records if not r.in_place] == pytest.approx(times, rel=1e-4)


def test_a_barrier_and_json_beside_it_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["sim", "barrier", "-t", "star-8", "--format", "nccl-tests"]) == 2
    assert "nccl-tests has no barrier" in capsys.readouterr().err
    assert outcome(["sim", "all-reduce", "-t", "star-8", "--format", "nccl-tests", "--json"]) == 2
    assert "--json and --format nccl-tests: give one of them" in capsys.readouterr().err
