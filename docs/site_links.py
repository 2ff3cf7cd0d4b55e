# SPDX-License-Identifier: Apache-2.0
"""A hook of mkdocs: what pages of docs/ link to outside of it goes with them, below ``source/``.

A page of Markdown becomes a page, any other file stays as it is, and of a folder there is a list of its files.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)")
SOURCE = "source"
_TEXT = frozenset({".md"})


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside of docs/ that pages name."""
    waiting = [(file.src_uri, Path(file.abs_src_path or "").read_text("utf-8")) for file in files.documentation_pages()]
    waiting.append((f"docs/{SOURCE}", "[README](../README.md)"))
    while waiting:
        page, text = waiting.pop()
        for target in filter(None, (_outside(page, link) for link in LINK.findall(text))):
            place = _place(target)
            if files.get_file_from_path(place) is not None:
                continue
            made = ROOT / target
            if made.is_dir():
                text = _folder(target)
                files.append(File.generated(config, place, content=text))
                waiting.append((place, text))
            else:
                files.append(File.generated(config, place, abs_src_path=str(made)))
                if made.suffix in _TEXT:
                    waiting.append((place, made.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at where their files are in the site."""
    here = page.file.src_uri
    return LINK.sub(_pointed(here), markdown)


def _pointed(here: str) -> Callable[[re.Match[str]], str]:
    def point(match: re.Match[str]) -> str:
        target = _outside(here, match[1])
        if target is None:
            inside = _inside(here, match[1])
            return match[1] if inside is None else posixpath.relpath(inside, posixpath.dirname(here) or ".")
        return posixpath.relpath(_place(target), posixpath.dirname(here) or ".")

    return point


def _from_root(page: str, link: str) -> str:
    """Where a link leads, from the top of the project."""
    whole = page.removeprefix(f"{SOURCE}/") if page.startswith(f"{SOURCE}/") else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(whole), link))


def _outside(page: str, link: str) -> str | None:
    """The file of a link that leaves docs/, from the top of the project; None of others."""
    target = _from_root(page, link)
    return None if target.startswith(("docs/", "..", "/")) or not (ROOT / target).exists() else target


def _inside(page: str, link: str) -> str | None:
    """The page of docs/ that a file outside of it links to; None where a page of docs/ does."""
    if not page.startswith(f"{SOURCE}/"):
        return None
    target = _from_root(page, link)
    return target.removeprefix("docs/") if target.startswith("docs/") else None


def _place(target: str) -> str:
    """Of a file or folder in the site's own tree."""
    return f"{SOURCE}/{target}/files.md" if (ROOT / target).is_dir() else f"{SOURCE}/{target}"


def _folder(target: str) -> str:
    names = sorted(file.name for file in (ROOT / target).iterdir() if file.suffix and file.suffix not in _TEXT)
    return "\n".join([f"# {target}", "", *(f"- [{name}]({name})" for name in names)])
