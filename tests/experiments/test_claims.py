# SPDX-License-Identifier: Apache-2.0
"""Claims in experiment files: the verdicts of those that ship, how one is reached, and what is refused."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.claims import CLAIMS, judged, section
from commbench.cli.main import app
from commbench.errors import InputError
from commbench.experiments.claim import Claim, read_claim, verdict
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_options import simulate_options
from commbench.results.steps import SimulatedStep

PAGE = (Path(__file__).parents[2] / "docs/claims.md").read_text(encoding="utf-8")
LONG = {"gpt4-on-3125-a100-servers-in-95-days", "a-better-library-gives-40-percent"}
WHOLE = (pytest.mark.full, pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="set COMMBENCH_FULL=1"))
FILES = [
    pytest.param(file, id=file.stem, marks=WHOLE if file.stem in LONG else ())
    for file in sorted(CLAIMS.glob("*.yaml"))
]
TEXT = """\
cluster: {topology: [star-8, fat-tree-16]}
library: ideal
workload: {collective: all-reduce, algorithm: ring}
sizes: 8K
claim: {says: more nodes are slower, source: here, quantity: time, of: growth, at-least: 1.5}
"""


@pytest.mark.parametrize("file", FILES)
def test_the_page_has_the_verdict_of_the_simulation(file: Path) -> None:
    assert section(file, *judged(file)) in PAGE


def test_the_page_has_every_claim_and_there_are_more_than_ten() -> None:
    assert PAGE.count("\n## ") == len(FILES) > 10
    for file in CLAIMS.glob("*.yaml"):
        assert f"$ commbench sim sims/claims/{file.name}\n" in PAGE


@pytest.fixture(scope="module")
def step() -> SimulatedStep:
    options = StepOptions(
        model="gpt3-125m", topology="dgx-h100", tp=2, pp=2, dp=2, microbatch=1, global_batch=8, sequence=1024
    )
    return simulate_options(options)


def claim(**given: object) -> Claim:
    return Claim(**{"says": "so", "source": "here"} | given)  # type: ignore[arg-type]


def test_days_are_those_of_all_tokens(step: SimulatedStep) -> None:
    one = replace(step, iteration_s=1.0)
    asked = claim(quantity="days", tokens=8192 * 86400 * 10.0, at_most=10)
    assert verdict(asked, [one]) == "holds: simulated 10 days, claimed at most 10"


def test_a_claim_that_needs_faster_gpus_says_how_fast(step: SimulatedStep) -> None:
    """Model FLOP of the step over 8 GPUs, made 30 % of their peak: 3 times as fast is 90 %, 4 times as fast is none."""
    one = replace(step, iteration_s=step.model_flops / (8 * step.peak_flops * 0.3))
    tokens = 8192 * 86400 / one.iteration_s * 30
    three = verdict(claim(quantity="days", tokens=tokens, at_most=10), [one])
    assert three.startswith("holds if a GPU reaches 891 of its 990 TFLOP/s (90%; simulated 297): simulated 30 days")
    assert verdict(claim(quantity="days", tokens=tokens, at_most=7.5), [one]).startswith("does not hold: simulated 30")
    slower = verdict(claim(quantity="days", tokens=tokens, at_least=60), [one])
    assert slower.startswith("holds if a GPU reaches 148 of its 990 TFLOP/s (15%;")


def test_gpus_and_flops_are_those_of_the_days(step: SimulatedStep) -> None:
    one = replace(step, iteration_s=1.0)
    tokens = 8192 * 86400 * 10.0
    assert verdict(claim(quantity="gpus", tokens=tokens, days=5.0, at_most=15), [one]) == (
        "does not hold: simulated 16 GPUs, claimed at most 15"
    )
    found = verdict(claim(quantity="flops", tokens=tokens, days=10.0, at_least=1), [one])
    assert found.startswith(f"holds: simulated {step.model_flops:.3g} FLOP/s")


def test_a_claim_that_some_runs_bear_out_names_them(step: SimulatedStep) -> None:
    large = replace(step, model="large", capacity_bytes=1)
    found = verdict(claim(quantity="memory", at_least=1), [step, large])
    assert found.startswith("holds for large alone: simulated ")
    whole = sum(sum(use.values()) for use in step.memory_by_position) * 2
    assert f"simulated {whole:.3g} bytes" in verdict(claim(quantity="replica-memory", at_least=1), [step])


def test_hidden_communication_is_what_a_library_could_gain(step: SimulatedStep) -> None:
    one = replace(step, iteration_s=2.0, exposed_s={"tensor": 0.7}, time_s={"tensor": 0.5, "forward": 1.5})
    found = verdict(claim(quantity="without-communication", at_least=1.4), [one])
    assert found.startswith("does not hold: simulated 1.33 times as fast")


def test_groups_are_compared_in_any_order(step: SimulatedStep) -> None:
    right = claim(quantity="groups", groups={"tp": [[2, 3], [0, 1], [4, 5], [6, 7]]})
    assert verdict(right, [step]) == "holds of 8 ranks, tp 2 pp 2 dp 2: 4 tp groups"
    wrong = claim(quantity="groups", groups={"pp": [[0, 1], [2, 3], [4, 5], [6, 7]]})
    assert verdict(wrong, [step]).endswith("pp groups are [0, 4] [1, 5] [2, 6] [3, 7]")


@pytest.mark.parametrize("json", [False, True])
def test_the_verdict_is_the_last_line(tmp_path: Path, json: bool) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT, encoding="utf-8")
    done = CliRunner().invoke(app, ["sim", str(file), *(["--json"] if json else [])])
    assert done.exit_code == 0
    last = (done.stderr if json else done.stdout).splitlines()[-1]
    assert last.startswith('"more nodes are slower" ')
    assert "claimed at least 1.5" in last


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("quantity: time", "quantity: tim"), "line 5: quantity 'tim' is unknown; did you mean time?"),
        (("of: growth", "of: all"), "line 5: of 'all' is unknown"),
        (("at-least: 1.5", "at-least: much"), "line 5: at-least: 'much' must be a number"),
        ((", at-least: 1.5", ""), "line 5: at-least or at-most must be given"),
        (("source: here, ", ""), "line 5: source must be given"),
        (("quantity: time", "quantity: days"), "line 5: quantity days needs tokens above 0"),
        (("quantity: time", "quantity: groups, groups: {tp: 3}"), "line 5: groups must have lists of lists of ranks"),
        (("at-least: 1.5", "at-lest: 1.5"), "line 5: key 'at-lest' is unknown; did you mean at-least?"),
        (("claim: {says: more", "claim: more #"), "line 5: claim must be a mapping: says, source, quantity"),
    ],
)
def test_wrong_claims_are_refused_with_their_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT.replace(*change), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_claim(file)
    assert f"{file}, {message}" in str(error.value) or f"{file}: {message}" in str(error.value)


def test_a_quantity_of_steps_is_not_one_of_collectives(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT.replace("quantity: time", "quantity: memory"), encoding="utf-8")
    done = CliRunner().invoke(app, ["sim", str(file)])
    assert str(done.exception) == (
        f"{file}: claim.quantity: needs training steps, not collectives; the quantity time takes both"
    )
