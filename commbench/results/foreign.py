# SPDX-License-Identifier: Apache-2.0
"""What a file is that was given where results belong, and which command takes it."""

import re
from collections.abc import Sequence

__all__ = ["looks_like"]

_BINARY: Sequence[tuple[bytes, str]] = (
    (b"PAR1", "a Parquet table; report writes such tables and none of commbench's commands reads them back"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (unzstd)"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"SQLite format 3", "an SQLite database, such as Nsight Systems exports; no command of commbench reads it yet"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "a PDF document"),
)
_TEXT: Sequence[tuple[str, str]] = (
    (r"# nccl-tests|# nThread \d+ nGpus|#\s+Avg bus bandwidth|(?i:out-of-place)[^\n]*in-place",
     "the log of an nccl-tests program: commbench import FILE --out FILE.jsonl"),
    (r"NCCL (?:INFO|WARN|version)", "a debug log of NCCL; no command of commbench reads it yet"),
    (r"# OSU ", "the output of an OSU micro-benchmark; no command of commbench reads it yet"),
    (r"(?i)\A\s*(?:<!doctype html|<html)",
     "an HTML page; give the records that it was made from (report's pages name them below their tables)"),
    (r"<svg\b", "an SVG picture"),
    (r"<algo\b", "an MSCCL algorithm: commbench algorithm verify FILE; sim and run take it as --algorithm FILE"),
    (r"<system\b|<graphs\b", "an XML of NCCL: commbench topology import FILE"),
    (r"\A\s*<", "an XML or HTML file; no command of commbench takes it"),
    (r"(?m)\Acommbench-schedule ",
     "a schedule: commbench algorithm verify FILE; sim and run take it as --algorithm FILE"),
    (r"\A\s*(?:\[|\{\s*\n)",
     "one JSON document; records are JSON Lines, one object on each line, as run, sim and validate write them"),
    (r"(?m)^(?:fabric|host)\s*:", "a topology: commbench topology show FILE, or --topology FILE of sim and report"),
    (r"(?m)^faults\s*:", "a scenario: sim takes it as --scenario FILE, emulate as --faults FILE"),
    (r"(?m)^(?:model|micro[-_]batch|global[-_]batch|tp|pp|dp)\s*:", "a training step: commbench sim train FILE"),
    (r"\A[^\n]*\d+[FBIW]\d+[^\n]*,", "the orders of a pipeline (CSV): commbench run pipeline --schedule FILE"),
    (r"\A[^\n,;\t{]+(?:[,;\t][^\n,;\t]*)+\n", "a table (CSV or the like); results are JSON Lines"),
    (r"\A(?:\s*#[^\n]*\n|---\n|\s*\n)*[\w-]+\s*:(?:\s|$)", "a YAML file; results are JSON Lines"),
)  # fmt: skip
_LOOKED_AT = 65536  # bytes


def looks_like(data: bytes) -> str:
    """What a file without a single record looks like and which command takes it; "" if nobody can tell."""
    head = data[:_LOOKED_AT]
    for magic, words in _BINARY:
        if head.startswith(magic):
            return words
    if b"\0" in head or (head and sum(byte > 126 for byte in head) > 0.3 * len(head)):
        return "a binary file; results are JSON Lines"
    text = head.decode(errors="replace")
    return next((words for pattern, words in _TEXT if re.search(pattern, text)), "")
