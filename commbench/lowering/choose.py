# SPDX-License-Identifier: Apache-2.0
"""Asking a library how a collective goes, each question only once."""

from dataclasses import dataclass, replace
from functools import cached_property

from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule
from commbench.collectives.traffic import Traffic, traffic_of
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.libraries.base import Choice, Layout, Library, Timing, TransferTimes, Wanted, form_of
from commbench.lowering.bounded import require_bounded
from commbench.program.operations import Collective

__all__ = ["Choices", "Chosen"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A collective as a library has it go: the choice, and its messages."""

    wanted: Wanted
    choice: Choice
    form: Rounds | Schedule

    @property
    def num_switches(self) -> int:
        """Switches that take part."""
        return self.form.num_switches if isinstance(self.form, Schedule) else 0

    @cached_property
    def traffic(self) -> tuple[Traffic, ...]:
        """Step by step."""
        return tuple(traffic_of(self.form, self.wanted.num_elements, self.wanted.element_bytes))


class Choices:
    """What a library has chosen so far.

    Args:
        library: that chooses. place: name of the fabric.
        how: the program will be run; what that would take too long is refused.
    """

    def __init__(self, library: Library, place: str, how: Run | None = None) -> None:
        self.library, self._place, self._how = library, place, how
        self._made: dict[tuple[Wanted, Layout], Chosen] = {}

    def of(self, what: Collective, layout: Layout) -> Chosen:
        """How a collective goes for ranks that sit so.

        Raises:
            InputError: the library cannot serve it, it needs one host and has more, or more than the machine has memory
                for.
        """
        wanted = Wanted(what.kind, what.num_elements, what.element_bytes, what.root)
        if (wanted, layout) not in self._made:
            self._made[wanted, layout] = self._ask(wanted, layout)
        return self._made[wanted, layout]

    @property
    def names(self) -> dict[str, str]:
        """What was chosen so far, by kind of collective: algorithms, with their protocols where there are several."""
        found: dict[str, dict[str, None]] = {}
        for (wanted, _), chosen in self._made.items():
            found.setdefault(wanted.kind, {})[f"{chosen.choice.name} {chosen.choice.protocol}".rstrip()] = None
        return {kind: ", ".join(sorted(names)) for kind, names in sorted(found.items())}

    def transfer(self, num_bytes: int, layout: Layout) -> Timing | None:
        """How long a transfer takes between two ranks that sit so; None: as long as on the wire."""
        return self.library.transfer(num_bytes, layout) if isinstance(self.library, TransferTimes) else None

    def _ask(self, wanted: Wanted, layout: Layout) -> Chosen:
        choice = self.library.choose(wanted, layout)
        if choice.timing is not None and self._how is not None and self._how.detail == "folded":
            raise InputError(
                f"library {self.library.name} has a model, whose messages are not folded: give --detail collective, or "
                "transfer"
            )
        if not isinstance(choice.algorithm, Schedule):
            if self._how is not None:  # messages at a model's pace are all made, as for a trace
                paced = choice.timing is not None and self._how.detail == "transfer"
                how = replace(self._how, keep_trace=True) if paced else self._how
                require_bounded(choice.algorithm, choice.request, how)
            if choice.algorithm.one_host and layout.num_hosts > 1:
                raise InputError(
                    f"algorithm {choice.name} needs all {len(layout.hosts)} ranks on one host of {self._place}"
                )
        return Chosen(wanted, choice, form_of(choice))
