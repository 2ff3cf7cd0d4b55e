# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/tutorials run one after the other, and print what the pages show; docs make a site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import commbench

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(
    r"<!-- (?P<what>tested|seen)(?:: exit (?P<code>\d))? -->\n```(?:console|text)\n(?P<body>.*?)```", re.DOTALL
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_is_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    for name in ("docs", "reports", "sims"):
        (tmp_path / name).symlink_to(ROOT / name)
    printed, count = "", 0
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["what"] == "seen":
            assert [line for line in block["body"].splitlines() if line not in printed] == []
            continue
        printed = ""
        for line in block["body"].splitlines():
            done = commbench(*line.removeprefix("$ commbench ").split(), folder=tmp_path)
            assert done.returncode == int(block["code"] or 0), (line, done.stderr)
            printed, count = printed + done.stderr + done.stdout, count + 1
    assert 6 <= count <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_of_a_tutorial_is_left_out(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tested = [block["body"].splitlines() for block in BLOCK.finditer(text) if block["what"] == "tested"]
    assert re.findall(r"^\$ .*$", text, re.MULTILINE) == [line for lines in tested for line in lines]


def test_every_page_of_docs_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert named - {"source/README.md"} == pages


def test_links_of_pages_lead_somewhere() -> None:
    """What `make docs` refuses, where mkdocs is not there."""
    dead = []
    for page in (ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s#:]+)", page.read_text(encoding="utf-8")):
            if link not in ("https", "http") and not (page.parent / link).exists():
                dead.append(f"{page.name}: {link}")
    assert dead == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs: pip install 'commbench[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert 'src="gallery/h100-against-4090.png"' in first
    assert (tmp_path / "site/gallery/h100-against-4090.png").exists()
    assert 'href="source/index.html"' in first
    asked = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="(https?://[^"]+)"', first)
    assert asked == [], "the site fetches nothing"
