# SPDX-License-Identifier: Apache-2.0
"""``diagnose`` on real packets: a slow link and a slow host of a testbed are found, a healthy one is left alone.

A hundred trials: ``python -m tests.diagnose.lab_trials 100``; docs/diagnose.md has what they found.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from commbench.results.journal import Journal
from tests.cli.commands import commbench
from tests.diagnose.lab_trials import FABRIC, RATE, Bench, bench
from tests.emulate.fabrics import leftovers, namespaces, written

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")


def said(made: Bench, folder: Path, name: str, factor: float) -> tuple[int, dict[str, Any]]:
    """Exit code and record of the command, after the pairs were measured with this part at a fraction of its rate."""
    part = next(part for part in (*made.cables, *made.hosts) if part.name == name)
    made.set(part, factor)
    try:
        file = folder / f"{factor}.jsonl"
        Journal(file).extend(made.measured())
    finally:
        made.set(part, 1.0)
    done = commbench("diagnose", str(file), "-t", "fabric.yaml", "--json", folder=folder)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.measured
def test_slow_parts_of_a_testbed_are_found(tmp_path: Path) -> None:
    before = namespaces()
    written(tmp_path, FABRIC, host=RATE)
    with bench(tmp_path) as made:
        code, healthy = said(made, tmp_path, "h0", 1.0)
        assert (code, healthy["verdict"], healthy["suspects"]) == (0, "healthy", [])

        code, link = said(made, tmp_path, "link leaf1 - spine0", 0.5)
        assert (code, link["verdict"]) == (1, "localised")
        [suspect] = link["suspects"]
        assert suspect["parts"][0] == "link leaf1 - spine0"
        assert suspect["factor"] == pytest.approx(0.5, rel=0.05)

        code, host = said(made, tmp_path, "h4", 0.7)
        assert (code, host["verdict"]) == (1, "localised")
        [suspect] = host["suspects"]
        assert "h4" in suspect["parts"]
        assert suspect["factor"] == pytest.approx(0.7, rel=0.05)
    assert leftovers(tmp_path, before) == []
