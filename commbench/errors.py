# SPDX-License-Identifier: Apache-2.0
"""Every error that commbench raises on purpose.

::

    CommbenchError
    ├── InputError            exit code 2: what the user gave cannot be used
    │   ├── UnitError             a quantity without a unit, or with the wrong one
    │   ├── TopologyError         a topology that is malformed or disconnected
    │   ├── RoutingError          no route between two endpoints under this policy
    │   ├── ScheduleError         a schedule that is not the collective it claims to be
    │   ├── ResultsError          a results file that cannot be read whole
    │   └── UnknownTimeError      a library's model has no constants for this
    ├── CheckFailedError      exit code 1: it ran, and a check fell short
    └── RunError              exit code 3: a live run died, hung or could not start

A message is one line that names the place (file, key or rank), the value and the rule.
The command line turns each into that line and its exit code; libraries never exit.
"""

from collections.abc import Collection, Iterable

__all__ = [
    "CheckFailedError",
    "CommbenchError",
    "InputError",
    "ResultsError",
    "RoutingError",
    "RunError",
    "ScheduleError",
    "TopologyError",
    "UnitError",
    "UnknownTimeError",
    "did_you_mean",
    "unknown",
]


class CommbenchError(Exception):
    """Base of all errors that commbench raises on purpose."""

    exit_code = 3


class InputError(CommbenchError):
    """Something the user gave (an option, a file, a value) cannot be used."""

    exit_code = 2


class UnitError(InputError):
    """A quantity without a unit, with an unknown unit, or outside its range."""


class UnknownTimeError(InputError):
    """A size that a library's model cannot time on this class of machine; says what to measure."""


class TopologyError(InputError):
    """A topology description that breaks a rule; names file, key and value."""


class RoutingError(InputError):
    """Two endpoints that a routing policy cannot join; names both and the policy."""


class ScheduleError(InputError):
    """A schedule that does not do what its collective promises.

    Attributes:
        grid: the step-by-rank picture of the schedule with the failing place marked, or "".
    """

    def __init__(self, message: str, grid: str = "") -> None:
        super().__init__(message)
        self.grid = grid


class ResultsError(InputError):
    """A results file with a line that is not a whole record; names file and line.

    Attributes:
        num_complete: how many whole records the file holds beside the bad line.
    """

    def __init__(self, message: str, num_complete: int = 0) -> None:
        super().__init__(message)
        self.num_complete = num_complete


class CheckFailedError(CommbenchError):
    """The work was done and a threshold or correctness check fell short."""

    exit_code = 1


class RunError(CommbenchError):
    """A live run that could not start, died or hung; names the rank."""

    exit_code = 3


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """ "did you mean ring? " for the known words that are nearest to one that is not known; "" where none is near.

    Only letters and digits count, in any case: llama-2-70B is nearest to llama2-70b.
    """
    from difflib import get_close_matches

    by_letters: dict[str, str] = {}
    for one in known:
        by_letters.setdefault(_letters(one), one)
    near = [by_letters[found] for found in get_close_matches(_letters(word)[:100], by_letters, n=most, cutoff=0.65)]
    return f"did you mean {' or '.join(near)}? " if near else ""


def unknown(word: str, known: Collection[str]) -> str:
    """The end of a message on a word that is not known: "is unknown; did you mean ring? known: ring, tree"."""
    return f"is unknown; {did_you_mean(word, known)}known: {', '.join(known) or 'none'}"


def _letters(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())
