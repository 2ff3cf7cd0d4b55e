# SPDX-License-Identifier: Apache-2.0
"""docs/layout.md is true: its files are there, its rooms and who may import whom are those of test_layers."""

import re
from pathlib import Path

from tests.test_layers import ALWAYS, PACKAGE, ROOMS, allowed

ROOT = PACKAGE.parent
PAGE = (ROOT / "docs/layout.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([^`]*)`")
LINKED = re.compile(r"\]\(([^)]*)\)")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table whose first heading this is."""
    below = PAGE.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below]


def is_file(name: str) -> bool:
    return re.fullmatch(r"[\w./+-]+(\.\w+|/)", name) is not None


def there(name: str) -> bool:
    return (PACKAGE / name).exists() or (ROOT / name).exists()


def test_every_file_that_is_named_is_there() -> None:
    named = [name for name in NAMED.findall(PAGE) if is_file(name)]
    assert len(named) > 60
    assert [name for name in named if not there(name)] == []
    assert [link for link in LINKED.findall(PAGE) if not (ROOT / "docs" / link).exists()] == []


def test_every_room_has_one_row() -> None:
    assert sorted(row[0].strip("`") for row in rows("room")) == sorted([*ROOMS, "cli", "report"])


def test_a_room_may_import_what_its_row_says() -> None:
    for room, _, imports in rows("room"):
        name = room.strip("`")
        if name not in ("cli", "report"):
            said = {name, *ALWAYS}.union(*(allowed(other) for other in NAMED.findall(imports)))
            assert said == allowed(name), name


def test_a_room_to_come_is_not_there_and_all_others_are() -> None:
    for room, what, _ in rows("room"):
        name = room.strip("`")
        assert there(name) or there(f"{name}.py") or what.endswith("; to come"), name


def test_every_question_is_answered_by_two_files_at_most() -> None:
    for question, answer in rows("question"):
        assert 1 <= sum(map(is_file, NAMED.findall(answer))) <= 2, question


def test_lines_are_no_longer_than_120() -> None:
    pages = [ROOT / "README.md", PACKAGE / "engine/SEMANTICS.md", *(ROOT / "docs").glob("*.md")]
    long = [f"{page.name}:{number}" for page in pages for number, line in _lines(page) if len(line) > 120]
    assert long == []


def _lines(page: Path) -> list[tuple[int, str]]:
    """Numbered lines, but for those of code, of comments and of tables, which cannot be broken."""
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text("utf-8"), flags=re.M | re.S)
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line) for number, line in numbered if not line.startswith(("|", "    ", "<!--"))]
