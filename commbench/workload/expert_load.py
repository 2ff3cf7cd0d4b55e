# SPDX-License-Identifier: Apache-2.0
"""How tokens spread over the experts of a mixture: evenly, up to a capacity, or over an expert rank that is busiest."""

from dataclasses import dataclass

from commbench.errors import InputError

__all__ = ["EVEN", "ExpertLoad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertLoad:
    """What the experts of a rank get, to their even share.

    Attributes:
        capacity: places of an expert, to its even share of token copies; copies beyond it are dropped and places that
            stay empty are padded, so that all-to-all and products are as large on every rank (GShard, arXiv 2006.16668,
            section 2.2; Switch, arXiv 2101.03961, section 2.2). 0: none, nothing is dropped or padded.
        imbalance: copies for the busiest rank of an expert group, to its even share; the step waits for it.

    Raises:
        InputError: both, or a number out of its bounds; names option, value and rule.
    """

    capacity: float = 0.0
    imbalance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.capacity < 1e6:
            raise InputError(f"--expert-capacity {self.capacity:g}: must be above 0, such as 1.25")
        if not 1 <= self.imbalance < 1e6:
            raise InputError(f"--expert-imbalance {self.imbalance:g}: must be at least 1, the even share, such as 1.3")
        if self.capacity and self.imbalance > 1:
            raise InputError(
                f"--expert-imbalance {self.imbalance:g} and --expert-capacity {self.capacity:g}: give one of them; "
                "with a capacity every rank gets as much"
            )

    def check(self, model: str, num_experts: int, experts_per_token: int, ep: int) -> None:
        """Raise where a model's experts cannot get so much.

        Raises:
            InputError: a dense model, or more than all tokens for one expert or rank.
        """
        uneven = self.imbalance > 1
        option = f"--expert-imbalance {self.imbalance:g}" if uneven else f"--expert-capacity {self.capacity:g}"
        if self == EVEN:
            return
        if num_experts == 1:
            raise InputError(f"{option}: model {model} is dense; leave it out, or name a model with experts")
        most = num_experts / experts_per_token  # each token goes to an expert once
        if uneven and ep > 1:
            most = min(most, ep)
        if max(self.capacity, self.imbalance) > most:
            whose = f"a rank of ep {ep}" if uneven and ep > 1 else "an expert"
            raise InputError(
                f"{option}: must be at most {most:g}; {experts_per_token} of {num_experts} experts a token, and then "
                f"{whose} has every token"
            )

    def sent(self, copies: int) -> int:
        """Places for this many token copies of a rank that sends them."""
        return round(copies * self.capacity) if self.capacity else copies

    def received(self, copies: int, ep: int) -> int:
        """Places on the busiest of ``ep`` ranks where an even share is this many token copies."""
        return round(copies * self.imbalance) if ep > 1 and self.imbalance > 1 else self.sent(copies)

    @property
    def words(self) -> str:
        """What is taken of it, for people."""
        if self.capacity:
            return (
                f"experts have places for {self.capacity:g} times their even share of tokens (--expert-capacity): "
                "empty ones are computed and sent too, tokens beyond are dropped; MFU counts these as if they were not"
            )
        if self.imbalance > 1:
            return (
                f"where ep is above 1 the busiest expert rank gets {self.imbalance:g} times its even share "
                "(--expert-imbalance), and the others wait for it: every rank is simulated as that one, also on links "
                "that others share with it; with ep 1 every rank has all experts"
            )
        return "experts get even shares of the tokens, assumed; --expert-capacity or --expert-imbalance tells otherwise"


EVEN = ExpertLoad()
