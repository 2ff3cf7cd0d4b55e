# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, read from the source of every module: imports inside functions and for type checkers count too.

A room may import the rooms named here, and what those rooms may import. ``units``, ``errors``, ``arrays``,
``yaml_reader``, ``terminal``, ``tables`` and ``kept`` are open to all.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "commbench"

_MODELS = {"sim", "live", "emulate", "results", "program", "collectives", "topology", "network", "routing"}
ROOMS: dict[str, set[str]] = {
    "units": set(),
    "errors": set(),
    "arrays": set(),
    "yaml_reader": set(),
    "terminal": set(),
    "tables": set(),
    "kept": set(),
    "topology": set(),
    "collectives": set(),
    "results": {"collectives"},
    "routing": {"topology"},
    "cluster": {"topology", "routing"},
    "program": {"collectives"},
    "network": {"topology", "routing"},
    "engine": {"program", "network"},
    "libraries": {"cluster", "collectives", "network"},
    "workload": {"program", "collectives", "topology"},
    "lowering": {"cluster", "libraries", "program", "network", "engine"},
    "door": {"lowering", "engine"},
    "sim": {"door", "results"},
    "live": {"workload", "program", "collectives", "results"},
    "emulate": {"topology", "live", "results"},
    "calibrate": _MODELS,
    "validate": {*_MODELS, "calibrate", "workload"},
    "diagnose": {*_MODELS, "calibrate", "validate"},
    "compare": {"results"},
    "doctor": {"results", "topology"},
    "launch": set(),
    "training": {"workload", "door", "results"},
    "experiments": {*_MODELS, "calibrate", "validate", "workload", "training"},
    "planner": {"experiments"},
}
ALWAYS = {"units", "errors", "arrays", "yaml_reader", "terminal", "tables", "kept"}
DOOR = {"cluster", "door", "libraries", "program", "report", "results", "topology"}
"""Rooms that ``commbench`` itself hands names on from."""
# Heavy packages and the one room that may use each, lazily or not.
ONLY_IN = {"torch": "live", "matplotlib": "report", "simpy": "engine"}


def allowed(room: str) -> set[str]:
    """The rooms that a room may import, itself among them."""
    found, todo = {room, *ALWAYS}, [room]
    while todo:
        for below in ROOMS[todo.pop()] - found:
            found.add(below)
            todo.append(below)
    return found


ANY = "?"  # a name that is known only when it runs: for the command line, and the names of commbench itself
DYNAMIC = ("__import__", "importlib.import_module", "import_module")


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import in a file, wherever it stands in it."""
    package = [root.name, *path.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DYNAMIC:
            yield from ((node.lineno, name) for name in _named(node.args[0]))


def _named(argument: ast.expr) -> Iterator[str]:
    """The module of a dynamic import as far as it stands there: a name that begins with an expression is anybody's."""
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
        yield f"{argument.values[0].value}{ANY}"


def violations(root: Path) -> list[str]:
    """Every forbidden import below a package directory, as "file:line: why"."""
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        room = place.parts[0].removesuffix(".py")
        for line, name in imports(path, root):
            top, *rest = name.split(".")
            if top == root.name and rest:
                why = _forbidden_room(room, rest[0])
            else:
                why = f"{top} only in {ONLY_IN[top]}" if top in ONLY_IN and room != ONLY_IN[top] else ""
            if why:
                found.append(f"{place}:{line}: {why}")
    return found


def _forbidden_room(room: str, other: str) -> str:
    if other == "__version__":
        return ""
    if room in ("cli", "__main__"):
        return ""
    if other == "cli":
        return f"{room} imports cli, which nobody may"
    if room == "report":  # types of anything but the engines' and executors' own code
        return f"{room} imports {other}" if other in {"live", "emulate"} else ""
    if room == "__init__":
        return "" if other in (*DOOR, ANY) else f"commbench itself imports {other}"
    if room not in ROOMS:
        return f"room {room} has no rule in this test"
    return "" if other in allowed(room) else f"{room} imports {other}"


