# SPDX-License-Identifier: Apache-2.0
"""``commbench sim --library nccl``: what it prints, what it records, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.results.log_text import tables_of_text


def sim(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["sim", *words])
    assert done.exit_code == code, done.output
    return done.output if code == 0 else str(done.exception)


def test_every_size_shows_what_the_library_takes() -> None:
    given = ["all-reduce", "--topology", "dgx-h100-x4", "--library", "nccl", "--nccl-version", "2.21"]
    lines = sim(*given, "-b", "8", "-e", "8G", "-f", "2").splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit() and len(line.split()) == 9]
    assert lines[0].startswith("# simulated all-reduce as nccl 2.21 on dgx-h100-x4: 32 ranks")
    assert [int(row[0]) for row in rows] == [2**n for n in range(3, 34)]
    assert rows[0][6:] == ["Tree", "LL", "1"]
    assert {"NVLSTree"} <= {row[6] for row in rows}
    assert float(rows[-1][4]) == pytest.approx(385, rel=0.1)


def test_what_collective_detail_cannot_have_takes_single_transfers(tmp_path: Path) -> None:
    file = tmp_path / "dead.yaml"
    file.write_text("faults:\n  - {kind: link, at: 0 s, src: h0/nic3, dst: leaf3, direction: both, factor: 0}\n")
    given = ["all-reduce", "-t", "dgx-h100-x2", "--library", "nccl", "-b", "1G", "-e", "1G", "--json"]
    records = [json.loads(sim(*given, *more).splitlines()[-1]) for more in ([], ["--scenario", str(file)])]
    assert [record["detail"] for record in records] == ["collective", "transfer"]
    assert records[1]["shortcut"] == "messages of ring, paced as NVLSTree"
    assert records[1]["terms"]["perturbation"] > 0.15 * records[1]["time_s"]  # its NIC's messages share another one
    assert sum(records[1]["terms"].values()) == pytest.approx(records[1]["time_s"])
    said = sim(*given, "--scenario", str(file), "--detail", "collective", code=1)
    assert "of a --scenario it takes slower links alone; give --detail transfer" in said


def test_a_type_that_is_not_there_yet_is_not_called_as_fast() -> None:
    said = sim("all-reduce", "-t", "dgx-h100", "--library", "nccl", "-d", "uint64", code=1)
    assert "another type moves as many, but for what the switches add (NVLS), which not every type has" in said


def test_the_record_says_library_version_protocol_and_where_the_time_goes() -> None:
    given = ["all-reduce", "-t", "dgx-a100", "--library", "nccl", "--nccl-version", "2.19.3"]
    line = sim(*given, "-b", "8M", "-e", "8M", "--json")
    record = json.loads(line.splitlines()[-1])
    told = {key: record[key] for key in ("library", "library_version", "algorithm", "protocol", "detail", "channels")}
    assert told == {
        **{"library": "nccl", "library_version": "2.19.3", "algorithm": "Ring", "protocol": "LL128"},
        **{"detail": "collective", "channels": 24},
    }
    assert sum(record["terms"].values()) == pytest.approx(record["time_s"])


def test_explain_adds_up_and_names_the_candidates() -> None:
    text = sim("all-reduce", "-t", "dgx-h100", "--library", "nccl", "-b", "8M", "-e", "8M", "--explain")
    parts = next(line for line in text.replace("\n#   ", " ").splitlines() if " us = " in line)
    total, rest = parts.removeprefix("# ").split(" us = ")
    assert sum(float(part.split()[1]) for part in rest.split(", ")) == pytest.approx(float(total), abs=0.05)
    assert "NVLS Simple is " in text
    assert "Ring LL128" in text


def test_a_graph_says_whose_floor_it_takes() -> None:
    given = ["all-reduce", "-t", "dgx-h100", "--library", "nccl", "-b", "1M", "-e", "1M", "--launch-mode", "graph"]
    assert "that of --launch-mode process is assumed" in CliRunner().invoke(app, ["sim", *given]).stderr


@pytest.mark.parametrize(
    ("topology", "library", "told"), [("dgx-h100", "nccl", ("NCCL", "2.21")), ("mi300x", "rccl", ("RCCL", "2.21"))]
)
def test_the_version_stands_in_the_log_of_nccl_tests(topology: str, library: str, told: tuple[str, str]) -> None:
    given = ["all-reduce", "-t", topology, "--library", library, "--nccl-version", "2.21", "-b", "1G", "-e", "1G"]
    (table,) = tables_of_text(sim(*given, "--format", "nccl-tests"), "log")
    assert (table.library, table.version) == told
    assert len(table.rows) == 1


def test_tcpx_goes_in_rings_at_every_size() -> None:
    text = sim("all-reduce", "-t", "a3-high-x2", "--library", "nccl", "-b", "8", "-e", "1G", "-f", "8")
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert {row[6] for row in rows} == {"Ring"}
    assert len(rows) == 10


def test_options_of_the_library_change_the_time() -> None:
    def row(*more: str) -> list[str]:
        given = ["all-reduce", "-t", "dgx-h100", "--library", "nccl", "-b", "1G", "-e", "1G", *more]
        return next(line.split() for line in sim(*given).splitlines() if line.strip().startswith("1073741824"))

    assert row()[6] == "NVLS"
    assert row("--nvls", "off")[6] == "Ring"
    small = ["all-reduce", "-t", "dgx-a100", "--library", "nccl", "-b", "8", "-e", "8"]
    one, all_in_one = (sim(*small, "--launch-mode", how).splitlines()[-2].split() for how in ("process", "threads"))
    assert float(all_in_one[2]) > 1.3 * float(one[2])


@pytest.mark.parametrize(
    ("words", "library"),
    [
        ("all-reduce -t dgx-h100", "nccl"),
        ("all-reduce -t mi300x", "rccl"),
        ("all-reduce -t dgx-h100 --nccl-version 2.19", "nccl"),
        ("all-reduce -t dgx-h100 --library ideal", "schedule"),
        ("all-reduce -t dgx-h100 -a ring", "schedule"),
        ("all-reduce -t dgx-h100 --channels 8", "schedule"),
        ("all-reduce -t fat-tree-16", "schedule"),
    ],
)
def test_gpus_bring_their_library_unless_a_schedule_is_named(words: str, library: str) -> None:
    done = CliRunner().invoke(app, ["sim", *words.split(), "-b", "1M", "-e", "1M", "--json"])
    assert json.loads(done.stdout)["library"] == library
    assert "library ideal" not in done.stderr


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ("all-reduce -t dgx-h100", "reference"),  # one flow
        ("broadcast -t star-8 -a binomial", "reference"),  # 7 transfers
        ("broadcast -t star-8 -a binomial --engine compiled", "compiled"),
        ("all-reduce -t star-8 -a ring", "compiled"),  # 112 transfers
        ("all-reduce -t star-8 -a ring --engine reference", "reference"),
    ],
)
def test_the_record_names_the_engine_that_ran(words: str, engine: str) -> None:
    record = json.loads(sim(*words.split(), "-b", "1M", "-e", "1M", "--json").splitlines()[-1])
    assert record["engine"] == engine
    both = [sim(*words.split(" --engine")[0].split(), "-b", "1M", "-e", "1M", "--json", "--engine", one)
            for one in ("compiled", "reference")]  # fmt: skip
    assert len({json.loads(text.splitlines()[-1])["time_s"] for text in both} | {record["time_s"]}) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("all-to-all -t dgx-h100-x2", "no constants for h100-sxm5-80gb over nvswitch and ib"),
        ("barrier -t dgx-h100", "the model of nccl has no barrier"),
        ("all-reduce -t dgx-h100 --detail folded", "simulates a schedule, and nccl has a model"),
        ("all-reduce -t dgx-h100 --network packet --engine reference", "--network packet simulates messages at wire"),
        ("all-reduce -t dgx-h100-x2 -g 9", "knows hosts of equally many ranks alone"),
    ],
)
def test_what_the_model_does_not_know_is_ideal_and_says_so(words: str, why: str) -> None:
    size = [] if words.startswith("barrier") else ["-b", "1M", "-e", "1M"]
    done = CliRunner().invoke(app, ["sim", *words.split(), *size, "--json"])
    assert json.loads(done.stdout)["library"] == "schedule"
    assert why in done.stderr
    assert "library ideal: links at their rates, no more" in done.stderr


def test_a_size_that_the_model_does_not_know_is_na_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    from commbench.libraries.nccl import predictor

    fewer = {name: value for name, value in predictor.values().items() if not name.startswith("wire.NVLS")}
    monkeypatch.setattr(predictor, "values", lambda: fewer)
    given = ["sim", "all-reduce", "-t", "dgx-h100", "--library", "nccl"]
    done = CliRunner().invoke(app, [*given, "-b", "1M", "-e", "8M", "-f", "8"])
    assert done.exit_code == 0
    assert "8 MiB: n/a: library nccl: no constants for" in done.stderr
    assert "\n     1048576 " in done.stdout
    assert "8388608" not in done.stdout
    assert "no constants" in str(CliRunner().invoke(app, [*given, "-b", "8M", "-e", "8M"]).exception)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-t", "dgx-h100", "--library", "mpi"], "known: ideal, nccl, rccl"),
        (["-t", "dgx-h100", "--library", "ideal", "--nccl-version", "2.21"], "--nccl-version goes with --library nccl"),
        (["-t", "dgx-h100", "-a", "ring", "--nccl-version", "2.21"], "-a goes with --library ideal: nccl chooses"),
        (["-t", "dgx-h100", "-a", "ring", "--detail", "collective", "--explain"], "--explain follows single transfers"),
        (["-t", "dgx-h100-x4", "--library", "nccl", "-g", "9"], "9 ranks lie on 2 hosts, 1 to 8 on each"),
        (["-t", "gb200-nvl72-x2", "--library", "nccl", "-g", "80"], "80 ranks lie on 2 hosts, 8 to 72 on each"),
        (["-t", "dgx-h100", "--library", "nccl", "-a", "ring"], "-a goes with --library ideal"),
        (["-t", "dgx-h100", "--library", "nccl", "--channels", "8"], "--channels goes with --library ideal"),
        (["-t", "dgx-a100", "--library", "nccl", "--nvls", "on"], "has no NVLS"),
        (["-t", "dgx-h100", "--library", "nccl", "--nvls", "maybe"], "give on or off"),
        (["-t", "dgx-h100", "--library", "nccl", "--launch-mode", "mpi"], "is none of process, threads, graph"),
        (["-t", "dgx-h100", "--library", "nccl", "--nccl-version", "new"], "give it as 2.21"),
        (["-t", "dgx-h100", "--library", "nccl", "--detail", "folded"], "give --detail collective"),
        (
            ["-t", "dgx-h100", "--library", "nccl", "--detail", "transfer", "--network", "packet"],
            "a library's model paces its messages for --network fluid",
        ),
        (["-t", "dgx-h100", "--library", "rccl"], "its GPUs take nccl"),
        (["-t", "fat-tree-16", "--library", "nccl"], "names no GPU"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], complaint: str) -> None:
    assert complaint in sim("all-reduce", *words, "-b", "1M", "-e", "1M", code=1)


GRAPH = """<graphs version="1">
  <graph id="0" pattern="4" nchannels="1" speedintra="12" speedinter="12" latencyinter="0" typeintra="SYS"
    typeinter="PIX"><channel><gpu dev="0"/><gpu dev="1"/><gpu dev="2"/><gpu dev="3"/></channel></graph>
  <graph id="1" pattern="1" nchannels="1" speedintra="12" speedinter="12" typeintra="SYS" typeinter="PIX">
    <channel><gpu dev="0"/><gpu dev="1"/><gpu dev="2"/><gpu dev="3"/></channel></graph>
  <graph id="3" pattern="5" nchannels="0" speedintra="0" speedinter="0" typeintra="SYS" typeinter="PIX"/>
