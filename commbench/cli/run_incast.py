# SPDX-License-Identifier: Apache-2.0
"""``commbench run incast``: k senders into one receiver."""

from typing import Annotated, Any

import typer

from commbench.cli.group_run import PAIR_BYTES, run_groups
from commbench.cli.measuring import Measuring
from commbench.cli.options import MinBytes, with_options_of
from commbench.cli.running import command_app
from commbench.errors import InputError

__all__ = ["app", "incast"]

app = command_app()


@app.command()
@with_options_of(Measuring)
def incast(
    minbytes: MinBytes = PAIR_BYTES,
    receiver: Annotated[int, typer.Option(help="Rank that all send to.")] = 0,
    senders: Annotated[
        str | None, typer.Option(help="How many send at once, as 1,2,4; each is a row [1 to all others].")
    ] = None,
    **given: Any,
) -> None:
    """Measure k senders into one receiver, k = 1 to n - 1: a gather whose messages all come at once.

    Sizes are what each sender sends; busbw is what the receiver gets.
    """
    own: dict[str, Any] = {"experiment": "incast", "collective": "gather", "algorithm": "direct"}
    own |= {"receiver": receiver, "senders": _counts(senders)}
    run_groups(Measuring(minbytes=minbytes, **given), own, f"into rank {receiver}")


def _counts(text: str | None) -> tuple[int, ...]:
    """The numbers of a list such as "1,2,4"."""
    words = [] if text is None else text.split(",")
    if any(not word.strip().isdecimal() for word in words):
        raise InputError(f"--senders {text!r}: give numbers of senders, for example 1,2,4")
    return tuple(dict.fromkeys(int(word[:9]) for word in words))
