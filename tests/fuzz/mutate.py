# SPDX-License-Identifier: Apache-2.0
"""Damaged copies of a text, always the same for the same random generator."""

import re
from collections.abc import Callable, Sequence
from random import Random

__all__ = ["mutated"]

_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(rb"[\w.+-]+")
_VALUES = (
    b"0", b"-1", b"-0.0", b"1", b"2", b"3", b"7", b"1.5", b"1e400", b"-1e400", b"NaN", b"Infinity", b".inf", b".nan",
    b"010", b"1:20", b"0x10", b"1_000", b"1e-320", b"65536", b"1000000",
    b"2147483648", b"99999999999", b"9223372036854775808",
    b"10000000000000000000000", b"9" * 400, b"9" * 5000,
)  # fmt: skip
_OTHERS = (
    b"null", b'"x"', b"x", b"[]", b"{}", b"[[]]", b"true", b'""', b"~", b"2026-01-01", b"&a [*a]", b"*a",
    b"!!python/name:os.system",
)  # fmt: skip
_TEXTS = (
    b"\\ud800", "\U0001f600".encode(), b"\x00", b"\x1b[31m", "\u202e".encode(), "\u2028".encode(),
    "\ufeff".encode(), b"\xff\xfe",
    b"$\\frac{$", b"</script>", b"'", b'"', b"\t", b"\r", b"%s", b"../../x", b"\xc3", "\u0660".encode(),
)  # fmt: skip
_DEPTHS = (2, 60, 500, 5000)


def _place(pattern: re.Pattern[bytes], data: bytes, rng: Random) -> tuple[int, int]:
    found = [match.span() for match in pattern.finditer(data[:20_000])]
    return rng.choice(found) if found else (0, 0)


def _bytes(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    more = data[:at] + rng.randbytes(rng.choice((1, 3))) + data[at:]
    return rng.choice((more, data[:at] + data[at + rng.choice((1, 9)) :]))


def _number(data: bytes, rng: Random) -> bytes:
    first, last = _place(_NUMBER, data, rng)
    return data[:first] + rng.choice(_VALUES) + data[last:]


def _type(data: bytes, rng: Random) -> bytes:
    first, last = _place(rng.choice((_NUMBER, _WORD)), data, rng)
    return data[:first] + rng.choice(_OTHERS) + data[last:]


def _swap(data: bytes, rng: Random) -> bytes:
    """One word in the place of another."""
    first, last = _place(_WORD, data, rng)
    other = data[slice(*_place(_WORD, data, rng))]
    return data[:first] + other + data[last:]


def _lines(data: bytes, rng: Random) -> bytes:
    """A line, or a pair of an object, twice, away or elsewhere."""
    cut = b"\n" if data.count(b"\n") > 2 else b", "
    lines = data.split(cut)
    line, at = rng.choice(lines), rng.randrange(len(lines))
    return cut.join(rng.choice(([*lines[:at], line, *lines[at:]], lines[:at] + lines[at + 1 :], [*lines, line])))


def _key(data: bytes, rng: Random) -> bytes:
    """A word that is a little different."""
    first, last = _place(_WORD, data, rng)
    word = data[first:last]
    other = rng.choice((word.upper(), word + b"_", word.replace(b"-", b"_"), word[1:], b"-" + word))
    return data[:first] + other + data[last:]


def _nest(data: bytes, rng: Random) -> bytes:
    first, last = _place(_WORD, data, rng)
    depth = rng.choice(_DEPTHS)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(", b")")))
    return data[:first] + opening * depth + data[first:last] + closing * depth + data[last:]


def _text(data: bytes, rng: Random) -> bytes:
    first, last = _place(_WORD, data, rng)
    return data[:first] + rng.choice(_TEXTS) + data[rng.choice((first, last)) :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


_MUTATIONS: Sequence[Callable[[bytes, Random], bytes]] = (
    _number, _number, _number, _type, _type, _swap, _lines, _lines, _key, _nest, _text, _bytes, _cut,
)  # fmt: skip


def mutated(data: bytes, rng: Random) -> bytes:
    """The text with one to four things wrong."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_MUTATIONS)(data, rng)
    return data
