# SPDX-License-Identifier: Apache-2.0
"""Every error that commbench raises on purpose.

::

    CommbenchError
    ├── InputError            exit code 2: what the user gave cannot be used
    │   ├── UnitError             a quantity without a unit, or with the wrong one
    │   ├── TopologyError         a topology that is malformed or disconnected
    │   ├── RoutingError          no route between two endpoints under this policy
    │   ├── ScheduleError         a schedule that is not the collective it claims to be
    │   └── ResultsError          a results file that cannot be read whole
    ├── CheckFailedError      exit code 1: it ran, and a check fell short
    └── RunError              exit code 3: a live run died, hung or could not start

A message is one line that names the place (file, key or rank), the value and the rule.
The command line turns each into that line and its exit code; libraries never exit.
"""

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
]


class CommbenchError(Exception):
    """Base of all errors that commbench raises on purpose."""

    exit_code = 3


class InputError(CommbenchError):
    """Something the user gave (an option, a file, a value) cannot be used."""

    exit_code = 2


class UnitError(InputError):
    """A quantity without a unit, with an unknown unit, or outside its range."""


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
