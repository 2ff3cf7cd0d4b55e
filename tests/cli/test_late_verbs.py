# SPDX-License-Identifier: Apache-2.0
"""Verbs are loaded when they are called: the list of them says what they say, and loads none of them."""

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from commbench.cli.verbs import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_says_what_the_verb_says(verb: str) -> None:
    module, name, words = VERBS[verb]
    found = getattr(import_module(f"commbench.cli.{module}"), name)
    said = found.info.help if isinstance(found, typer.Typer) else found.__doc__.split("\n\n")[0]
    assert " ".join(said.split()) == words


def test_help_loads_no_verb() -> None:
    script = (
        "import sys; from commbench.cli.main import outcome\n"
        "outcome(['--help'])\n"
        "print([m for m in sys.modules if m in ('numpy', 'pydantic', 'yaml') or m.startswith('commbench.cli.sim')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.splitlines()[-1] == "[]"
