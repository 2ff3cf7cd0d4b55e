# SPDX-License-Identifier: Apache-2.0
"""What ``python -m benchmarks`` says of promises and other programs: lines with bars, kept figures, timed commands."""

import sys
from pathlib import Path

from benchmarks.bars import bar_table, bars
from benchmarks.peers import KEPT, peer_table
from benchmarks.records import ColdStart
from benchmarks.training_steps import LARGEST, TrainingStep
from benchmarks.whole import QUICK_JOBS, Job, Timed, timed
from tests.bench_samples import MIB, race


def step(*walls_s: float, arguments: str = LARGEST.arguments) -> TrainingStep:
    return TrainingStep(
        arguments=arguments, ranks=16, operations=1, walls_s=walls_s, peak_bytes=MIB, time_s=1.0
    )


def test_every_promise_has_its_bar_and_the_median_of_what_was_found() -> None:
    found = bars(
        [
            race(16, ours_s=0.25, peer_s=1.0),  # 0.25 and 1.25 s against 1 and 2 s: medians 0.75 and 1.5
            race(16, ours_s=2.0, peer_s=0.5),
            race(1024, ours_s=1.0, peer_s=11.0),
            race(1024, ours_s=1.0, peer_s=12.5),
            race(256, peer_s=None),
            race(64),
            ColdStart(command="commbench --help", walls_s=(9.0, 0.1, 0.11, 0.2), cpus_s=(9.0, 0.1, 0.1, 0.1)),
            step(5.0, 7.0, 8.0),
            step(1.0, arguments="--model other"),
            Timed(what="a command", seconds=(1.0, 2.0, 0.5), bar_s=1.0),
        ]
    )
    plain = [(bar.bar.replace("\N{NO-BREAK SPACE}", " "), bar.found, bar.kept) for bar in found]
    assert [(bar, words.replace("\N{NO-BREAK SPACE}", " "), kept) for bar, words, kept in plain] == [
        ("at most 1.750 s", "750.0 ms", True),
        ("at most 1.250 s", "2.500 s", False),
        ("at least 8 x", "7.67 x", False),
        ("at least 8 x", "8.67 x", True),
        ("at most 120.0 ms", "110.0 ms", True),
        ("at most 6.000 s", "7.000 s", False),
        ("at most 1.000 s", "1.000 s", True),
    ]
    assert [row[-1].text for row in bar_table(found).rows] == ["yes", "NO", "NO", "yes", "yes", "NO", "yes"]


def test_kept_figures_stand_apart_and_give_way_to_what_was_measured() -> None:
    assert len(peer_table([]).rows) == len(KEPT)
    left = [row[0].text for row in peer_table(["SimGrid"]).rows]
    assert not [name for name in left if name.startswith("SimGrid")]
    assert {name.split()[0].rstrip(",") for name in left} == {"LogGOPSim", "ASTRA-sim", "SimPy"}
    assert "not measured here" in peer_table([]).title


def test_what_a_command_tells_is_its_time_and_its_first_run_is_not_counted(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"import pathlib; p = pathlib.Path({str(count)!r}); n = len(p.read_text()) if p.exists() else 0; "
    script += "p.write_text('x' * (n + 1)); print(n + 0.5)"
    job = Job("counts", (sys.executable, "-S", "-c", script), 3.0, tells=True)
    (one,) = timed([job], 2, lambda words: None)
    assert one.seconds == (1.5, 2.5)
    slept = Job("sleeps", ("sleep", "0.2"), 3.0)
    (one,) = timed([slept], 1, lambda words: None)
    assert 0.2 <= one.seconds[0] < 3


def test_compiled_code_is_loaded_and_told(tmp_path: Path) -> None:
    (one,) = timed(QUICK_JOBS, 1, lambda words: None)
    assert 0 < one.seconds[0] < 30
