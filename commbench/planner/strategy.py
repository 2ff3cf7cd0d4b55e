# SPDX-License-Identifier: Apache-2.0
"""A strategy: how the ranks share the work of a step, and how they do it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AXES", "Strategy"]

AXES = (
    "tp", "cp", "ep", "dp", "pp", "microbatch", "schedule", "stages_per_rank", "recompute", "zero", "sequence_parallel",
)  # fmt: skip
"""What a plan looks for; options of ``sim train`` by the same names, of which those that are given are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to train.

    Attributes:
        tp, cp, ep, dp, pp: parallel degrees. microbatch: sequences of one. microbatches: of every pipeline.
        schedule, stages_per_rank: of the pipeline. layers: of every stage.
        recompute, zero, sequence_parallel: as options of ``sim train``.
    """

    tp: int
    cp: int
    ep: int
    dp: int
    pp: int
    microbatch: int
    microbatches: int
    schedule: str
    stages_per_rank: int
    layers: tuple[int, ...]
    recompute: str
    zero: int
    sequence_parallel: bool

    @property
    def ranks(self) -> int:
        """GPUs that it takes."""
        return self.tp * self.cp * self.dp * self.pp

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``sim train`` that ask for it."""
        several = self.stages_per_rank > 1
        return {
            **{axis: getattr(self, axis) for axis in AXES},
            "stages_per_rank": self.stages_per_rank if several else None,
            "layers": "" if len(set(self.layers)) == 1 else ",".join(map(str, self.layers)),
            "ranks": self.ranks,
        }

    @property
    def command(self) -> str:
        """The same as words of a command line."""
        words = []
        for key, value in self.options.items():
            if value is True:
                words.append(f"--{key.replace('_', '-')}")
            elif value not in (None, False, "") and (value != _PLAIN.get(key)):
                words.append(f"--{key.replace('_', '-')} {value}")
        return " ".join(words)

    @property
    def words(self) -> str:
        """Degrees and microbatch, in short."""
        degrees = " ".join(f"{axis}{getattr(self, axis)}" for axis in AXES[:5] if getattr(self, axis) > 1) or "one rank"
        return f"{degrees} mb{self.microbatch}"

    @property
    def how(self) -> str:
        """The rest, in short: schedule with stages per rank, recomputation, ZeRO stage, sequence parallelism."""
        several = f" x{self.stages_per_rank}" if self.stages_per_rank > 1 else ""
        parts = [self.schedule.replace("interleaved-", "") + several] if self.pp > 1 else []
        parts += [self.recompute] if self.recompute != "none" else []
        parts += [f"z{self.zero}"] if self.zero else []
        return " ".join([*parts, *(["sp"] if self.sequence_parallel else [])]) or "plain"


_PLAIN: Mapping[str, object] = {
    "tp": 1, "cp": 1, "ep": 1, "pp": 1, "schedule": "1f1b", "recompute": "none", "zero": 0,
}  # fmt: skip
