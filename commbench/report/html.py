# SPDX-License-Identifier: Apache-2.0
"""Pages out of templates: the look that all of them share, and the file that one is written to.

A page's template extends ``base.html.j2`` (head, verdicts, facts, notes, footer, the script ``page.js``) and
fills its blocks ``nav`` and ``sections``; tables and pictures are the macros of ``pieces.html.j2``.
"""


from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from commbench import __version__
from commbench.errors import InputError
from commbench.report.text import printable

__all__ = ["fill_page", "require_svg"]


def fill_page(template: str, values: Mapping[str, Any], *, folder: Path | None = None) -> str:
    """A page as HTML text; it fetches nothing, and text in it is never markup.

    Args:
        template: its file name.
        values: what it names. Every page names ``over`` (the line above the heading), ``title``, and lists, empty or
            not, of ``verdicts``, ``facts`` and ``notes``; a name that is missing is an error of the template engine.
        folder: where templates of another package lie; the shared ones are found all the same.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([*([FileSystemLoader(folder)] if folder else []), FunctionLoader(_text)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        {"version": __version__, "css": _text("page.css"), "script": _text("page.js"), **values}
    )
    return printable(page)


def require_svg(path: Path) -> Path:
    """The path, if it says that an SVG file is wanted.

    Raises:
        InputError: another ending.
    """
    if path.suffix.lower() != ".svg":
        raise InputError(f"--out {path}: pictures are written as SVG; name it {path.with_suffix('.svg').name}")
    return path


def _text(name: str) -> str:
    return files("commbench.report").joinpath(name).read_text(encoding="utf-8")
