# SPDX-License-Identifier: Apache-2.0
"""How much each rank has for each rank in an all-to-all-v: a matrix from a file, or one that Zipf's law makes."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from commbench.errors import InputError

__all__ = ["UnevenSizes", "zipf_weights"]

_SCALE = 10_000  # of the most popular receiver; shares are exact to a ten-thousandth of it
_MOST_ENTRY = 2**40
_STEEPEST = 10.0


@dataclass(frozen=True, slots=True)
class UnevenSizes:
    """What the options ask for; at most one of the two.

    Attributes:
        matrix: CSV file, a line for each sender with an entry for each receiver. zipf: exponent.
    """

    matrix: Path | None = None
    zipf: float | None = None

    def weights(self, collective: str, num_ranks: int) -> tuple[int, ...]:
        """Relative sizes of the pieces, row by row as a schedule has them; empty for equal ones.

        Raises:
            InputError: both are given, another collective than all-to-all-v, or a matrix that does not fit.
        """
        if self.matrix is None and self.zipf is None:
            return ()
        option = f"--matrix {self.matrix}" if self.matrix is not None else f"--zipf {self.zipf:g}"
        if self.matrix is not None and self.zipf is not None:
            raise InputError(f"{option} and --zipf {self.zipf:g}: give one of them")
        if collective != "all-to-all-v":
            raise InputError(f"{option} has no meaning for {collective}: give all-to-all-v")
        if self.matrix is not None:
            return _read(self.matrix, num_ranks)
        assert self.zipf is not None
        return zipf_weights(self.zipf, num_ranks)


def zipf_weights(exponent: float, num_ranks: int) -> tuple[int, ...]:
    """Every rank has for rank d a share in proportion to 1 / (d + 1)^exponent: rank 0 is the most popular receiver.

    As tokens that are routed to experts of unequal popularity (G. K. Zipf, "Human behavior and the principle of least
    effort", 1949); an exponent of 0 is an even exchange.

    Raises:
        InputError: an exponent that is negative, no number, or so steep that one rank gets all.
    """
    if not (isfinite(exponent) and 0 <= exponent <= _STEEPEST):
        raise InputError(f"--zipf {exponent:g} must be from 0 (even) to {_STEEPEST:g}")
    row = tuple(max(1, round(_SCALE / (receiver + 1) ** exponent)) for receiver in range(num_ranks))
    return row * num_ranks


def _read(path: Path, num_ranks: int) -> tuple[int, ...]:
    """The matrix of a file; what follows a # is a remark.

    Raises:
        InputError: names the file, the line and the rule.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--matrix {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("#")[0].strip():
            rows.append(_row(text, f"--matrix {path}, line {number}", num_ranks))
    if len(rows) != num_ranks:
        raise InputError(f"--matrix {path}: {len(rows)} lines, but {num_ranks} ranks: give one for each sender")
    if not any(map(any, rows)):
        raise InputError(f"--matrix {path}: all entries are 0, so nothing is sent")
    return tuple(entry for row in rows for entry in row)


def _row(text: str, place: str, num_ranks: int) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if len(words) != num_ranks:
        raise InputError(f"{place}: {len(words)} entries, but there are {num_ranks} ranks: give one for each receiver")
    for word in words:
        if not word.isdecimal() or int(word[:20]) > _MOST_ENTRY:
            raise InputError(f"{place}: {word!r} must be a whole number from 0 to {_MOST_ENTRY}, such as 4096")
    return tuple(map(int, words))