def test_the_package_keeps_its_layers() -> None:
    assert violations(PACKAGE) == []


def test_every_module_is_looked_at() -> None:
    seen = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert {"units", "errors", "topology", "routing", "collectives", "program", "network", "engine", "sim"} <= seen
    assert seen - ROOMS.keys() <= {"cli", "report", "__init__", "__main__"}


def test_sim_and_live_never_meet() -> None:
    assert "live" not in allowed("sim")
    assert "sim" not in allowed("live")


def test_the_engines_know_neither_who_decides_nor_the_door() -> None:
    assert not {"cluster", "libraries", "lowering", "door"} & allowed("engine")
    assert not {"sim", "network", "lowering", "door"} & allowed("workload")
    assert "door" not in allowed("lowering")


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        (
            "network/fluid.py",
            "from commbench.program.flat import FlatProgram",
            "network/fluid.py:1: network imports program",
        ),
        ("engine/e.py", "from commbench import door", "engine/e.py:1: engine imports door"),
        ("lowering/l.py", "from commbench.door import Result", "lowering/l.py:1: lowering imports door"),
        ("workload/w.py", "from commbench.lowering import bind", "workload/w.py:1: workload imports lowering"),
        ("libraries/l.py", "from commbench.engine import trace", "libraries/l.py:1: libraries imports engine"),
        ("routing/r.py", "def f():\n    import commbench.engine.reference", "routing/r.py:2: routing imports engine"),
        ("collectives/c.py", "from ..sim import reference", "collectives/c.py:1: collectives imports sim"),
        (
            "collectives/algorithms/c.py",
            "from commbench import live",
            "collectives/algorithms/c.py:1: collectives imports live",
        ),
        (
            "sim/s.py",
            "import importlib\nimportlib.import_module('commbench.live.plan')",
            "sim/s.py:2: sim imports live",
        ),
        (
            "sim/s.py",
            "from importlib import import_module\nimport_module('commbench.live.plan')",
            "sim/s.py:2: sim imports live",
        ),
        ("sim/s.py", "import_module(f'commbench.live.{name}')", "sim/s.py:1: sim imports live"),
        ("sim/s.py", "import_module(f'commbench.{name}')", "sim/s.py:1: sim imports ?"),
        ("topology/t.py", "import matplotlib.pyplot as plt", "topology/t.py:1: matplotlib only in report"),
        ("sim/s.py", "if 0:\n    from torch import distributed", "sim/s.py:2: torch only in live"),
        ("program/p.py", "import simpy", "program/p.py:1: simpy only in engine"),
        ("sim/s.py", "from commbench.cli.main import main", "sim/s.py:1: sim imports cli, which nobody may"),
        (
            "__init__.py",
            "from commbench.sim import collective",
            "__init__.py:1: commbench itself imports sim",
        ),
        ("gadgets/g.py", "import commbench.units", "gadgets/g.py:1: room gadgets has no rule in this test"),
    ],
)
def test_the_checker_notices(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    root = tmp_path / "commbench"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(source, encoding="utf-8")
    (root / "units.py").write_text("import math", encoding="utf-8")
    assert violations(root) == [complaint]


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    root = tmp_path / "commbench"
    for file, source in {
        "engine/s.py": "import simpy\nfrom commbench.program.flat import FlatProgram\nfrom . import trace",
        "live/l.py": "import torch\nfrom commbench.program import operations",
        "cli/c.py": "def f():\n    from commbench.live import plan\n    from commbench.sim import collective",
        "report/r.py": "import matplotlib\nfrom commbench.results import records",
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(source, encoding="utf-8")
    assert violations(root) == []


def test_the_door_is_light() -> None:
    """``import commbench`` must cost nothing: none of the heavy packages is loaded by it."""
    heavy = ["torch", "matplotlib", "numba", "numpy", "pandas", "scipy", "networkx", "simpy", "typer"]
    script = f"import sys, commbench; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
