# SPDX-License-Identifier: Apache-2.0
"""Traces of torch.profiler (Kineto's Chrome JSON): kernels by stream, NCCL's with what they send.

A kernel waits for the one before it on its stream, and for what ended on another stream while its own was idle; a
kernel of NCCL also for the compute that ended last before it. What is left of a gap is the host's and stays as long as
it was. These dependencies are read from the times, for a trace names none between streams.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commbench.errors import InputError
from commbench.workload.traces.recorded import RecordedCollective, RecordedOperation, RecordedTrace

__all__ = ["read_kineto"]

_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
_KINDS = (  # how torch's names begin, once "_", "into_tensor", "base" and the like are off; the longer ones first
    ("allreduce", "all-reduce"), ("reducescatter", "reduce-scatter"), ("allgather", "all-gather"),
    ("alltoall", "all-to-all"), ("broadcast", "broadcast"), ("reduce", "reduce"), ("barrier", "barrier"),
)  # fmt: skip
_BYTES = {
    "float": 4, "float32": 4, "int": 4, "half": 2, "float16": 2, "bfloat16": 2, "double": 8, "long": 8, "int64": 8,
    "byte": 1, "char": 1, "bool": 1, "int8": 1, "uint8": 1, "int32": 4, "float64": 8, "float8_e4m3fn": 1,
    "float8_e5m2": 1, "short": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kernel:
    name: str
    stream: str
    start_ps: int
    end_ps: int
    collective: RecordedCollective | None
    sends: bool


def read_kineto(document: Mapping[str, Any], source: str) -> RecordedTrace:
    """A trace from its JSON.

    Raises:
        InputError: it has no kernels, or events that are none; names the event.
    """
    told = document.get("distributedInfo")
    told = told if isinstance(told, dict) else {}
    groups = _groups(told)
    world = told["world_size"] if type(told.get("world_size")) is int and told["world_size"] > 0 else 0
    events = [event for event in document["traceEvents"] if isinstance(event, dict)]
    found = [_kernel(event, groups, world, source) for event in events if _is_kernel(event)]
    kernels = sorted(found, key=lambda one: (one.start_ps, one.end_ps))
    if not kernels:
        raise InputError(
            f"{source}: holds no kernels of a GPU, which a step consists of: profile with ProfilerActivity.CUDA"
        )
    notes = ["it is of one rank: all others are taken to do the same at the same time, in their own groups"]
    notes.append("a collective's recorded time includes what it waited for ranks that came later")
    lost = sum(one.sends and one.collective is None for one in kernels)
    if lost:
        every = sum(one.sends for one in kernels)
        notes.append(f"{lost} of {every} kernels of NCCL say no collective with a size, and keep their recorded time")
    names = {str(event.get("name")) for event in events if str(event.get("name")).startswith("ProfilerStep#")}
    return RecordedTrace(
        source=source,
        kind="kineto",
        rank=told["rank"] if isinstance(told.get("rank"), int) else 0,
        world=world,
        operations=_operations(kernels),
        length_ps=max(one.end_ps for one in kernels) - kernels[0].start_ps,
        steps=len(names),
        notes=tuple(notes),
    )


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("ph") == "X" and event.get("cat") in _CATEGORIES


def _groups(told: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Ranks of every process group that is named."""
    config = told.get("pg_config")
    found = {}
    for one in config if isinstance(config, list) else ():
        ranks = one.get("ranks") if isinstance(one, dict) else None
        if isinstance(ranks, list) and all(type(rank) is int for rank in ranks):
            found[str(one.get("pg_name"))] = tuple(ranks)
    return found


def _kernel(event: Mapping[str, Any], groups: Mapping[str, tuple[int, ...]], world: int, source: str) -> _Kernel:
    name, given = str(event.get("name", "")), event.get("args")
    args = given if isinstance(given, dict) else {}
    try:
        start, lasts = float(event["ts"]), float(event["dur"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{source}: kernel {name[:60]!r} has no ts and dur in microseconds") from None
    if not (0 <= lasts < 1e12 and abs(start) < 1e16):
        raise InputError(f"{source}: kernel {name[:60]!r} starts at {start} us and lasts {lasts} us, which cannot be")
    begin = round(start * 1e3) * 1000  # whole nanoseconds: Kineto's own
    stream = f"stream {args.get('stream', event.get('tid'))}"
    sends = name.lower().startswith("nccl")
    collective = _collective(args, groups, world) if sends else None
    return _Kernel(name[:200], stream, begin, begin + round(lasts * 1e3) * 1000, collective, sends)


def _collective(
    args: Mapping[str, Any], groups: Mapping[str, tuple[int, ...]], world: int
) -> RecordedCollective | None:
    """What a kernel of NCCL sends; None where the trace does not say enough."""
    named = str(args.get("Collective name", "")).lower().replace("_", "")
    kind = next((kind for begins, kind in _KINDS if named.startswith(begins)), None)
    size = _BYTES.get(str(args.get("dtype", "")).lower())
    counts = [args.get("In msg nelems"), args.get("Out msg nelems")]
    if kind is None or size is None or not all(type(count) is int and 0 <= count < 2**48 for count in counts):
        return None
    group = groups.get(str(args.get("Process Group Name")), ())
    asked = args.get("Group size")
    if asked != len(group) if group else not asked or asked != world:
        return None
    elements = max(count for count in counts if isinstance(count, int))
    return RecordedCollective(kind=kind, num_elements=elements, element_bytes=size, group=group)


def _operations(kernels: Sequence[_Kernel]) -> tuple[RecordedOperation, ...]:
    """The kernels in the order of their starts, with what each waited for."""
    ends: dict[str, list[tuple[int, int]]] = {}  # of every stream: (end, number), ascending
    last: dict[str, int] = {}  # end of the last kernel of a stream
    found = []
    for number, one in enumerate(kernels):
        before = last.get(one.stream, kernels[0].start_ps)
        waits, cause = list[int](), before
        for stream, own in ends.items():
            if stream == one.stream:
                continue
            place = bisect_right(own, (one.start_ps, len(kernels))) - 1
            if place < 0:
                continue
            end, other = own[place]
            if end > before or (one.sends and not kernels[other].sends):
                waits.append(other)
                cause = max(cause, end)
        found.append(
            RecordedOperation(
                name=one.name,
                stream=one.stream,
                duration_ps=one.end_ps - one.start_ps,
                delay_ps=max(0, one.start_ps - cause),
                after=tuple(waits),
                collective=one.collective,
            )
        )
        end = max(one.end_ps, before)
        last[one.stream] = end
        ends.setdefault(one.stream, []).append((end, number))
    return tuple(found)
