# SPDX-License-Identifier: Apache-2.0
"""``commbench explain A B``: why two results differ, term by term."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.experiments.explain import Explanation

__all__ = ["explain"]


def explain(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results file, or an experiment file, which is simulated.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same; its results are held against those of A.")],
    page: Annotated[Path | None, typer.Option("--page", callback=writable, help="Write a page of it.")] = None,
    json: Jsonl = False,
) -> None:
    """Say why B takes longer or shorter than A: terms that add up to the difference exactly."""
    from commbench.experiments.explain import explain as explained

    found = explained(a, b, tell)
    for number, one in enumerate(found):
        typer.echo(one.to_json()) if json else put(("\n" if number else "") + explained_table(one, a.name, b.name))
    if page is not None:
        from commbench.cli.reading import this_command
        from commbench.cli.report import page_line
        from commbench.report.explained import write_explained

        path = write_explained(found, page, names=(a.name, b.name), command=this_command())
        typer.echo(page_line(path)) if json else tell(f"page: {path}")


def explained_table(found: "Explanation", a: str, b: str) -> str:
    """What differs, and every term in both, with its difference; every line fits 80 columns."""
    from commbench.cli.tables import heading
    from commbench.report.explained import differing, sentence
    from commbench.tables import Column, head_text, row_text

    lines = [heading(sentence(found, a, b), *(f"{name}: {x} in A, {y} in B" for name, x, y in differing(found)))]
    columns = (
        Column("term", numeric=False, width=22), Column("A", "(us)", width=13, form=".2f"),
        Column("B", "(us)", width=13, form=".2f"), Column("B - A", "(us)", width=13, form="+.2f"),
        Column("of it", width=8),
    )  # fmt: skip
    lines.append(head_text(columns))
    for term in found.terms:
        share = f"{term.difference_ps / found.difference_ps:+.0%}" if found.difference_ps else "-"
        times = (ps / 1e6 for ps in (term.a_ps, term.b_ps, term.difference_ps))
        lines.append(row_text(columns, (term.name, *times, share)))
    whole = (ps / 1e6 for ps in (found.a_ps, found.b_ps, found.difference_ps))
    return "\n".join([*lines, row_text(columns, ("time", *whole, "+100%" if found.difference_ps else "-"))])