</graphs>
"""


def test_graphs_that_nccl_found_take_the_place_of_the_search(tmp_path: Path) -> None:
    """One channel of 12 GB/s over the sockets, where the model's search finds NVLinks."""
    file = tmp_path / "graph.xml"
    file.write_text(GRAPH)
    given = ["all-reduce", "-t", "dgx-h100", "--ranks-per-host", "4", "-b", "1G", "-e", "1G", "--json"]
    usual, found = (json.loads(sim(*given, *more).splitlines()[-1]) for more in ([], ["--nccl-graph", str(file)]))
    assert found["library_version"].endswith("graphs as found there")
    assert found["channels"] < usual["channels"]
    assert found["time_s"] > 5 * usual["time_s"]


@pytest.mark.parametrize(
    ("change", "words", "complaint"),
    [
        (("", ""), ["-t", "dgx-h100"], "its channels have 4 GPUs; of a host 8 take part: give --ranks-per-host 4"),
        (("", ""), ["-t", "dgx-h100-x2", "--ranks-per-host", "4"], "its channels stay on one host, and the ranks"),
        (('speedintra="12"', 'speedintra="fast"'), [], "graph ring: speedintra must be a number of at least 0"),
        (('id="0"', 'id="9"'), [], "has no ring (graph id 0) with channels"),
        (("graphs", "system"), [], "not NCCL's <graphs> (NCCL_GRAPH_DUMP_FILE)"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(
    change: tuple[str, str], words: list[str], complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "graph.xml"
    file.write_text(GRAPH.replace(*change) if change[0] else GRAPH)
    given = words or ["-t", "dgx-h100", "--ranks-per-host", "4"]
    done = CliRunner().invoke(app, ["sim", "all-reduce", *given, "-b", "1M", "-e", "1M", "--nccl-graph", str(file)])
    assert done.exit_code != 0
    assert complaint in str(done.exception)
