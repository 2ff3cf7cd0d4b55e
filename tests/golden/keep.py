# SPDX-License-Identifier: Apache-2.0
"""Simulated times and refusals as text that shows in a diff: ``python -m tests.golden.keep`` writes both files anew.

times.txt has a line for each command, with the simulated time in picoseconds; refusals.txt has a command and, indented
below it, what it says. A commit in which a line changes says why the new one is right.
"""

import io
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from commbench.cli import main
from commbench.libraries.gloo import GLOO_TCP
from commbench.network.transport import Connections
from commbench.topology.load import load_fabric
from commbench.units import PS_PER_S
from tests.cases import simulate_collective
from tests.golden.commands import REFUSED, SIMULATED

__all__ = ["REFUSALS", "TIMES", "read_refusals", "read_times", "refusal", "time_ps", "transports"]

_FOLDER = Path(__file__).parent
TIMES, REFUSALS = _FOLDER / "times.txt", _FOLDER / "refusals.txt"


def _run(command: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of ``commbench COMMAND`` in this process, at the repository's root."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main.outcome(command.split())
    said = err.getvalue().replace(sys.prefix, "PREFIX").replace(str(_FOLDER.parents[1]), "ROOT")
    return code, out.getvalue(), said


def time_ps(command: str) -> str:
    """Simulated picoseconds of one command with one size, or how it ended without any.

    A step that does not fit into memory ends with exit code 1 and has a time all the same.
    """
    code, out, err = _run(f"{command} --json")
    if not out:
        return f"exit {code}: {err.strip().splitlines()[-1]}"
    record = json.loads(out.splitlines()[-1])
    return str(round(record["iteration_s" if record["kind"] == "simulated-step" else "time_s"] * PS_PER_S))


def refusal(command: str) -> str:
    """Exit code and last line of stderr of a command that is refused."""
    code, _, err = _run(command)
    return f"exit {code}: {err.strip().splitlines()[-1] if err.strip() else ''}"


def transports() -> dict[str, str]:
    """Collectives over gloo's transport, which no command names yet."""
    found = {}
    for place in ("star-8", "leaf-spine-16-4to1", "two-rail-8"):
        fabric = load_fabric(place)
        for collective, algorithm in (("all-reduce", "gloo"), ("all-reduce", "ring"), ("all-to-all", "pairwise")):
            for size in (2**16, 2**22):
                over = Connections(GLOO_TCP)
                done = simulate_collective(fabric, collective, algorithm, size, connections=over).record
                name = f"over {GLOO_TCP.name}: {collective} -t {place} -a {algorithm} -b {size}"
                found[name] = str(round(done.time_s * PS_PER_S))
    return found


def read_times() -> dict[str, str]:
    """Kept picoseconds by command."""
    rows = (line.split(maxsplit=1) for line in TIMES.read_text(encoding="utf-8").splitlines())
    return {command: ps for ps, command in rows}


def read_refusals() -> dict[str, str]:
    """Kept words by command."""
    lines = REFUSALS.read_text(encoding="utf-8").splitlines()
    return dict(zip(lines[::2], (line.strip() for line in lines[1::2]), strict=True))


def _each(commands: Iterable[str], find: Callable[[str], str]) -> dict[str, str]:
    return {command: find(command) for command in commands}


def keep() -> None:
    """Write both files."""
    times = _each(SIMULATED, time_ps) | transports()
    TIMES.write_text("".join(f"{ps:>16}  {command}\n" for command, ps in times.items()), encoding="utf-8")
    words = _each(REFUSED, refusal)
    REFUSALS.write_text("".join(f"{command}\n    {said}\n" for command, said in words.items()), encoding="utf-8")


if __name__ == "__main__":
    keep()
