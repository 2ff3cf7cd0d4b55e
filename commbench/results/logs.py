# SPDX-License-Identifier: Apache-2.0
"""Logs of other programs as records: nccl-tests and rccl-tests, text and JSON."""

import re
from hashlib import sha256
from pathlib import Path

from commbench.errors import InputError, ResultsError
from commbench.results.foreign import looks_like
from commbench.results.log_json import looks_like_json, tables_of_json
from commbench.results.log_rccl import looks_like_rccl, tables_of_rccl
from commbench.results.log_tables import Log, log_of
from commbench.results.log_text import looks_like_text, tables_of_text

__all__ = ["is_log", "read_log"]

_MOST_BYTES = 2**30


def is_log(path: Path) -> bool:
    """Whether a file is such a log rather than one of records."""
    text = _text(path)
    return looks_like_text(text) or looks_like_json(text) or looks_like_rccl(text)


def read_log(path: Path, collective: str | None = None, ranks: int | None = None) -> Log:
    """The rows of a log as records, and what is odd about it in words.

    Args:
        path: of the file. collective: for a log that does not say it. ranks: world size, likewise; held against the
            rows where they tell.

    Raises:
        InputError: the file cannot be read, is no such log, mixes runs, or misses what must be known.
    """
    text = _text(path)
    if looks_like_json(text):
        tables = tables_of_json(text, str(path))
    elif looks_like_rccl(text):
        tables = tables_of_rccl(text, str(path))
    elif looks_like_text(text):
        tables = tables_of_text(text, str(path))
    else:
        what = looks_like(text.encode())
        raise InputError(
            f"{path}: no log of nccl-tests or rccl-tests: no header (# size count type ...) and no JSON of -J"
            f"{f'; it looks like {what}' if what else ''}"
        )
    name = re.sub(r"[^\w.+-]+", "-", path.stem)[:80] or "log"
    return log_of(tables, str(path), f"{name} {sha256(text.encode()).hexdigest()[:8]}", collective, ranks)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: more than 1 GiB, which is no log of a benchmark")
        return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
