# SPDX-License-Identifier: Apache-2.0
"""The first word: the verbs, what people type instead of them, and what to say to anything else."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from typer.core import TyperGroup

from commbench.cli.plain_values import read_plainly
from commbench.errors import InputError

__all__ = ["VERBS", "Verbs", "option_hint"]

VERBS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "run": ("run", "run", "Measure a collective: nccl-tests' table on stdout, every sample in a journal."),
        "launch": (
            "launch",
            "launch",
            "Write what starts `commbench run ...` on a cluster: for Slurm, torchrun, MPI or Kubernetes.",
        ),
        "sim": ("sim", "sim", "Simulate COLLECTIVE on a topology, one line per size."),
        "plan": (
            "plan",
            "plan",
            "Find the strategy (TP x PP x DP, microbatch, schedule, recomputation, ZeRO) with which a step is fastest.",
        ),
        "calibrate": (
            "calibrate",
            "calibrate",
            "Fit message overhead, latency, bandwidth and reduction cost of a machine to measured runs.",
        ),
        "validate": (
            "validate",
            "validate",
            "Fit on ring at 4 ranks, every second size; predict the other sizes, the double binary tree, and 3 ranks.",
        ),
        "compare": (
            "compare",
            "compare",
            "Say by size and in total what got slower: by 5 % and three times the noise of both sides, or more (exit "
            "code 1).",
        ),
        "diagnose": (
            "diagnose",
            "diagnose",
            "Locate slow hosts, NICs, rails, links and switches; name ranks that broke or delayed a collective.",
        ),
        "doctor": (
            "doctor",
            "doctor",
            "Say what GPUs, links, NICs, limits and settings this machine has; exit code 1 if something is suspicious.",
        ),
        "import": (
            "import_log",
            "import_log",
            "Read logs of nccl-tests and rccl-tests of any release; say what is odd about them.",
        ),
        "explain": (
            "explain",
            "explain",
            "Say why B takes longer or shorter than A: terms that add up to the difference exactly.",
        ),
        "report": (
            "report",
            "report",
            "Write a page that holds everything it shows, or a table of the records, and print its path.",
        ),
        "demo": (
            "demo",
            "demo",
            "See the whole of commbench on this machine in about two minutes; the exit code judges nothing, `validate` "
            "does.",
        ),
        "topology": ("topology", "app", "List, show, draw, begin, import and export topologies."),
        "device": ("device", "app", "List and show devices: what computes in a host."),
        "algorithm": ("algorithm", "app", "List, show and verify collective algorithms, and compare them."),
        "emulate": ("emulate", "app", "Run on a fabric of network namespaces on this machine."),
    }
)
"""Every verb: the module of cli that has it, its name there, and the first line of its help, so that the list of all
verbs loads none of them."""

_ALSO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "simulate": ("sim",),
        "train": ("sim", "train"),
        "measure": ("run",),
        "bench": ("run",),
        "benchmark": ("run",),
    }
)
_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "-c": "nccl-tests' check iterations: values are checked once, after the timed loop; give --check or --no-check",
        "-t": "nccl-tests' threads: give --nproc, the ranks to start here",
    }
    | dict.fromkeys(("--nproc-per-node", "--nproc_per_node", "--ntasks"), "give --nproc, the ranks to start here")
    | dict.fromkeys(("--mbs", "--micro-batch-size", "--micro-batch"), "give --microbatch")
    | dict.fromkeys(("--gbs", "--global-batch-size", "--batch-size"), "give --global-batch")
    | dict.fromkeys(("--seq", "--seqlen", "--seq-len", "--seq-length"), "give --sequence")
    | dict.fromkeys(("--tensor-model-parallel-size", "--tensor-parallel"), "give --tp")
    | dict.fromkeys(("--pipeline-model-parallel-size", "--pipeline-parallel"), "give --pp")
    | dict.fromkeys(("--data-parallel", "--data-parallel-size"), "give --dp")
    | dict.fromkeys(("--zero-stage", "--zero_stage"), "give --zero")
    | dict.fromkeys(("--gpu", "--gpus"), "give --device for what computes, --ranks or --nproc for how many")
)
"""What people type for options: what it is, and what to give."""


def option_hint(name: str) -> str:
    """What to type instead of an option that a command has not, as ": give --microbatch"; "" if nothing is known."""
    return f": {_OPTIONS[name]}" if name in _OPTIONS else ""


class Verbs(TyperGroup):
    """The group of all verbs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What stands before the verb; the rest is left to it."""
        read_plainly(self, ctx, inner=False)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is meant.

        Raises:
            InputError: a collective stands where a verb belongs.
        """
        word = args[0]
        if word in self.commands:
            return super().resolve_command(ctx, args)
        args = [*_ALSO.get(word, (word,)), *args[1:]]
        if args[0] not in self.commands and (collective := _collective(word)):
            raise InputError(
                f"{word!r} is a collective, not a verb: give commbench run {collective}, or commbench sim {collective} "
                "--topology NAME"
            )
        return super().resolve_command(ctx, args)


def _collective(word: str) -> str:
    """The collective that a word names; "" if none."""
    from commbench.collectives.spec import get_collective

    try:
        return get_collective(word).name
    except InputError:
        return ""
