# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check: licence line, file and function length (DESIGN, section 8)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for folder in ("commbench", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 50  # of its body, without the docstring


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_house_rules(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:1] == ["# SPDX-License-Identifier: Apache-2.0"]
    assert len(lines) <= MOST_LINES_OF_A_FILE
    too_long = []
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION:
                too_long.append(f"{node.name}: {length} lines")
    assert not too_long
