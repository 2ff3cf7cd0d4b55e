# SPDX-License-Identifier: Apache-2.0
"""Every claim of ``sims/claims`` and what its simulation says: ``python -m benchmarks.claims [--page]``.

``--page`` writes docs/claims.md (two minutes, most of them for the 24,960 GPUs of GPT-4).
"""

import argparse
from itertools import takewhile
from pathlib import Path
from textwrap import fill

from commbench.experiments.claim import Claim, read_claim, verdict
from commbench.experiments.file import read_experiment
from commbench.experiments.simulated import CollectiveOptions, prepare
from commbench.experiments.step_options import simulate_options
from commbench.results.records import Simulated
from commbench.results.steps import SimulatedStep

__all__ = ["CLAIMS", "judged", "section"]

ROOT = Path(__file__).parents[1]
CLAIMS = ROOT / "sims/claims"
PAGE = ROOT / "docs/claims.md"


def judged(file: Path) -> tuple[Claim, str]:
    """A file's claim, and the verdict of its runs.

    Raises:
        InputError: the file has no claim, or something in it breaks a rule.
    """
    claim = read_claim(file)
    assert claim is not None, file
    records: list[Simulated | SimulatedStep] = []
    for run in read_experiment(file):
        if isinstance(run.options, CollectiveOptions):
            case = prepare(run.options, [run.sizes], lambda _: None, "")
            records += [case.run(size).record for size in case.sizes_bytes]
        else:
            records.append(simulate_options(run.options))
    return claim, verdict(claim, records)


def section(file: Path, claim: Claim, words: str) -> str:
    """A claim in docs/claims.md."""
    head = file.read_text(encoding="utf-8").splitlines()[1:]
    told = "\n".join(line[2:] for line in takewhile(lambda line: line.startswith("#"), head))
    command = f"$ commbench sim sims/claims/{file.name}"
    paragraphs = fill(f"From {claim.source}. {told}", 120), f"```console\n{command}\n```", fill(f"**{words}**", 120)
    return "\n\n".join([f"## {claim.says}", *paragraphs]) + "\n"


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write docs/claims.md")
    given = parser.parse_args()
    parts = [(ROOT / "benchmarks/claims.md").read_text(encoding="utf-8")]
    for file in sorted(CLAIMS.glob("*.yaml")):
        claim, words = judged(file)
        print(f"{file.stem}: {words}", flush=True)
        parts.append(section(file, claim, words))
    if given.page:
        PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
