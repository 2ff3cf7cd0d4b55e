# SPDX-License-Identifier: Apache-2.0
"""What a software stack needs of a device's memory beside weights and activations, from ``tables/memory.yaml``.

One set for each stack, every number with provenance and source; nothing in it is of a model, a cluster or a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from commbench.errors import InputError, unknown
from commbench.workload.step_costs import Constant, read_constant
from commbench.yaml_reader import read_yaml

__all__ = ["StackMemory", "memory_words", "stack_memories", "stack_memory"]

TABLE = Path(__file__).with_name("tables") / "memory.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackMemory:
    """Memory that a stack needs.

    Attributes:
        context: bytes of the CUDA context, of loaded kernels and of the workspaces of cuBLAS and the like.
        communicator: bytes of a communicator's buffers, for each kind of group that a rank sends in.
        buckets: bytes of flat buffers into which the stack copies what it sends.
        fragments: share of what is allocated that the allocator holds and nothing can use.
        loss: bytes for each logit of a microbatch while the loss is computed and its gradient.
        outputs: 1 where a stage's output is kept for every microbatch in flight, until its gradient comes back.
        root: 1 where a sharded rank keeps embedding and head gathered from forward to backward.
    """

    context: float
    communicator: float
    buckets: float
    fragments: float
    loss: float
    outputs: float
    root: float


_UNITS = {"context": "bytes", "communicator": "bytes", "buckets": "bytes"}
_KEYS = tuple(f.name for f in fields(StackMemory))


@cache
def stack_memories() -> Mapping[str, Mapping[str, Constant]]:
    """Every number of every stack with its origin, by stack and key.

    Raises:
        InputError: the table lacks a key, or has one that is unknown; names file and line.
    """
    document = read_yaml(TABLE, InputError, example="megatron: {context: 1 GiB, fragments: 0.1}")
    found: dict[str, dict[str, Constant]] = {}
    for name, given in document.data.items():
        place = f"{document.shown}, line {document.line([name])}: {name}"
        if set(given) != set(_KEYS):
            raise InputError(f"{place} has {', '.join(sorted(given))}; it must have {', '.join(_KEYS)}")
        found[name] = {key: read_constant(given[key], _UNITS.get(key, ""), f"{place}.{key}") for key in _KEYS}
    return found


def stack_memory(name: str) -> StackMemory:
    """Of a stack.

    Raises:
        InputError: nothing is known of its memory; lists the stacks of which it is.
    """
    known = stack_memories()
    if name not in known:
        raise InputError(f"memory of stack {name!r} {unknown(name, known)}")
    return StackMemory(**{key: one.value for key, one in known[name].items()})


def memory_words(name: str) -> str:
    """The numbers of a stack for people: ``key value (provenance)``."""
    numbers = stack_memories()[name].items()
    return ", ".join(f"{_WORDS.get(key, key)} {one.text} ({one.provenance})" for key, one in numbers if one.value)


_WORDS = {"fragments": "fragments' share", "loss": "bytes of each logit", "outputs": "outputs kept", "root": "root"}
