# SPDX-License-Identifier: Apache-2.0
"""No two modules import each other, directly or through others; no two classes have one name."""

import ast
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

from tests.test_layers import PACKAGE, imports

TWICE: dict[str, int] = {
    "Efficiency": 2,
    "Leg": 2,
    "Stage": 2,
    "Traffic": 3,
    "Work": 2,
    "_Builder": 4,
}
"""How often a class name may occur that occurs more than once. The list may only shrink."""


def circles(root: Path) -> list[list[str]]:
    """Modules of a package that import each other, without its name; imports inside functions count too."""
    names = {_name(path, root): path for path in root.rglob("*.py")}
    graph = nx.DiGraph()
    for name, path in names.items():
        for _, found in imports(path, root):
            target = found.removeprefix(f"{root.name}.")
            while target and target not in names:
                target = target.rpartition(".")[0]
            if found.startswith(f"{root.name}.") and target not in ("", name):
                graph.add_edge(name, target)
    return sorted(sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1)


def _name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def repeated(root: Path) -> dict[str, int]:
    """Names of more than one class of a package, private ones among them, and how many have each."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in root.rglob("*.py"))
    counts = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {name: count for name, count in counts.items() if count > 1}


def test_no_two_modules_import_each_other() -> None:
    assert circles(PACKAGE) == []


def test_a_class_name_has_one_meaning() -> None:
    found = repeated(PACKAGE)
    more = {name: count for name, count in found.items() if count > TWICE.get(name, 1)}
    assert not more, "give the newer one a name of its own"
    fewer = {name: found.get(name, 1) for name, count in TWICE.items() if found.get(name, 1) < count}
    assert not fewer, "good: take these out of TWICE, or lower their counts"


@pytest.mark.parametrize("late", [False, True])
def test_the_checker_finds_circles(tmp_path: Path, late: bool) -> None:
    root = tmp_path / "p"
    (root / "x").mkdir(parents=True)
    (root / "x" / "__init__.py").touch()
    (root / "x" / "a.py").write_text("from p.x import b")
    (root / "x" / "b.py").write_text("from p.c import thing")
    (root / "c.py").write_text("def f():\n    from p.x.a import g" if late else "import p.x.a")
    assert circles(root) == [["c", "x.a", "x.b"]]
    (root / "c.py").write_text("import os")
    assert circles(root) == []


def test_the_checker_finds_names_that_occur_twice(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A: ...\nclass B: ...")
    (tmp_path / "b.py").write_text("def f():\n    class A: ...")
    assert repeated(tmp_path) == {"A": 2}
