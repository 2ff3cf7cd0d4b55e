# SPDX-License-Identifier: Apache-2.0
"""Numbers as a page shows them: a true minus sign, four digits, number and unit apart so that columns align."""

import math
import re
import unicodedata
from collections.abc import Sequence

from commbench.units import format_bytes

__all__ = [
    "TIME_UNITS",
    "decimals_for",
    "fitted",
    "percent",
    "plural",
    "printable",
    "shortened",
    "signed_percent",
    "size_range",
    "time_parts",
    "time_text",
    "words_width",
]

_NO_BREAK = "\N{NO-BREAK SPACE}"
# Letters that are narrower and broader than most.
_THIN, _BROAD = frozenset("!'(),-./:;I[]`fijlrt|\N{MIDDLE DOT} "), frozenset("%&#<=>@MWmw+~\N{HORIZONTAL ELLIPSIS}")
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


_UNPRINTABLE = re.compile("[^\\t\\n\\r\\x20-\\x7e\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def printable(text: str) -> str:
    """The text with a replacement character for whatever XML and HTML do not allow: controls, lone surrogates."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def time_parts(time_s: float) -> tuple[str, str]:
    """Number with four significant digits, and its unit: ("9.500", "ms")."""
    factor, unit = next((pair for pair in TIME_UNITS if abs(time_s) >= pair[0]), TIME_UNITS[-1])
    digits = 4 if time_s else 1
    return f"{time_s / factor:#.{digits}g}".rstrip("."), unit


def time_text(time_s: float) -> str:
    """Number and unit in one text that does not break: "9.500 ms"."""
    return _NO_BREAK.join(time_parts(time_s))


def percent(fraction: float) -> str:
    """One decimal, without a plus sign: "4.1 %"."""
    return f"{fraction:.1%}".replace("%", f"{_NO_BREAK}%")


def signed_percent(fraction: float) -> str:
    """With its sign, always: "+4.1 %" or "−4.1 %"."""
    return f"{fraction:+z.1%}".replace("%", f"{_NO_BREAK}%").replace("-", "−")


def decimals_for(values: Sequence[float | None]) -> int:
    """Decimals with which the largest of the values shows four digits; at least 3, so that small ones still show."""
    largest = max((abs(value) for value in values if value), default=1.0)
    return max(3, 3 - math.floor(math.log10(largest)))


def plural(count: int, noun: str) -> str:
    """Count and noun: "1 point", "2 points"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_range(sizes: Sequence[int]) -> str:
    """Ends and number of the sizes, or the one size: "64 KiB to 16 MiB, 9 sizes"."""
    distinct = sorted(set(sizes))
    if len(distinct) == 1:
        return format_bytes(distinct[0])
    return f"{format_bytes(distinct[0])} to {format_bytes(distinct[-1])}, {len(distinct)} sizes"


def shortened(words: str, longest: int) -> str:
    """Words of so many letters at most; what is cut off is told by dots."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def words_width(words: str, size: float) -> float:
    """Pixels that words take at most at this font size, in any of the page's fonts.

    The widest of them is DejaVu Sans, whose figures and most of whose letters take 0.64 of the size and few 1.
    """
    return size * sum(map(_letter_width, words))


def _letter_width(letter: str) -> float:
    if letter in _THIN:
        return 0.42
    if letter in _BROAD or unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return 0.8 if letter.isupper() else 0.66


def fitted(words: str, size: float, room: float) -> str:
    """The words if they are no wider than ``room`` pixels at this font size; else their beginning and dots."""
    if words_width(words, size) <= room:
        return words
    kept = next((n for n in range(len(words) - 1, 0, -1) if words_width(f"{words[:n]}…", size) <= room), 0)
    return f"{words[:kept].rstrip()}…"
